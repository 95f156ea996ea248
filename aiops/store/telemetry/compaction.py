"""Compaction: rows of closed blocks become compressed chunks, at the idle times of the writer thread.

A block is read and encoded by ranges of series, so that memory does not grow with the number of series, and all of it
is moved in one transaction. Late samples of a block that has chunks are merged into it: the block is written anew.
The open block is packed likewise each time that its rows have come to be as many as what is packed of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.store.telemetry import chunks as chunk_rows
from aiops.store.telemetry.chunks import Chunks
from aiops.store.telemetry.codec import CODECS, Codec
from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.runs import Run
from aiops.store.telemetry.scan import Scanner, plain, values_of
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS, Partitions, table

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 2_000_000
MERGE_SAMPLES = 8
"""Late samples a series, on average, from which they are compressed at once."""
LATE_SHARE = 20
"""Late samples are merged when they are at least one in so many of their block's ..."""
LATE_AGE_MS = 600_000
"""... or so long after the first of them was found."""
OPEN_ROWS = 100_000
"""Rows of the open block from which they are packed ..."""
OPEN_QUIET_MS = 15_000
"""... once none have come to the file for so long."""


@dataclass(frozen=True, slots=True)
class _Work:
    """One closed block: the tables that hold rows of it, and whether it has chunks already."""

    block: int
    tables: tuple[str, ...]
    merges: bool


class Compaction:
    """Compacts one database. For the writer thread only. ``deleted`` is told of which day chunks went."""

    def __init__(
        self, database: TelemetryDatabase, partitions: Partitions, scanner: Scanner, deleted: Callable[[int], None]
    ) -> None:
        self._database = database
        self._partitions = partitions
        self._scanner = scanner
        self._deleted = deleted
        self._waiting: dict[int, int] = {}
        self._open_rows: dict[int, int] = {}
        self._looked_ms = 0

    def step(self, open_from: int) -> bool:
        """Compact one block before ``open_from``, where there is one that needs it; true when another may be left."""
        heads = [n for n in self._partitions.numbers("head") if n < open_from]
        if not heads and not self._partitions.numbers("samples"):
            return False
        codec = CODECS.compiled()
        if codec is None:
            return False
        with self._database.read() as con:
            work = self._next(con, heads, open_from)
            if work is None:
                return False
            made = self._encoded(con, work, codec)
        self._replace(work, made)
        return True

    def pack_open(self, open_from: int) -> bool:
        """Pack what the open blocks have gathered, where it is much; true when it was."""
        now = self._database.clock()
        if 0 <= now - self._looked_ms < OPEN_QUIET_MS or self._database.path is None:
            return False
        self._looked_ms = now
        before, self._open_rows = self._open_rows, {}
        packed = False
        for block in self._partitions.numbers("head"):
            if block < open_from or (codec := CODECS.compiled()) is None:
                continue
            with self._database.read() as con:
                row = con.execute(f"SELECT count(*) FROM {table('head', block)}").fetchone()  # noqa: S608
                rows = self._open_rows[block] = int(row[0]) if row else 0
                if rows < OPEN_ROWS or before.get(block) != rows or rows < self._closed_samples(con, block):
                    continue
                work = self._work(con, block)
                made = self._encoded(con, work, codec)
            self._replace(work, made)
            packed = True
        return packed

    def _replace(self, work: _Work, made: list[Chunks]) -> None:
        self._scanner.epoch += 1
        try:
            self._database.transaction(lambda tx: self._move(tx, work, made))
        finally:
            self._scanner.epoch += 1

    def merge(
        self, tx: Transaction, block: int, sids: NDArray[np.int32], ts: NDArray[np.int64], values: NDArray[np.float64],
        share: int = LATE_SHARE,
    ) -> bool:  # fmt: skip
        """Put samples of a block, none of them stored, into its chunks; false where rows are better.

        A load of history would make the file several times larger than its chunks, were all of it rows first.
        ``share``: merged when they are at least one in so many of those that the chunks hold.
        """
        codec = CODECS.ready
        own = np.unique(sids)
        before = self._closed_samples(tx.con, block)
        few = len(sids) < MERGE_SAMPLES * len(own) or len(sids) * share < before
        if codec is None or few or len(sids) + before > 4 * ROWS_AT_ONCE:
            return False
        day = _day(block)
        if day not in self._partitions.numbers("chunks"):
            self._new_tables(tx)
        chunks = self._partitions.ensure(tx.con, "chunks", day)
        clocks = self._partitions.ensure(tx.con, "clocks", day)
        at = (ts - block * BLOCK_MS).astype(np.int32)
        tx.con.register("late_sids", {"s": own})
        picked = " AND sid IN (SELECT s FROM late_sids)"
        for closed in chunk_rows.read(tx.con, chunks, clocks, (block, block), picked) if before else ():
            held, times, held_values = closed.rows()
            sids = np.concatenate([held, sids])
            at = np.concatenate([(times - block * BLOCK_MS).astype(np.int32), at])
            values = np.concatenate([held_values, values])
        if before:
            tx.con.execute(f"DELETE FROM {chunks} WHERE block = {block}{picked}")  # noqa: S608
            if not self._closed_samples(tx.con, block):
                tx.con.execute(f"DELETE FROM {clocks} WHERE block = {block}")  # noqa: S608
        tx.con.unregister("late_sids")
        row = tx.con.execute(f"SELECT max(clock) FROM {clocks} WHERE block = {block}").fetchone()  # noqa: S608
        first = int(row[0]) + 1 if row and row[0] is not None else 0
        made = chunk_rows.encode(block, Run.of(block * BLOCK_MS, sids, at, values), codec)
        chunk_rows.write(tx.con, chunks, clocks, made, first)
        tx.on_commit.append(lambda: self._partitions.added("chunks", day))
        tx.on_commit.append(lambda: self._partitions.added("clocks", day))
        self._deleted(day)
        return True

    def _new_tables(self, tx: Transaction) -> None:
        """Readers that see the commit before they know of its tables try again."""

        def told() -> None:
            self._scanner.epoch += 1

        if self._scanner.epoch % 2 == 0:
            self._scanner.epoch += 1
            tx.on_commit.append(lambda: tx.on_commit.append(told))
            tx.on_rollback.append(told)

    # ------------------------------------------------------------------ what is to be done

    def _next(self, con: duckdb.DuckDBPyConnection, heads: list[int], open_from: int) -> _Work | None:
        if heads:
            return self._work(con, heads[0])
        now = self._database.clock()
        for day in self._partitions.numbers("samples"):
            got = con.execute(
                f"SELECT CAST(floor(ts / {BLOCK_MS}) AS BIGINT) AS block, count(*) FROM {table('samples', day)} "  # noqa: S608
                "GROUP BY ALL ORDER BY ALL"
            ).fetchall()
            for block, late in got:
                if block >= open_from:
                    continue
                since = self._waiting.setdefault(block, now)
                if late * LATE_SHARE >= self._closed_samples(con, block) or now - since >= LATE_AGE_MS:
                    return self._work(con, block)
            if not got:
                return _Work(day * (DAY_MS // BLOCK_MS), (table("samples", day),), merges=False)
        return None

    def _work(self, con: duckdb.DuckDBPyConnection, block: int) -> _Work:
        names = tuple(self._scanner.tables(block * BLOCK_MS, (block + 1) * BLOCK_MS - 1))
        return _Work(block, names, self._closed_samples(con, block) > 0)

    def _closed_samples(self, con: duckdb.DuckDBPyConnection, block: int) -> int:
        day = _day(block)
        if con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [table("chunks", day)]).fetchone() is None:
            return 0
        row = con.execute(f"SELECT sum(n) FROM {table('chunks', day)} WHERE block = {block}").fetchone()  # noqa: S608
        return int(row[0] or 0) if row else 0

    # ------------------------------------------------------------------ encoding

    def _encoded(self, con: duckdb.DuckDBPyConnection, work: _Work, codec: Codec) -> list[Chunks]:
        within = f"ts BETWEEN {work.block * BLOCK_MS} AND {(work.block + 1) * BLOCK_MS - 1}"
        union = " UNION ALL ".join(f"SELECT sid FROM {name} WHERE {within}" for name in work.tables)  # noqa: S608
        counted = con.execute(f"SELECT sid, count(*) AS n FROM ({union}) GROUP BY sid ORDER BY sid").fetchnumpy()  # noqa: S608
        sids, counts = plain(counted["sid"]), plain(counted["n"])
        if work.merges:
            got = con.execute(
                f"SELECT sid, n FROM {table('chunks', _day(work.block))} WHERE block = {work.block}"  # noqa: S608
            ).fetchnumpy()
            sids, counts = _summed(sids, counts, plain(got["sid"]), plain(got["n"]))
        return [self._range(con, work, codec, within, low, high) for low, high in _ranges(sids, counts)]

    def _range(
        self, con: duckdb.DuckDBPyConnection, work: _Work, codec: Codec, within: str, low: int, high: int
    ) -> Chunks:
        picked = f"sid BETWEEN {low} AND {high}"
        rows = " UNION ALL ".join(
            f"SELECT sid, CAST(ts - {work.block * BLOCK_MS} AS INTEGER) AS at, val, nan FROM {name} "  # noqa: S608
            f"WHERE {within} AND {picked}"
            for name in work.tables
        )
        got = con.execute(rows).fetchnumpy()
        sid, at, values = plain(got["sid"]), plain(got["at"]), values_of(got)
        if work.merges:
            day, blocks = _day(work.block), (work.block, work.block)
            for closed in chunk_rows.read(con, table("chunks", day), table("clocks", day), blocks, f" AND {picked}"):
                held, ts, before = closed.rows()
                sid = np.concatenate([held, sid])
                at = np.concatenate([(ts - work.block * BLOCK_MS).astype(np.int32), at])
                values = np.concatenate([before, values])
        return chunk_rows.encode(work.block, Run.of(work.block * BLOCK_MS, sid, at, values), codec)

    # ------------------------------------------------------------------ moving

    def _move(self, tx: Transaction, work: _Work, made: list[Chunks]) -> None:
        day = _day(work.block)
        chunks = self._partitions.ensure(tx.con, "chunks", day)
        clocks = self._partitions.ensure(tx.con, "clocks", day)
        if work.merges:
            tx.con.execute(f"DELETE FROM {chunks} WHERE block = {work.block}")  # noqa: S608
            tx.con.execute(f"DELETE FROM {clocks} WHERE block = {work.block}")  # noqa: S608
        clock = 0
        for part in made:
            chunk_rows.write(tx.con, chunks, clocks, part, clock)
            clock += len(part.clock_counts)
        gone = []
        head, late = table("head", work.block), table("samples", day)
        if head in work.tables:
            tx.con.execute(f"DROP TABLE {head}")
            gone.append(("head", work.block))
        if late in work.tables:
            tx.con.execute(
                f"DELETE FROM {late} WHERE ts BETWEEN {work.block * BLOCK_MS} AND {(work.block + 1) * BLOCK_MS - 1}"  # noqa: S608
            )
            if tx.con.execute(f"SELECT 1 FROM {late} LIMIT 1").fetchone() is None:  # noqa: S608
                for kind in ("samples", "seen"):
                    tx.con.execute(f"DROP TABLE IF EXISTS {table(kind, day)}")
                    gone.append((kind, day))

        def committed() -> None:
            self._partitions.added("chunks", day)
            self._partitions.added("clocks", day)
            for kind, number in gone:
                self._partitions.dropped(kind, number)
            self._scanner.blocks.drop(work.block)
            self._deleted(day)
            self._waiting.pop(work.block, None)

        tx.on_commit.append(committed)


def _day(block: int) -> int:
    return block * BLOCK_MS // DAY_MS


def _summed(
    a: NDArray[np.int32], n: NDArray[np.int64], b: NDArray[np.int32], m: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    sids, at = np.unique(np.concatenate([a, b]), return_inverse=True)
    counts = np.zeros(len(sids), np.int64)
    np.add.at(counts, at, np.concatenate([n, m]))
    return sids, counts


def _ranges(sids: NDArray[np.int32], counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last series of ranges that hold about :data:`ROWS_AT_ONCE` rows each."""
    if not len(sids):
        return []
    number = (np.cumsum(counts) - counts) // ROWS_AT_ONCE
    starts = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
    ends = np.append(starts[1:], len(sids)) - 1
    return list(zip(sids[starts].tolist(), sids[ends].tolist(), strict=True))
