"""Samples of long ago at 5 minutes and at 1 hour: lowest, highest, sum, number and last of each bucket.

A bucket is named by its end: it holds the samples of ``(end - resolution, end]``, as a PromQL window does, without
staleness markers. A day's buckets are made at an idle time, once the day is closed, and kept longer than its samples.
Samples that come late for such a day drop its rollups, which are then made again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.core.series import SampleBlock, is_stale
from aiops.store.telemetry import chunks as chunk_rows
from aiops.store.telemetry.codec import CODECS, Codec, Ints
from aiops.store.telemetry.database import FOR_EVER, TelemetryDatabase, Transaction
from aiops.store.telemetry.labels import SeriesIndex
from aiops.store.telemetry.opened import OpenedScan, Piece
from aiops.store.telemetry.runs import Run
from aiops.store.telemetry.scan import Scanner
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS, Partitions, table

log = logging.getLogger(__name__)

FIVE_MINUTES, HOUR = 300_000, 3_600_000
KINDS = {FIVE_MINUTES: "rollup5m", HOUR: "rollup1h"}
COLUMNS = ("low", "high", "total", "num", "last")
SERIES_AT_ONCE = 512
_PER_DAY = DAY_MS // BLOCK_MS


class Rollups:
    """Makes and reads rollups of one database. Making and dropping are for the writer thread."""

    def __init__(
        self, database: TelemetryDatabase, index: SeriesIndex, partitions: Partitions, scanner: Scanner
    ) -> None:
        self._database = database
        self._index = index
        self._partitions = partitions
        self._scanner = scanner
        settings = database.settings
        self._days = {FIVE_MINUTES: settings.rollup_5m_days, HOUR: settings.rollup_1h_days}

    # ------------------------------------------------------------------ making

    def step(self, closed_before: int) -> bool:
        """Make one day's rollups, where one is due; true when more may be. ``closed_before`` is a block number."""
        for resolution, kind in KINDS.items():
            day = self._due(kind, self._days[resolution], closed_before)
            if day is not None:
                codec = CODECS.compiled()
                if codec is None:
                    return False
                self._make(day, resolution, codec)
                return True
        return False

    def _due(self, kind: str, days: int, closed_before: int) -> int | None:
        """A closed day that lacks its rollups; its last bucket reaches to the next midnight."""
        if not days or self._database.path is None:
            return None
        oldest = self._database.clock() // DAY_MS - days
        heads = self._partitions.numbers("head")
        made = set(self._partitions.numbers(kind)) | set(self._partitions.numbers("samples"))
        for day in self._partitions.numbers("chunks"):
            after = (day + 1) * _PER_DAY
            if day < oldest or day in made or after >= closed_before or any(n <= after for n in heads):
                continue
            if self._unspilled_ms() > (day + 1) * DAY_MS:
                return day
        return None

    def _unspilled_ms(self) -> int:
        """The earliest sample that is not in the file yet."""
        return min((int(held.ts[:n].min()) for held, n in self._scanner.unspilled() if n), default=1 << 62)

    def _make(self, day: int, resolution: int, codec: Codec) -> None:
        kind = KINDS[resolution]

        def work(tx: Transaction) -> None:
            name = self._partitions.ensure(tx.con, kind, day)
            clocks = self._partitions.ensure(tx.con, kind + "clocks", day)
            clock = 0
            for block in self._raw(np.arange(len(self._index), dtype=np.int32), day * DAY_MS, (day + 1) * DAY_MS):
                sids, offsets, ends, columns = _reduced(block[0], block[1], resolution)
                if len(sids):
                    clock += _write(tx.con, name, clocks, day, clock, codec, sids, offsets, ends, columns)
            tx.on_commit.append(lambda: self._partitions.added(kind, day))
            tx.on_commit.append(lambda: self._partitions.added(kind + "clocks", day))

        self._database.transaction(work)

    def _raw(
        self, sids: NDArray[np.int32], after_ms: int, end_ms: int
    ) -> Iterator[tuple[NDArray[np.int32], SampleBlock]]:
        """Samples of ``(after_ms, end_ms]`` by parts of the series."""
        if end_ms <= after_ms:
            return
        for first in range(0, len(sids), SERIES_AT_ONCE):
            scan = self._scanner.read(sids[first : first + SERIES_AT_ONCE], after_ms + 1, end_ms)
            yield scan.sids, scan.samples()

    # ------------------------------------------------------------------ dropping

    def drop_days(self, tx: Transaction, days: set[int]) -> None:
        """Late samples came for these days."""
        for kind in KINDS.values():
            for day in days & set(self._partitions.numbers(kind)):
                self._drop(tx, kind, day)

    def drop_old(self, tx: Transaction) -> int:
        """Drop what is older than each resolution's own retention; returns tables dropped."""
        today, gone = self._database.clock() // DAY_MS, 0
        for resolution, kind in KINDS.items():
            for day in self._partitions.numbers(kind):
                if day < today - self._days[resolution]:
                    self._drop(tx, kind, day)
                    gone += 2
        return gone

    def drop_before(self, tx: Transaction, cutoff_ms: int) -> int:
        """Drop whole days before ``cutoff_ms``, whatever their age; returns tables dropped."""
        gone = [(kind, n) for kind in KINDS.values() for n in self._partitions.numbers(kind)]
        gone = [(kind, n) for kind, n in gone if (n + 1) * DAY_MS <= cutoff_ms]
        for kind, day in gone:
            self._drop(tx, kind, day)
        return 2 * len(gone)

    def _drop(self, tx: Transaction, kind: str, day: int) -> None:
        for name in (kind, kind + "clocks"):
            tx.con.execute(f"DROP TABLE IF EXISTS {table(name, day)}")
            tx.on_commit.append(lambda name=name: self._partitions.dropped(name, day))  # type: ignore[misc]

    # ------------------------------------------------------------------ reading

    def raw_from_ms(self) -> int:
        """Before it buckets are all that is held; in the distant past where no buckets are older than the samples."""
        numbers = self._partitions.numbers
        raw = [n * DAY_MS for kind in ("chunks", "samples") for n in numbers(kind)[:1]]
        raw += [n * BLOCK_MS for n in numbers("head")[:1]]
        start = min(raw, default=self._database.clock())
        if not any(n * DAY_MS < start for kind in KINDS.values() for n in numbers(kind)[:1]):
            return FOR_EVER
        return min(start, self._unspilled_ms())

    def open(
        self, sids: NDArray[np.int32], after_ms: int, end_ms: int, resolution: int, column: str
    ) -> OpenedScan | None:
        """Buckets with ``after_ms < end <= end_ms``, both multiples of ``resolution``, at their ends.

        Days that have no rollups are worked out from their samples. ``None`` where no day of the window has any.
        """
        kind = KINDS[resolution]
        until = min(end_ms, self._unspilled_ms() - 1)
        made = [n for n in self._partitions.numbers(kind) if after_ms <= n * DAY_MS and (n + 1) * DAY_MS <= until]
        if not made or not len(sids):
            return None
        run = [made[0]]
        for day in made[1:]:
            if day != run[-1] + 1:
                break
            run.append(day)
        first, last = run[0] * DAY_MS, (run[-1] + 1) * DAY_MS
        for _ in range(2):
            pieces = self._filed(kind, run, sids, column)
            if pieces is not None:
                break
        else:
            return None
        before = self._worked_out(sids, after_ms, first, resolution, column)
        after = self._worked_out(sids, last, end_ms, resolution, column)
        return OpenedScan(self._index.labels, sids, [*before, *pieces, *after], after_ms + 1, end_ms)

    def _filed(self, kind: str, days: list[int], sids: NDArray[np.int32], column: str) -> list[Piece] | None:
        """``None`` where a table went meanwhile."""
        found: list[Piece] = []
        with self._database.read() as con:
            con.execute("BEGIN TRANSACTION")
            where = ""
            if len(sids) < len(self._index):
                con.register("wanted", {"w": sids})
                where = f" AND sid BETWEEN {int(sids[0])} AND {int(sids[-1])} AND sid IN (SELECT w FROM wanted)"  # noqa: S608
            names, clocks = (chunk_rows.all_of([table(k, day) for day in days]) for k in (kind, kind + "clocks"))
            try:
                found += chunk_rows.read(con, names, clocks, (days[0], days[-1]), where, column)
            except duckdb.CatalogException:
                return None
        return found

    def _worked_out(
        self, sids: NDArray[np.int32], after_ms: int, end_ms: int, resolution: int, column: str
    ) -> list[Piece]:
        found: list[Piece] = []
        for own, block in self._raw(sids, after_ms, end_ms):
            kept, offsets, ends, columns = _reduced(own, block, resolution)
            found.append(Run(0, kept, offsets[:-1], offsets[1:], ends, columns[column]))
        return found


def _reduced(
    sids: NDArray[np.int32], block: SampleBlock, resolution: int
) -> tuple[NDArray[np.int32], Ints, Ints, dict[str, NDArray[np.float64]]]:
    """Buckets of the samples: series that have any, offsets, ends of the buckets, and the columns."""
    fresh = ~is_stale(block.values)
    owner = np.repeat(np.arange(len(block)), np.diff(block.offsets))[fresh]
    values, ends = block.values[fresh], -(-block.ts[fresh] // resolution) * resolution
    if not len(values):
        return sids[:0], np.zeros(1, np.int64), ends, dict.fromkeys(COLUMNS, values)
    new = np.concatenate([[True], (owner[1:] != owner[:-1]) | (ends[1:] != ends[:-1])])
    starts = np.flatnonzero(new)
    stops = np.append(starts[1:], len(values))
    with np.errstate(all="ignore"):
        columns = {
            "low": np.fmin.reduceat(values, starts),
            "high": np.fmax.reduceat(values, starts),
            "total": np.add.reduceat(values, starts),
            "num": (stops - starts).astype(np.float64),
            "last": values[stops - 1],
        }
    owners, counts = np.unique(owner[starts], return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return sids[owners], offsets, ends[starts], columns


def _write(
    con: duckdb.DuckDBPyConnection, name: str, clocks: str, day: int, first_clock: int, codec: Codec,
    sids: NDArray[np.int32], offsets: Ints, ends: Ints, columns: dict[str, NDArray[np.float64]],
) -> int:  # fmt: skip
    """Insert one part; returns how many clocks it took."""
    run = Run(0, sids, offsets[:-1], offsets[1:], ends, columns["low"])
    coded = {column: chunk_rows.encode(day, replace(run, values=values), codec) for column, values in columns.items()}
    first = coded["low"]
    chunk_rows.write_clocks(con, clocks, first, first_clock)
    chunk_rows.write_columns(con, name, first, first_clock, [coded[column] for column in COLUMNS])
    return len(first.clock_counts)
