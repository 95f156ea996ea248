"""What samples take on the disk: a load of history is packed, the open block too, and deleted chunks are given back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aiops.core.series import SampleBlock
from aiops.store.telemetry import compaction
from aiops.store.telemetry.codec import CODECS
from aiops.store.telemetry.connection import NEW_FILE
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS
from aiops.store.telemetry.spill import LOADED_QUIET_MS
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.store.telemetry.conftest import NOW, Hands
from tests.unit.store.telemetry.test_samples import everything, metric

OPEN = NOW // BLOCK_MS
DAY = NOW // DAY_MS - 2


def counters(start_ms: int, series: int, samples: int, step_ms: int = 15_000) -> SampleBlock:
    rng = np.random.default_rng(5)
    ts = start_ms + step_ms * np.arange(samples, dtype=np.int64)
    return SampleBlock.build(
        (metric("c_total", i=str(i)), ts, np.cumsum(rng.integers(0, 50, samples)).astype(np.float64))
        for i in range(series)
    )


def put(store: TelemetryStore, block: SampleBlock) -> int:
    from aiops.core.ports import Collected

    return store.append(Collected(block)).accepted


def until(held: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not held() and time.monotonic() < deadline:
        time.sleep(0.01)
    return held()


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def dead_rows(store: TelemetryStore, day: int) -> int:
    return store._stored._vacuum._rows(day)[1]


def test_a_load_of_history_leaves_the_journal_once_it_rests(
    opened: Callable[..., TelemetryStore], clock: Hands, tmp_path: Path
) -> None:
    store = opened()
    assert CODECS.compiled(wait=True) is not None
    count = put(store, counters(DAY * DAY_MS, series=400, samples=960))
    assert store._spill.count() == count
    assert on_disk(tmp_path) > 20 * count
    time.sleep(0.6)
    assert store._spill.count() == count, "more may come"
    clock.now += LOADED_QUIET_MS + 1
    assert until(lambda: store._spill.count() == 0)
    store.database.checkpoint()
    assert on_disk(tmp_path) < 4 * count
    assert store.status().samples == count


def test_few_samples_of_history_wait_in_the_journal(opened: Callable[..., TelemetryStore], clock: Hands) -> None:
    store = opened()
    count = put(store, counters(DAY * DAY_MS, series=2, samples=100))
    time.sleep(0.6)
    clock.now += LOADED_QUIET_MS + 1
    time.sleep(0.6)
    assert store._spill.count() == count


def test_the_open_block_is_packed_as_it_grows(opened: Callable[..., TelemetryStore], clock: Hands) -> None:
    store = opened()
    assert CODECS.compiled(wait=True) is not None
    clock.now = OPEN * BLOCK_MS + BLOCK_MS - 1000
    parts = [counters(OPEN * BLOCK_MS + k * 40 * 15_000, series=440, samples=40) for k in range(6)]
    for part in parts:
        put(store, part)
        store.flush()
    before = everything(store)
    heads = store._partitions
    assert heads.numbers("head") == (OPEN,)

    def rested() -> bool:
        clock.now += compaction.OPEN_QUIET_MS + 1
        time.sleep(0.3)
        return heads.numbers("head") == ()

    assert until(rested)
    assert everything(store) == before
    assert put(store, parts[1]) == 0, "known by the chunks of the open block"
    more = counters(OPEN * BLOCK_MS + 240 * 15_000, series=440, samples=100)
    count = put(store, more)
    store.flush()
    assert heads.numbers("head") == (OPEN,)
    assert store.status().samples == 440 * 240 + count
    for _ in range(3):
        clock.now += compaction.OPEN_QUIET_MS + 1
        time.sleep(0.3)
    assert heads.numbers("head") == (OPEN,), "the rows are fewer than what is packed"
    before = everything(store)
    clock.now = (OPEN + 2) * BLOCK_MS
    assert until(lambda: heads.numbers("head") == ())
    assert everything(store) == before
    store = opened()
    assert everything(store) == before


def test_a_load_of_the_open_block_is_packed_as_it_is_taken_over(
    opened: Callable[..., TelemetryStore], clock: Hands
) -> None:
    store = opened()
    assert CODECS.compiled(wait=True) is not None
    clock.now = OPEN * BLOCK_MS + BLOCK_MS - 1000
    count = put(store, counters(OPEN * BLOCK_MS, series=440, samples=240))
    before = everything(store)
    store.flush()
    assert store._partitions.numbers("head") == ()
    assert (everything(store), store.status().samples) == (before, count)
    count += put(store, counters(OPEN * BLOCK_MS + 240 * 15_000, series=440, samples=230))
    before = everything(store)
    store.flush()
    assert store._partitions.numbers("head") == (OPEN,), "fewer than what is packed"
    assert (everything(store), store.status().samples) == (before, count)
    store = opened()
    assert (everything(store), store.status().samples) == (before, count)


def test_chunks_that_were_merged_anew_are_given_back(opened: Callable[..., TelemetryStore], clock: Hands) -> None:
    store = opened()
    assert CODECS.compiled(wait=True) is not None
    start = DAY * DAY_MS
    for part in range(4):
        put(store, counters(start + part * 100 * 15_000, series=80, samples=100))
        store.flush()
    assert dead_rows(store, DAY) > 80
    before = everything(store)

    def given_back() -> bool:
        clock.now += 60_000
        time.sleep(0.3)
        return dead_rows(store, DAY) == 0

    assert until(given_back)
    assert everything(store) == before
    store = opened()
    assert everything(store) == before
    assert dead_rows(store, DAY) == 0


def test_free_blocks_before_used_ones_are_given_back(
    opened: Callable[..., TelemetryStore], clock: Hands, tmp_path: Path
) -> None:
    store = opened()
    assert CODECS.compiled(wait=True) is not None
    for day in (DAY - 1, DAY):
        put(store, counters(day * DAY_MS, series=400, samples=2000))
        store.flush()
        store.database.checkpoint()
    before, full = everything(store), on_disk(tmp_path)
    store.database.write(lambda tx, _payloads: [store._stored.drop_before(tx, DAY * DAY_MS)], None)
    store.database.checkpoint()
    kept = {labels: [(ts, bits) for ts, bits in rows if ts >= DAY * DAY_MS] for labels, rows in before.items()}

    def smaller() -> bool:
        clock.now += 60_000
        time.sleep(0.3)
        return on_disk(tmp_path) < 0.75 * full

    assert until(smaller)
    assert everything(store) == kept
    store = opened()
    assert everything(store) == kept


def test_a_new_file_has_small_blocks(store: TelemetryStore) -> None:
    with store.database.read() as con:
        assert con.execute("SELECT block_size FROM pragma_database_size()").fetchall() == [
            (NEW_FILE["default_block_size"],)
        ]
