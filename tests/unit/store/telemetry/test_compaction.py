"""Closed blocks become chunks with nothing lost, whatever they were written by and whatever comes late."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from aiops.core.principal import LOCAL
from aiops.core.series import STALE_NAN, SampleBlock
from aiops.promql.engine import PromqlEngine
from aiops.settings import StoreSettings
from aiops.store.telemetry import compaction
from aiops.store.telemetry.codec import CODECS, PLAIN
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.promql.memory import MemoryReader
from tests.unit.store.telemetry.conftest import NOW, Hands
from tests.unit.store.telemetry.test_samples import block, everything, metric

CLOSED = NOW // BLOCK_MS * BLOCK_MS - 2 * BLOCK_MS
"""Start of a block that is closed at ``NOW``."""


def settled(store: TelemetryStore, *kinds: str) -> None:
    """Wait until the idle writer has left no table of these kinds."""
    assert CODECS.compiled(wait=True) is not None
    store.database.write(store._spill.group, None)
    deadline = time.monotonic() + 60
    while any(store._partitions.numbers(kind) for kind in kinds) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {kind: store._partitions.numbers(kind) for kind in kinds} == dict.fromkeys(kinds, ())


def seen(store: TelemetryStore) -> None:
    """Wait until the idle writer has seen that late samples are there."""
    deadline = time.monotonic() + 60
    while not store._stored._compaction._waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store._stored._compaction._waiting


def tables(path: Path) -> set[str]:
    with duckdb.connect(str(path)) as con:
        return {str(name) for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def test_rows_of_an_earlier_version_are_read_and_compacted(tmp_path: Path, clock: Hands) -> None:
    path = tmp_path / "telemetry.duckdb"
    TelemetryStore(TelemetryDatabase(path, StoreSettings(), clock)).close()
    day = CLOSED // DAY_MS
    rows: list[tuple[int, int, float | None, int | None]]
    rows = [(sid, CLOSED + k * 15_000, float(k * sid), None) for sid in (0, 1) for k in range(600)]
    rows.append((1, CLOSED + 600 * 15_000, None, int(np.float64(STALE_NAN).view(np.int64))))
    with duckdb.connect(str(path)) as con:
        con.execute("INSERT INTO series VALUES (0, ['__name__', 'i'], ['m', '0']), (1, ['__name__', 'i'], ['m', '1'])")
        for number in {ts // DAY_MS for _, ts, _, _ in rows}:
            con.execute(f"CREATE TABLE samples_{number} (sid INTEGER, ts BIGINT, val DOUBLE, nan BIGINT)")
            own = [row for row in rows if row[1] // DAY_MS == number]
            con.executemany(f"INSERT INTO samples_{number} VALUES (?, ?, ?, ?)", own)
            con.execute(f"CREATE TABLE seen_{number} (sid INTEGER, first BIGINT, last BIGINT)")
            con.execute(f"INSERT INTO seen_{number} SELECT sid, min(ts), max(ts) FROM samples_{number} GROUP BY sid")
    expected = {
        metric("m", i=str(sid)): [
            (ts, (nan or 0) if value is None else int(np.float64(value).view(np.uint64)))
            for own, ts, value, nan in rows
            if own == sid
        ]
        for sid in (0, 1)
    }
    store = TelemetryStore(TelemetryDatabase(path, StoreSettings(), clock))
    assert everything(store) == expected
    settled(store, "samples", "seen")
    assert everything(store) == expected
    assert store.status().samples == len(rows)
    store.close()
    assert f"chunks_{day}" in tables(path)
    assert not any(name.startswith(("samples_", "seen_")) for name in tables(path))
    store = TelemetryStore(TelemetryDatabase(path, StoreSettings(), clock))
    assert everything(store) == expected
    assert store.status().samples == len(rows)
    assert store.append(block((metric("m", i="1"), [CLOSED + 15_000], [1.0]))).duplicates == 1
    store.close()


@pytest.fixture
def closed(opened: Callable[..., TelemetryStore], clock: Hands) -> TelemetryStore:
    """A store with three series in a block that was compacted."""
    store = opened()
    times = [CLOSED + k * 10_000 for k in range(0, 700, 7)]
    series = [(metric("m", i=str(i)), times, [i + k / 100 for k in range(len(times))]) for i in range(3)]
    assert store.append(block(*series)).accepted == 300
    settled(store, "head", "samples")
    return store


def test_few_late_samples_wait_and_are_merged_later(
    closed: TelemetryStore, clock: Hands, opened: Callable[..., TelemetryStore]
) -> None:
    late = block(
        (metric("m", i="1"), [CLOSED + 5000, CLOSED + 75_000], [7.5, STALE_NAN]), (metric("new"), [CLOSED], [1])
    )
    before = everything(closed)
    assert closed.append(late).accepted == 3
    expected = everything(closed)
    assert sum(map(len, expected.values())) == 303
    assert [t for t, _ in expected[metric("m", i="1")][:3]] == [CLOSED, CLOSED + 5000, CLOSED + 70_000]
    assert expected[metric("m", i="0")] == before[metric("m", i="0")]
    closed.database.write(closed._spill.group, None)
    seen(closed)
    assert closed._partitions.numbers("samples")
    assert everything(closed) == expected
    assert closed.append(late).duplicates == 3
    clock.now += compaction.LATE_AGE_MS
    settled(closed, "head", "samples", "seen")
    assert everything(closed) == expected
    assert closed.append(late).duplicates == 3
    again = block((metric("m", i="1"), [CLOSED + 5000, CLOSED + 70_000, CLOSED + 75_000], [7.5, 0.0, 1.0]))
    report = closed.append(again)
    assert (report.accepted, report.duplicates, report.conflicts) == (0, 1, 2)
    assert everything(opened()) == expected


def test_a_block_is_encoded_by_ranges_of_series(
    opened: Callable[..., TelemetryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "ROWS_AT_ONCE", 50)
    store = opened()
    times = [CLOSED + k * 60_000 for k in range(40)]
    store.append(block(*((metric("m", i=str(i)), times, [float(i * k) for k in range(40)]) for i in range(9))))
    before = everything(store)
    settled(store, "head", "samples")
    with store.database.read() as con:
        (clocks,) = con.execute(f"SELECT count(*) FROM clocks_{CLOSED // DAY_MS}").fetchone() or (0,)
    assert clocks > 1
    assert everything(store) == before


def test_numpy_reads_what_was_compacted(closed: TelemetryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = everything(closed)
    monkeypatch.setattr(CODECS, "_compiled", None)
    assert CODECS.ready is None
    closed._stored.scanner.forget()
    assert everything(closed) == expected
    assert PLAIN.equal_times(np.arange(4), np.array([0, 2]), np.array([2, 4]))[0].tolist() == [0, 1]


QUERIES = (
    "sum by (i) (rate(m[5m]))", "m", "max_over_time(m[10m])", 'm{i="1"} offset 3m', "count(m)", "changes(m[20m])",
    "sum(topk(2, m))",
)  # fmt: skip


@pytest.mark.parametrize("cache_bytes", [0, 1 << 26])
def test_queries_over_open_closed_and_late_samples(opened: Callable[..., TelemetryStore], cache_bytes: int) -> None:
    """The engine over the store, part by part, against NumPy over the same samples in memory."""
    rng = np.random.default_rng(4)
    store = opened(cache_bytes=cache_bytes)
    rows = []
    for i in range(80):
        times = np.arange(CLOSED - BLOCK_MS, NOW, 30_000) + (i % 4) * 100
        values = np.cumsum(rng.integers(0, 9, len(times))).astype(float)
        values[rng.random(len(times)) < 0.01] = STALE_NAN
        values[rng.random(len(times)) < 0.01] = 0.0
        rows.append((metric("m", i=str(i)), times, values))
    late = [np.flatnonzero(rng.random(len(times)) < (0.01 if i % 3 else 0.2)) for i, (_, times, _) in enumerate(rows)]
    first = [(labels, np.delete(t, at), np.delete(v, at)) for (labels, t, v), at in zip(rows, late, strict=True)]
    store.append(block(*first))  # type: ignore[arg-type]
    settled(store, "samples")
    store.append(block(*((labels, t[at], v[at]) for (labels, t, v), at in zip(rows, late, strict=True))))  # type: ignore[arg-type]
    streamed, plain = PromqlEngine(store), PromqlEngine(MemoryReader(SampleBlock.build(rows)))
    streamed.warm(wait=True)
    for _ in range(2):
        for query in QUERIES:
            a, b = (e.range(query, CLOSED - 600_000, NOW - 60_000, 240_000, LOCAL) for e in (streamed, plain))
            assert sorted(a.block.labels) == sorted(b.block.labels)
            order = [b.block.labels.index(labels) for labels in a.block.labels]
            for i, j in enumerate(order):
                assert np.array_equal(a.block.series(i)[0], b.block.series(j)[0])
                assert np.allclose(a.block.series(i)[1], b.block.series(j)[1], rtol=1e-12, atol=0, equal_nan=True)


def test_history_goes_straight_into_chunks(opened: Callable[..., TelemetryStore], clock: Hands) -> None:
    assert CODECS.compiled(wait=True) is not None
    store = opened()
    rng = np.random.default_rng(9)
    expected: dict[object, list[tuple[int, int]]] = {}
    wanted: dict[object, list[tuple[int, int]]] = {}
    for part in range(3):
        rows = []
        for i in range(part, 6):
            times = CLOSED - BLOCK_MS + np.sort(rng.choice(8 * 60, 100, replace=False)) * 30_000 + part * 7_000 + i
            rows.append((metric("m", i=str(i)), times, np.round(rng.normal(0, 9, 100), 1)))
        assert store.append(block(*rows)).accepted == 100 * len(rows)  # type: ignore[arg-type]
        for labels, times, values in rows:
            expected.setdefault(labels, []).extend(zip(times.tolist(), values.view(np.uint64).tolist(), strict=True))
        wanted = {labels: sorted(pairs) for labels, pairs in expected.items()}
        assert everything(store) == wanted
        store.database.write(store._spill.group, None)
        assert not store._partitions.numbers("head")
        assert not store._partitions.numbers("samples")
        assert everything(store) == wanted
        assert store._stored.scanner.epoch % 2 == 0
        assert store.append(block(*rows)).duplicates == 100 * len(rows)  # type: ignore[arg-type]
    assert everything(opened()) == wanted
    assert opened().status().samples == sum(map(len, wanted.values()))
