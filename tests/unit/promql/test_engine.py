from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.errors import QueryError
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import Matcher, MatchOp, ResultType, SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.promql.parse import inject_matchers
from aiops.promql.wire import result_data
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.promql.memory import MemoryReader

TS = np.arange(0, 600_000, 15_000, dtype=np.int64)


def block() -> SampleBlock:
    return SampleBlock.build(
        (
            labels_of({"__name__": name, "team": team, "i": str(i)}),
            TS,
            np.arange(len(TS), dtype=float) * (i + 1),
        )
        for i, (name, team) in enumerate(
            [("a", "shop"), ("a", "ops"), ("a", ""), ("b", "shop"), ("b", "ops"), ("b", "")]
        )
    )


def engine(**settings: object) -> PromqlEngine:
    return PromqlEngine(MemoryReader(block()), PromqlSettings.model_validate(settings))


def test_result_types() -> None:
    e = engine()
    assert e.instant("1 + 1", 5000, LOCAL).type is ResultType.SCALAR
    text = e.instant("'hello'", 5000, LOCAL)
    assert (text.type, text.text) == (ResultType.STRING, "hello")
    assert e.instant("a", 60_000, LOCAL).type is ResultType.VECTOR
    raw = e.instant("a[45s]", 60_000, LOCAL)
    assert raw.type is ResultType.MATRIX
    assert raw.block.series(0)[0].tolist() == [30_000, 45_000, 60_000]


def test_json_of_results() -> None:
    e = engine()
    assert result_data(e.instant("1/0", 1500, LOCAL)) == {"resultType": "scalar", "result": [1.5, "+Inf"]}
    assert result_data(e.instant("'x'", 2000, LOCAL), 2000) == {"resultType": "string", "result": [2, "x"]}
    data = result_data(e.range('a{i="0"} / 0', 0, 15_000, 15_000, LOCAL))
    assert data["result"] == [{"metric": {"team": "shop", "i": "0"}, "values": [[0, "NaN"], [15, "+Inf"]]}]


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("a * on () b", "execution"),
        ("label_replace(label_replace(a, 'i', '', '', ''), 'team', '', '', '')", "execution"),
        ("topk(NaN, a)", "execution"),
        ("label_replace(a, 'x', 'y', 'i', '(')", "execution"),
        ("nosuch(a)", "bad_data"),
    ],
)
def test_errors_have_prometheus_kinds(query: str, kind: str) -> None:
    with pytest.raises(QueryError) as caught:
        engine().instant(query, 60_000, LOCAL)
    assert caught.value.kind == kind


def test_limits() -> None:
    with pytest.raises(QueryError, match="11,000 points"):
        engine().range("a", 0, 12_000_000, 1000, LOCAL)
    with pytest.raises(QueryError, match="zero or negative"):
        engine().range("a", 0, 1000, 0, LOCAL)
    with pytest.raises(QueryError, match="before start"):
        engine().range("a", 1000, 0, 1000, LOCAL)
    with pytest.raises(QueryError, match="too many samples") as caught:
        engine(max_samples=10).range("a", 0, 600_000, 15_000, LOCAL)
    assert caught.value.kind == "execution"
    with pytest.raises(QueryError, match="too many samples"):
        engine().instant("max_over_time(a[100y:1ms])", 0, LOCAL)
    with pytest.raises(QueryError, match="timed out") as caught:
        engine(timeout_s=-1).instant("a", 0, LOCAL)
    assert caught.value.kind == "timeout"


SCOPED = Principal("key:shop", Role.VIEWER, (Matcher("team", MatchOp.EQUAL, "shop"),))


def test_scope_hides_all_else() -> None:
    e = engine()
    seen = e.instant("count({__name__=~'.+'})", 60_000, SCOPED)
    assert seen.block.values.tolist() == [2]
    assert {dict(x)["team"] for x in e.series([()], 0, 600_000, SCOPED)} == {"shop"}
    assert e.label_values("team", (), 0, 600_000, SCOPED) == ["shop"]
    assert e.label_names((), 0, 600_000, SCOPED) == ["__name__", "i", "team"]
    assert len(e.instant('{team="ops"} or a{team=""}', 60_000, SCOPED).block) == 0
    assert len(e.instant("absent(a)", 60_000, SCOPED).block) == 0


@st.composite
def queries(draw: st.DrawFn, depth: int = 2) -> str:
    plain = st.sampled_from(["a", "b", 'a{team=""}', 'b{team!="shop"}', '{__name__=~"a|b", team=~".*"}'])
    if depth == 0:
        return draw(plain)
    inner = queries(depth - 1)
    form = draw(st.integers(0, 6))
    return [
        lambda: draw(plain),
        lambda: f"({draw(inner)})",
        lambda: f"{draw(inner)} or {draw(inner)}",
        lambda: f"{draw(inner)} unless {draw(inner)}",
        lambda: f"max_over_time(({draw(inner)})[2m:30s])",
        lambda: f"-{draw(plain)}",
        lambda: f"topk(2, {draw(inner)})",
    ][form]()


@settings(max_examples=60, deadline=None)
@given(queries())
def test_injected_scope_never_widens(query: str) -> None:
    """Of a query with an injected scope, nothing outside the scope is ever read."""
    read: list[str] = []

    class Spy(MemoryReader):
        def scan(self, *args: object) -> SampleBlock:
            found = super().scan(*args)  # type: ignore[arg-type]
            read.extend(dict(labels).get("team", "") for labels in found.labels)
            return found

    scoped = inject_matchers(query, SCOPED.scope or ())
    with contextlib.suppress(QueryError):
        PromqlEngine(Spy(block())).instant(scoped, 120_000, LOCAL)
    assert set(read) <= {"shop"}


def test_one_scan_for_a_selector_used_twice() -> None:
    calls: list[tuple[int, int]] = []

    class Spy(MemoryReader):
        def scan(self, matchers: object, start_ms: int, end_ms: int, principal: object) -> SampleBlock:
            calls.append((start_ms, end_ms))
            return super().scan(matchers, start_ms, end_ms, principal)  # type: ignore[arg-type]

    PromqlEngine(Spy(block())).range("rate(a[1m]) / rate(a[5m] offset 1m)", 400_000, 500_000, 50_000, LOCAL)
    assert calls == [(40_001, 500_000)]


def test_over_the_telemetry_store() -> None:
    database = TelemetryDatabase(None, StoreSettings())
    store = TelemetryStore(database)
    store.append(Collected(samples=block()))
    try:
        result = PromqlEngine(store).range("sum by (team) (rate(a[1m]))", 60_000, 120_000, 30_000, LOCAL)
        assert [dict(x).get("team", "") for x in result.block.labels] == ["", "ops", "shop"]
        assert math.isclose(float(result.block.series(2)[1][0]), 1 / 15)
        assert PromqlEngine(store).instant("count(b)", 60_000, SCOPED).block.values.tolist() == [1]
    finally:
        store.close()
