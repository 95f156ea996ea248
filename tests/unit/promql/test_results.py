"""Kept answers never differ from fresh ones, whatever is written, comes late or is dropped between two queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.ports import Collected
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import Matcher, MatchOp, QueryResult, SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.promql.parse import parse
from aiops.promql.results import reach_ms
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.changes import EVERYTHING_MS, MOST, NOTHING_MS, ChangeLog
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_790_000_000_000
MINUTE = 60_000
QUERIES = (
    "m", "sum by (g) (rate(m[3m]))", "topk(1, m)", "m offset -2m", "max_over_time(m[5m:1m])", "m > 5", "count(m)",
    "absent(m{i='0'})", "label_replace(m, 'i', 'x', 'g', '1')", "vector(time())", "m @ start()", "start()", "-m",
    "sum(m offset -1m) / sum(rate(m[2m] offset -3m))",
)  # fmt: skip


def content(result: QueryResult) -> list[tuple[object, list[int], list[str]]]:
    return [
        (labels, result.block.series(i)[0].tolist(), list(map(repr, result.block.series(i)[1].tolist())))
        for i, labels in enumerate(result.block.labels)
    ]


def append(store: TelemetryStore, samples: list[tuple[int, int, float]]) -> None:
    rows = [(labels_of({"__name__": "m", "i": str(i), "g": str(i % 2)}), [NOW - t], [v]) for i, t, v in samples]
    store.append(Collected(samples=SampleBlock.build(rows)))


@pytest.fixture
def store() -> Iterator[TelemetryStore]:
    held = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW))
    yield held
    held.close()


samples = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 60).map(lambda k: k * 20_000), st.integers(0, 9).map(float)), max_size=8
)
window = st.tuples(st.integers(0, 20), st.integers(0, 20))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(samples, window, st.sampled_from(QUERIES)), min_size=1, max_size=8),
    st.sampled_from([MINUTE, 90_000]),
    st.integers(0, 1),
)
def test_kept_answers_equal_fresh_ones(
    steps: list[tuple[list[tuple[int, int, float]], tuple[int, int], str]], step_ms: int, phase: int
) -> None:
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW))
    try:
        keeping = PromqlEngine(store)
        fresh = PromqlEngine(store, PromqlSettings(result_cache_bytes=0))
        for written, (a, b), query in steps:
            append(store, written)
            start, end = NOW - max(a, b) * step_ms - phase * 500, NOW - min(a, b) * step_ms - phase * 500
            for engine in (keeping, keeping.limited(afresh=True)):
                outcomes = []
                for e in (engine, fresh):
                    try:
                        outcomes.append(content(e.range(query, start, end, step_ms, LOCAL)))
                    except Exception as error:  # noqa: BLE001 - both fail alike
                        outcomes.append([(str(error), [], [])])
                assert outcomes[0] == outcomes[1]
    finally:
        store.close()


def read_of(engine: PromqlEngine, query: str, start: int, end: int, who: Principal = LOCAL) -> int:
    return engine.range(query, start, end, MINUTE, who).samples_read


def test_only_new_and_changed_steps_are_evaluated(store: TelemetryStore) -> None:
    engine = PromqlEngine(store)
    append(store, [(i, k * MINUTE, float(k)) for i in range(4) for k in range(60)])
    whole = read_of(engine, "m", NOW - 50 * MINUTE, NOW - 10 * MINUTE)
    assert whole > 100
    assert read_of(engine, "m", NOW - 50 * MINUTE, NOW - 10 * MINUTE) == 0
    assert read_of(engine, "m", NOW - 30 * MINUTE, NOW - 20 * MINUTE) == 0
    assert read_of(engine.limited(afresh=True), "m", NOW - 50 * MINUTE, NOW - 10 * MINUTE) == whole
    assert 0 < read_of(engine, "m", NOW - 50 * MINUTE, NOW - 9 * MINUTE) < whole / 3
    assert read_of(engine, "m", NOW - 50 * MINUTE + 1, NOW - 10 * MINUTE) > 0.9 * whole  # another phase
    scoped = Principal("one", Role.VIEWER, (Matcher("g", MatchOp.EQUAL, "1"),))
    assert 0 < read_of(engine, "m", NOW - 50 * MINUTE, NOW - 10 * MINUTE, scoped) < whole
    append(store, [(0, 20 * MINUTE + 500, 1.0)])
    assert 0 < read_of(engine, "m", NOW - 50 * MINUTE, NOW - 10 * MINUTE) < whole
    store._stored.scanner.forget()
    assert read_of(engine, "m", NOW - 50 * MINUTE, NOW - 10 * MINUTE) >= whole


def test_answers_with_notes_are_not_kept(store: TelemetryStore) -> None:
    engine = PromqlEngine(store)
    append(store, [(0, k * MINUTE, float(k)) for k in range(20)])
    for _ in range(2):
        result = engine.range("rate(m[5m])", NOW - 10 * MINUTE, NOW, MINUTE, LOCAL)
        assert result.infos
        assert result.samples_read


def test_the_budget_of_kept_answers_holds(store: TelemetryStore) -> None:
    engine = PromqlEngine(store, PromqlSettings(result_cache_bytes=20_000))
    append(store, [(0, k * MINUTE, float(k)) for k in range(60)])
    for k in range(30):
        engine.range(f"m + {k}", NOW - 50 * MINUTE, NOW, MINUTE, LOCAL)
    assert engine._kept is not None
    assert 0 < engine._kept._size <= 20_000


@pytest.mark.parametrize(
    ("query", "reach"),
    [("m", 0), ("m offset 5m", 0), ("m offset -5m", 300_000), ("m @ 5", None), ("end()", None),
     ("max_over_time((m offset -1m)[5m:1m] offset -2m)", 180_000), ("rate(m[5m] @ end())", None)],
)  # fmt: skip
def test_how_far_a_step_looks_ahead(query: str, reach: int | None) -> None:
    assert reach_ms(parse(query, experimental=True)) == reach


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=60), st.integers(0, 60))
def test_changes_since_a_version(lows: list[int], version: int) -> None:
    log = ChangeLog()
    for low in lows:
        log.record(low)
    assert log.version == len(lows)
    assert log.since(version) == min(lows[version:], default=NOTHING_MS)


def test_a_long_log_of_changes_only_gets_coarser() -> None:
    log = ChangeLog()
    for low in range(3 * MOST):
        log.record(low)
    assert len(log._lows) <= MOST + 1
    for version in range(0, 3 * MOST, 97):
        assert log.since(version) <= version
    for version in range(3 * MOST - MOST // 2, 3 * MOST):
        assert log.since(version) == version
    log.record(EVERYTHING_MS)
    assert log.since(3 * MOST) == EVERYTHING_MS
    assert np.all(np.diff(log._versions) > 0)
