"""The same queries, by the same code path, of our store, a real Prometheus and a real VictoriaMetrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from aiops.core.errors import QueryError, TransientError
from aiops.core.plugins import build
from aiops.core.ports import Collected, MetricQuerier, PluginContext
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import Matcher, MatchOp, SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.promql.limits import Limitable
from aiops.promql.parse import inject_matchers
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration.promql_worlds import remote_write
from tests.integration.servers import start_prometheus, start_victoria_metrics
from tests.integration.test_promql_prometheus import differences

pytestmark = [pytest.mark.server("prometheus"), pytest.mark.server("victoria-metrics")]
START = 1_700_000_100_000
COUNT = 120
NOW = START + COUNT * 15_000 - 8_000
SHOP = Principal("shop", Role.VIEWER, (Matcher("team", MatchOp.EQUAL, "shop"),))
ANY = Principal("any", Role.VIEWER, (Matcher("team", MatchOp.REGEX, "s.*|"),))
# What VictoriaMetrics means by these is what Prometheus means: nothing is extrapolated, no name kept, no scalar.
QUERIES = (
    "g", 'g{host="h1"}', 'g{host=~"h[12]"} * 2', "sum by (team) (g)", "count(g)", "max without (host) (g)",
    "g > 30", "sum(g) / count(g)", "topk(1, g)", "quantile(0.5, g)", "abs(-g)", "vector(1)",
    "g + on (team, host) g", "sort_desc(g)", "sgn(g - 30)", 'label_replace(g, "x", "$1", "host", "h(.)")',
)  # fmt: skip


def block() -> SampleBlock:
    rng = np.random.default_rng(1)
    rows = []
    for team in ("shop", "bank"):
        for number in range(3):
            ts = START + np.arange(COUNT, dtype=np.int64) * 15_000 + 3_000
            rows.append(
                (
                    labels_of({"__name__": "g", "team": team, "host": f"h{number}"}),
                    ts,
                    np.round(rng.normal(30, 9, COUNT), 2),
                )
            )
    ts = START + np.arange(COUNT, dtype=np.int64) * 15_000 + 3_000
    rows.append((labels_of({"__name__": "g", "host": "h9"}), ts, np.full(COUNT, 5.0)))
    return SampleBlock.build(rows)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, MetricQuerier]]:
    folder = tmp_path_factory.mktemp("remote")
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings()))
    servers = [start_prometheus(folder), start_victoria_metrics(folder)]
    sources: list[Any] = []
    try:
        store.append(Collected(samples=block()))
        for server in servers:
            remote_write(server.url, block())
            context = PluginContext("remote", lambda: NOW, inject_matchers=inject_matchers)
            sources.append(build("connectors.telemetry", "prometheus", {"url": server.url}, context))
        httpx.get(f"{servers[1].url}/internal/force_flush", trust_env=False).raise_for_status()
        yield {"ours": PromqlEngine(store), "prometheus": sources[0], "victoria-metrics": sources[1]}
    finally:
        for source in sources:
            source.close()
        for server in servers:
            server.stop()
        store.close()


REMOTE = ("prometheus", "victoria-metrics")


@pytest.mark.parametrize("who", [LOCAL, SHOP, ANY], ids=["all", "one team", "a regex"])
@pytest.mark.parametrize("remote", REMOTE)
def test_same_answers_within_the_same_scope(places: dict[str, MetricQuerier], remote: str, who: Principal) -> None:
    ours, theirs = places["ours"], places[remote]
    wrong = {}
    for query in QUERIES:
        got = theirs.instant(query, NOW, who)
        if why := differences(ours.instant(query, NOW, who), got):
            wrong[query] = why
        start = START + 607_000
        spread = theirs.range(query, start, start + 600_000, 60_000, who)
        if why := differences(ours.range(query, start, start + 600_000, 60_000, who), spread):
            wrong[f"{query} as a range"] = why
    assert not wrong


@pytest.mark.parametrize("remote", REMOTE)
def test_same_names_within_the_same_scope(places: dict[str, MetricQuerier], remote: str) -> None:
    ours, theirs = places["ours"], places[remote]
    by_host = [(Matcher("host", MatchOp.REGEX, "h[019]"),)]
    for who in (LOCAL, SHOP, ANY):
        for selectors in ((), by_host):
            found = ours.series(selectors, START, NOW, who)
            assert theirs.series(selectors, START, NOW, who) == found
            assert len(found) == {"any": 2 if selectors else 3, "shop": 2 if selectors else 3}.get(
                who.name, 5 if selectors else 7
            )
            assert theirs.label_values("host", selectors, START, NOW, who) == ours.label_values(
                "host", selectors, START, NOW, who
            )
            assert theirs.label_names(selectors, START, NOW, who) == ours.label_names(selectors, START, NOW, who)


@pytest.mark.parametrize("remote", REMOTE)
def test_errors_keep_the_words_of_the_server(places: dict[str, MetricQuerier], remote: str) -> None:
    words = {"prometheus": "unclosed left parenthesis", "victoria-metrics": "singleExpr: unexpected token"}
    with pytest.raises(QueryError, match=words[remote]):
        places[remote].instant("sum(", NOW, LOCAL)
    with pytest.raises(QueryError):
        places[remote].instant("g + on (team) g", NOW, LOCAL)


def test_limits_of_one_request_reach_the_server(places: dict[str, MetricQuerier]) -> None:
    source = places["prometheus"]
    assert isinstance(source, Limitable)
    heavy = "max_over_time(max_over_time(max_over_time(g[20m:1s])[20m:1s])[20m:1s])"
    with pytest.raises((QueryError, TransientError), match="timed out|timeout|did not answer"):
        source.limited(timeout_s=0.05).range(heavy, START, NOW, 15_000, LOCAL)
