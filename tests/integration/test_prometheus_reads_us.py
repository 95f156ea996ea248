"""A real Prometheus reads from us: by remote read, and by federation with staleness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiops.core.ports import Collected, system_clock
from aiops.core.principal import LOCAL
from aiops.core.series import STALE_NAN, SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.settings import PromqlSettings, Settings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration import servers
from tests.unit.ingest.app import app_over, serving

A = labels_of({"__name__": "a_total", "zone": 'q"\\u', "job": "own"})
B = labels_of({"__name__": "a_total", "zone": "b", "job": "own"})


@pytest.fixture
def house(tmp_path: Path) -> Iterator[tuple[TelemetryStore, str]]:
    settings = Settings()
    store = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", settings.store))
    with serving(app_over(store, settings, system_clock)) as url:
        yield store, url
    store.close()


def prometheus(tmp_path: Path, config: str) -> servers.Server:
    (tmp_path / "p.yml").write_text(config)
    port = servers.free_port()
    arguments = [
        f"--config.file={tmp_path}/p.yml", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    return servers.start("prometheus", arguments, port, "/-/ready", tmp_path / "prometheus.log")


def ask(server: servers.Server, path: str = "query", **parameters: Any) -> list[dict[str, Any]]:
    answer = httpx.get(f"{server.url}/api/v1/{path}", params=parameters, trust_env=False).json()
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing within the limit"
        time.sleep(0.1)


def test_it_evaluates_queries_over_our_samples(tmp_path: Path, house: tuple[TelemetryStore, str]) -> None:
    store, url = house
    now = system_clock()
    ts = [now - 15_000 * (40 - i) for i in range(40)]
    rows = [(A, ts, [float(i) for i in range(40)]), (B, ts[:-3], [*(2.0 * i for i in range(36)), STALE_NAN])]
    store.append(Collected(samples=SampleBlock.build(rows)))
    server = prometheus(
        tmp_path, f"global: {{scrape_interval: 1h}}\nremote_read: [{{url: '{url}/api/v1/read', read_recent: true}}]\n"
    )
    try:
        at = now / 1000
        assert {r["metric"]["zone"]: float(r["value"][1]) for r in ask(server, query="a_total", time=at)} == {
            'q"\\u': 39.0
        }
        engine = PromqlEngine(store, PromqlSettings())
        for query in ("sum by (zone) (rate(a_total[5m]))", "max_over_time(a_total[2m])", 'a_total{zone=~"b|c"}'):
            block = engine.instant(query, now, LOCAL).block
            ours = {dict(labels)["zone"]: v for labels, v in zip(block.labels, block.values.tolist(), strict=True)}
            theirs = {r["metric"]["zone"]: float(r["value"][1]) for r in ask(server, query=query, time=at)}
            assert theirs == pytest.approx(ours, rel=1e-9)
        (counted,) = ask(server, query='count_over_time(a_total{zone="b"}[1h])', time=at)
        assert counted["value"][1] == "36"
        matrix = ask(server, "query_range", query="a_total", start=at - 300, end=at, step=15)
        assert {r["metric"]["zone"]: len(r["values"]) for r in matrix} == {'q"\\u': 21, "b": 16}
    finally:
        server.stop()


def test_it_federates_samples_with_their_times_and_their_end(tmp_path: Path, house: tuple[TelemetryStore, str]) -> None:
    store, url = house
    at = system_clock() - 20_000
    store.append(Collected(samples=SampleBlock.at(at, [(A, 1.5), (B, 2.5)])))
    server = prometheus(
        tmp_path,
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: f\n  honor_labels: true\n"
        "  metrics_path: /federate\n  params: {'match[]': ['{job=\"own\"}']}\n"
        f"  static_configs: [{{targets: ['{url.removeprefix('http://')}']}}]\n",
    )
    try:
        until(lambda: len(ask(server, query="a_total")) == 2)
        (times,) = ask(server, query='timestamp(a_total{zone="b"})')
        assert float(times["value"][1]) == pytest.approx(at / 1000)
        (metric,) = ask(server, query='a_total{zone!="b"}')
        assert metric["metric"] == dict(A)
        store.append(Collected(samples=SampleBlock.at(at + 1000, [(B, STALE_NAN)])))
        until(
            lambda: (
                httpx.get(f"{url}/federate", params={"match[]": "a_total"}, trust_env=False).text.count("a_total{") == 1
            )
        )
    finally:
        server.stop()
