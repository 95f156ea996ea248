"""What memory answers equals what the file answers, whatever was written, moved, read or dropped in between."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import METRIC_NAME, Matcher, MatchOp, SampleBlock, labels_of
from aiops.settings import StoreSettings
from aiops.store.telemetry.blocks import BlockCache
from aiops.store.telemetry.codec import CODECS
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.opened import OpenedScan
from aiops.store.telemetry.runs import Run
from aiops.store.telemetry.schema import BLOCK_MS
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.store.telemetry.conftest import NOW, Hands

SERIES = [labels_of({"__name__": "m", "i": str(i)}) for i in range(90)]
ALL = (Matcher(METRIC_NAME, MatchOp.EQUAL, "m"),)
START = NOW - 3 * BLOCK_MS


def sample_sets() -> st.SearchStrategy[list[tuple[int, int]]]:
    """(series, time) pairs, in any order, within five blocks."""
    pair = st.tuples(st.integers(0, 5), st.integers(0, 5 * BLOCK_MS // 60_000).map(lambda m: START + m * 60_000))
    return st.lists(pair, max_size=40, unique=True)


@settings(deadline=None)
@given(st.lists(sample_sets(), min_size=1, max_size=4), st.integers(0, 300), st.integers(0, 300))
def test_runs_are_joined_in_order(sets: list[list[tuple[int, int]]], low: int, high: int) -> None:
    seen: set[tuple[int, int]] = set()
    runs = []
    start, end = START + low * 60_000, START + high * 60_000
    for pairs in sets:
        fresh = [p for p in pairs if p not in seen]
        seen.update(fresh)
        sid = np.array([s for s, _ in fresh], np.int32)
        ts = np.array([t for _, t in fresh], np.int64)
        runs.append(Run.of(0, sid, ts, (ts * 10.0 + sid).astype(np.float64)).cut(start, end))
    wanted = np.array([1, 2, 5], np.int32)
    block = OpenedScan(SERIES, wanted, runs, start, end).block()
    expected = sorted((s, t) for s, t in seen if s in (1, 2, 5) and start <= t <= end)
    assert block.labels == tuple(SERIES[s] for s in dict.fromkeys(s for s, _ in expected))
    assert block.ts.tolist() == [t for _, t in expected]
    assert block.values.tolist() == [t * 10.0 + s for s, t in expected]


def test_series_of_equal_length_that_lie_in_different_runs() -> None:
    def run(*pairs: tuple[int, int]) -> Run:
        sid, ts = np.array([s for s, _ in pairs], np.int32), np.array([t for _, t in pairs], np.int64)
        return Run.of(0, sid, ts, ts.astype(np.float64))

    for late in range(3):
        runs = [run((0, 1)), run((0, 2), (1, 2)), run((1, 3))]
        block = OpenedScan(SERIES, np.array([0, 1], np.int32), runs[late:] + runs[:late], 0, 9).block()
        assert block.offsets.tolist() == [0, 2, 4]
        assert block.ts.tolist() == block.values.tolist() == [1, 2, 2, 3]


def test_series_that_have_nothing_in_a_window_do_not_come_to_share_times() -> None:
    assert CODECS.compiled(wait=True) is not None
    sid, ts = np.array([0, 1, 2], np.int32), np.array([5, 7, 5], np.int32)
    whole = Run.of(0, sid, ts, ts.astype(np.float64))
    first, second, third = whole.cut(8, 9).groups().tolist()
    assert (first == third) and first != second
    assert whole.groups().tolist() == [first, second, third]
    block = OpenedScan(SERIES, np.array([0, 1, 2], np.int32), [whole], 0, 9).block()
    assert block.ts.tolist() == block.values.tolist() == [5, 7, 5]


@pytest.mark.parametrize("per_series", [1, 30, 240])
@pytest.mark.parametrize("regular", [True, False])
def test_a_window_of_two_runs(per_series: int, regular: bool) -> None:
    rng = np.random.default_rng(3)
    sid = np.repeat(np.arange(40, dtype=np.int32), per_series)
    ts = np.tile(np.arange(per_series, dtype=np.int32) * 10, 40)
    keep = np.ones(len(sid), np.bool_) if regular else rng.random(len(sid)) < 0.9
    sid, ts = sid[keep], ts[keep]
    values = rng.random(len(sid))
    runs = [Run.of(1000, sid, ts, values), Run.of(9000, sid, ts, values + 1)]
    high = 9000 + per_series * 5
    for wanted in (np.arange(40, dtype=np.int32), np.array([3, 4, 39, 77], np.int32)):
        block = OpenedScan(SERIES, wanted, [run.cut(1010, high) for run in runs], 1010, high).block()
        rows = [(s, 1000 + t, v) for s, t, v in zip(sid.tolist(), ts.tolist(), values.tolist(), strict=True)]
        rows += [(s, t + 8000, v + 1) for s, t, v in rows]
        rows = sorted(r for r in rows if r[0] in wanted and 1010 <= r[1] <= high)
        assert block.ts.tolist() == [t for _, t, _ in rows]
        assert block.values.tolist() == [v for _, _, v in rows]


def append(store: TelemetryStore, pairs: list[tuple[int, int]], bias: float = 0.0) -> None:
    rows = [(SERIES[s], [t], [t / 1000 + s + bias]) for s, t in pairs]
    store.append(Collected(samples=SampleBlock.build(rows)))


def content(store: TelemetryStore, start: int, end: int, few: bool) -> list[tuple[object, list[int], list[float]]]:
    matchers = (*ALL, Matcher("i", MatchOp.EQUAL, "3")) if few else ALL
    block = store.scan(matchers, start, end, LOCAL)
    found: list[tuple[object, list[int], list[float]]] = []
    for i, labels in enumerate(block.labels):
        ts, values = block.series(i)
        found.append((labels, ts.tolist(), values.tolist()))
    return found


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_memory_and_file_agree(data: st.DataObject) -> None:
    """The same work on a store with memory and on one without; the clock moves, so that blocks close and move."""
    clock = Hands()
    with tempfile.TemporaryDirectory() as folder:
        stores = []
        for size in (0, data.draw(st.sampled_from([40_000, 1 << 26]))):
            chosen = StoreSettings(cache_bytes=size, retention_days=1)
            stores.append(TelemetryStore(TelemetryDatabase(Path(folder) / f"{size}.duckdb", chosen, clock)))
        append_all = [(s, START + s) for s in range(70)]
        for store in stores:
            append(store, append_all)
        for step in range(data.draw(st.integers(2, 5))):
            pairs = data.draw(sample_sets())
            move = data.draw(st.sampled_from([0, BLOCK_MS // 2, BLOCK_MS, 12 * BLOCK_MS]))
            low, high = sorted((data.draw(st.integers(-20, 400)), data.draw(st.integers(-20, 400))))
            for store in stores:
                append(store, pairs, step / 8)
            clock.now += move
            for store in stores:
                store.apply_retention()
            for few in (False, True):
                window = (START + low * 60_000, START + high * 60_000)
                assert content(stores[0], *window, few) == content(stores[1], *window, few)
                assert content(stores[0], 0, 1 << 60, few) == content(stores[1], 0, 1 << 60, few)
        clock.now += 2 * BLOCK_MS
        for store in stores:
            compacted(store)
        for few in (False, True):
            assert content(stores[0], 0, 1 << 60, few) == content(stores[1], 0, 1 << 60, few)
        for store in stores:
            store.close()


def compacted(store: TelemetryStore) -> None:
    """Wait until the idle writer has moved all blocks, which have closed."""
    deadline = time.monotonic() + 60
    while store._partitions.numbers("head") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not store._partitions.numbers("head")


def test_open_blocks_are_in_memory_again_after_a_start(opened: Callable[..., TelemetryStore]) -> None:
    first = opened()
    append(first, [(s, NOW - 1000 * s) for s in range(5)])
    before = content(first, 0, 1 << 60, few=True)
    second = opened()
    deadline = time.monotonic() + 60
    while not second._stored.scanner.blocks.holds(NOW // BLOCK_MS) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert second._stored.scanner.blocks.holds(NOW // BLOCK_MS)
    append(second, [(3, NOW)])
    after = content(second, 0, 1 << 60, few=True)
    assert before[0][1] + [NOW] == after[0][1]


def test_a_block_that_changes_while_it_is_read_is_not_kept() -> None:
    cache = BlockCache(1 << 20)
    nothing = np.empty(0, np.int32)
    run = Run.of(0, nothing, nothing, np.empty(0))
    version = cache.version(0)
    cache.begin([0])
    assert cache.version(0) == -1
    cache.put(0, version, run)
    assert not cache.holds(0)
    cache.rollback([0])
    cache.put(0, version, run)
    assert not cache.holds(0)
    cache.put(0, cache.version(0), run)
    assert cache.holds(0)


def test_the_budget_holds() -> None:
    cache = BlockCache(100_000)
    for block in range(6):
        sid = np.arange(2000, dtype=np.int32)
        cache.commit([(block, True, sid, np.full(2000, block * BLOCK_MS, np.int64), np.zeros(2000))])
        assert cache.size() <= 100_000
    assert not cache.holds(0)
    assert cache.holds(5)
