"""Samples that are stored: what is known of them, late ones, retention of their tables, and their scans.

The writing half asks :meth:`ClosedSamples.stored` whether a sample is there already, and hands late ones to
:meth:`ClosedSamples.add_late`.
"""

from __future__ import annotations

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.core.series import SampleBlock
from aiops.store.telemetry import chunks as chunk_rows
from aiops.store.telemetry.chunks import Chunks, places
from aiops.store.telemetry.compaction import Compaction
from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.labels import SeriesIndex
from aiops.store.telemetry.opened import OpenedScan
from aiops.store.telemetry.rollups import Rollups
from aiops.store.telemetry.rows import insert_rows
from aiops.store.telemetry.scan import Scanner, plain, values_of
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS, Partitions, table
from aiops.store.telemetry.vacuum import Vacuum

PACKED_ROWS = 20_000
"""So many samples of an open block are packed as they are taken over, where that doubles what is packed of it."""
GRACE_MS = 600_000
"""A block stays open this long after its end, for samples that come late."""


class ClosedSamples:
    """Stored samples of one database. ``compact``, ``add_late`` and ``drop_before`` are for the writer thread only.

    Attributes:
        count: committed samples.
        scanner: reads them; its ``blocks`` are those in memory.
        rollups: what is kept of them for longer, at 5 minutes and 1 hour.
    """

    def __init__(self, database: TelemetryDatabase, index: SeriesIndex, partitions: Partitions) -> None:
        self._database = database
        self._index = index
        self._partitions = partitions
        self.scanner = Scanner(database, index, partitions)
        self.count = 0
        self._vacuum = Vacuum(database, partitions)
        self._compaction = Compaction(database, partitions, self.scanner, self._vacuum.deleted)
        self.rollups = Rollups(database, index, partitions, self.scanner)

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Times of the series and the number of samples, from the file."""
        self.scanner.forget()
        self.count = 0
        for kind, first, last in (("chunks", "t_min", "t_max"), ("seen", "first", "last"), ("head", "ts", "ts")):
            for name in self._partitions.between(kind, -(1 << 62), 1 << 62):
                got = con.execute(f"SELECT sid, min({first}) a, max({last}) b FROM {name} GROUP BY sid").fetchnumpy()  # noqa: S608
                self._index.saw(plain(got["sid"]), plain(got["a"]), plain(got["b"]))
        for kind, counted in (("chunks", "sum(n)"), ("head", "count(*)"), ("samples", "count(*)")):
            for name in self._partitions.between(kind, -(1 << 62), 1 << 62):
                row = con.execute(f"SELECT {counted} FROM {name}").fetchone()  # noqa: S608
                self.count += int(row[0] or 0) if row else 0
        self.scanner.newest_ms = max(self.scanner.newest_ms, int(self._index.last.max(initial=-(1 << 62))))

    def open_from(self) -> int:
        """Number of the oldest block that still takes samples in arrival order."""
        return (self._database.clock() - GRACE_MS) // BLOCK_MS

    def stored(
        self, con: duckdb.DuckDBPyConnection, sids: NDArray[np.int32], ts: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which (series, time) pairs are stored, open blocks included, and their values; NaN bits are kept."""
        found, values = np.zeros(len(sids), np.bool_), np.zeros(len(sids))
        if not len(sids):
            return found, values
        before = self.scanner.epoch
        low, high = int(ts.min()), int(ts.max())
        con.register("maybe", {"i": np.arange(len(sids)), "sid": sids, "ts": ts})
        for name in self.scanner.tables(low, high):
            got = con.execute(
                f"SELECT m.i, t.val, t.nan FROM {name} t JOIN maybe m ON t.sid = m.sid AND t.ts = m.ts "  # noqa: S608
                "WHERE t.ts BETWEEN ? AND ?",
                [low, high],
            ).fetchnumpy()
            at = plain(got["i"])
            found[at] = True
            values[at] = values_of(got)
        for day in self._partitions.numbers("chunks"):
            if low // DAY_MS <= day <= high // DAY_MS:
                asked = f"SELECT DISTINCT CAST(floor(ts / {BLOCK_MS}) AS INTEGER), sid FROM maybe"  # noqa: S608
                where = f" AND (block, sid) IN ({asked})"
                blocks = low // BLOCK_MS, high // BLOCK_MS
                for closed in chunk_rows.read(con, table("chunks", day), table("clocks", day), blocks, where):
                    _look_up(closed, sids, ts, found, values)
        con.unregister("maybe")
        if before % 2 or before != self.scanner.epoch:
            raise duckdb.CatalogException("A table was moved under the read.")
        return found, values

    def add_late(
        self, tx: Transaction, sids: NDArray[np.int32], ts: NDArray[np.int64], values: NDArray[np.float64]
    ) -> None:
        """Samples of closed blocks, ordered by (series, time), none of them stored."""
        made: list[tuple[str, int]] = []
        self.rollups.drop_days(tx, set(np.unique([ts // DAY_MS, (ts - 1) // DAY_MS]).tolist()))
        block = ts // BLOCK_MS
        loose = np.ones(len(ts), np.bool_)
        for number in np.unique(block).tolist():
            own = block == number
            if self._compaction.merge(tx, number, sids[own], ts[own], values[own]):
                loose &= ~own
        if not loose.all():
            sids, ts, values = sids[loose], ts[loose], values[loose]
        day = ts // DAY_MS
        for number in np.unique(day).tolist():
            own = day == number
            sid, at = sids[own], ts[own]
            insert_rows(tx.con, self._partitions.ensure(tx.con, "samples", number), sid, at, values[own])
            starts = np.flatnonzero(np.concatenate([[True], sid[1:] != sid[:-1]]))
            ends = np.append(starts[1:], len(sid)) - 1
            name = self._partitions.ensure(tx.con, "seen", number)
            tx.con.register("rows", {"sid": sid[starts], "a": at[starts], "b": at[ends]})
            tx.con.execute(f"INSERT INTO {name} SELECT sid, a, b FROM rows")  # noqa: S608
            tx.con.unregister("rows")
            made += [("samples", number), ("seen", number)]

        def committed() -> None:
            for kind, number in made:
                self._partitions.added(kind, number)

        tx.on_commit.append(committed)

    def pack(
        self, tx: Transaction, block: int, sids: NDArray[np.int32], ts: NDArray[np.int64], values: NDArray[np.float64]
    ) -> bool:
        """Put many samples of an open block into its chunks at once, where those hold no more; false elsewhere."""
        return len(sids) >= PACKED_ROWS and self._compaction.merge(tx, block, sids, ts, values, share=1)

    # ------------------------------------------------------------------ maintenance

    def compact(self) -> bool:
        """Turn rows of one block into chunks, make a day's rollups or give space back. True when more may be to do."""
        open_from = self.open_from()
        more = self._compaction.step(open_from) or self.rollups.step(open_from) or self._compaction.pack_open(open_from)
        if not more:
            self._vacuum.step()
        return more

    def drop_before(self, tx: Transaction, cutoff_ms: int) -> int:
        """Drop whole days (and open blocks) that ended before ``cutoff_ms``; returns tables dropped."""
        gone = [(kind, n) for kind in ("samples", "seen", "chunks", "clocks") for n in self._partitions.numbers(kind)]
        gone = [(kind, n) for kind, n in gone if (n + 1) * DAY_MS <= cutoff_ms]
        gone += [("head", n) for n in self._partitions.numbers("head") if (n + 1) * BLOCK_MS <= cutoff_ms]
        bound = max(((n + 1) * (BLOCK_MS if kind == "head" else DAY_MS) for kind, n in gone), default=0)
        lost = 0
        for kind, n in gone:
            name = self._partitions.ensure(tx.con, kind, n)
            if kind in ("samples", "head", "chunks"):
                counted = "sum(n)" if kind == "chunks" else "count(*)"
                row = tx.con.execute(f"SELECT {counted} FROM {name}").fetchone()  # noqa: S608
                lost += int(row[0] or 0) if row else 0
            tx.con.execute(f"DROP TABLE {name}")

        def committed() -> None:
            for kind, n in gone:
                self._partitions.dropped(kind, n)
            self.count -= lost
            self._index.forget_before(bound)
            self.scanner.blocks.forget_before(bound // BLOCK_MS)

        old_rollups = self.rollups.drop_old(tx)
        if gone:
            self.scanner.epoch += 1
            tx.on_commit.append(committed)
            tx.on_commit.append(self._next_epoch)
            tx.on_rollback.append(self._next_epoch)
        return len(gone) + old_rollups

    def _next_epoch(self) -> None:
        self.scanner.epoch += 1

    # ------------------------------------------------------------------ scan

    def warm(self) -> bool:
        return self.scanner.warm()

    def scan(self, sids: NDArray[np.int32], start_ms: int, end_ms: int) -> SampleBlock:
        """Samples of the given series with ``start_ms <= ts <= end_ms``; series without any are left out."""
        return self.scanner.scan(sids, start_ms, end_ms)

    def open(self, sids: NDArray[np.int32], start_ms: int, end_ms: int, most: int) -> OpenedScan:
        """The same, to be decoded part by part; beyond about ``most`` samples only their number is of use."""
        return self.scanner.open(sids, start_ms, end_ms, most)


def _look_up(
    closed: Chunks,
    sids: NDArray[np.int32],
    ts: NDArray[np.int64],
    found: NDArray[np.bool_],
    values: NDArray[np.float64],
) -> None:
    """Mark the pairs that the chunks hold, and set their values."""
    asked = np.flatnonzero(ts // BLOCK_MS == closed.block)
    asked = asked[places(closed.sids, sids[asked]) >= 0]
    own = closed.only(np.unique(sids[asked]))
    held_sid, held_ts, held = own.rows()
    start = closed.block * BLOCK_MS
    keys = np.searchsorted(own.sids, held_sid).astype(np.int64) * BLOCK_MS + held_ts - start
    wanted = places(own.sids, sids[asked]) * BLOCK_MS + ts[asked] - start
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    hit = keys[at] == wanted
    found[asked[hit]], values[asked[hit]] = True, held[at[hit]]
