"""Samples: idempotent append."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.core.series import SampleBlock
from aiops.store.telemetry.closed import ClosedSamples
from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.labels import SeriesIndex
from aiops.store.telemetry.rows import insert_rows
from aiops.store.telemetry.schema import BLOCK_MS, Partitions

BUFFER_ROWS = 8192
"""Inserts up to so many rows go through arrays that stay registered."""


@dataclass(slots=True)
class SampleCounts:
    """What became of one block's samples."""

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    too_new: int = 0
    too_old: int = 0


@dataclass(frozen=True, slots=True)
class _Rows:
    """Parallel arrays of samples; ``owner`` is the block that each came in."""

    sid: NDArray[np.int32]
    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    owner: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.sid)

    def take(self, which: NDArray[Any]) -> _Rows:
        return _Rows(self.sid[which], self.ts[which], self.values[which], self.owner[which])


class Samples:
    """Sample tables of one database. Writing methods are for the writer thread only."""

    def __init__(
        self, database: TelemetryDatabase, index: SeriesIndex, partitions: Partitions, closed: ClosedSamples
    ) -> None:
        self._database = database
        self._index = index
        self._partitions = partitions
        self._unsaved: list[int] = []
        self._closed = closed
        self._buffer: dict[str, NDArray[Any]] = {}
        self._buffer_of: duckdb.DuckDBPyConnection | None = None

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """The series of the file; memory may know more of them than it."""
        known = len(self._index)
        self._index.load(
            con.execute("SELECT sid, names, vals FROM series WHERE sid >= ? ORDER BY sid", [known]).fetchall()
        )
        saved = con.execute("SELECT count(*) FROM series").fetchone()
        self._unsaved[:] = range(int(saved[0]) if saved else 0, len(self._index))

    # ------------------------------------------------------------------ append

    def append(self, tx: Transaction, blocks: Sequence[SampleBlock]) -> list[SampleCounts]:
        counts = [SampleCounts() for _ in blocks]
        rows = self._gather(blocks)
        self._save_series(tx)
        if not len(rows):
            return counts
        rows = self._within_time(rows, counts)
        rows = _sorted(rows)
        rows = _first_of_equal(rows, counts)
        rows = self._not_stored_yet(tx, rows, counts)
        for owner, n in enumerate(np.bincount(rows.owner, minlength=len(blocks)).tolist()):
            counts[owner].accepted = n
        if len(rows):
            self._insert(tx, rows)
        return counts

    def _gather(self, blocks: Sequence[SampleBlock]) -> _Rows:
        sid_parts, ts_parts, value_parts, owner_parts = [], [], [], []
        for owner, block in enumerate(blocks):
            sids, new = self._index.intern(block.labels)
            self._unsaved.extend(new)
            lengths = np.diff(block.offsets)
            ts, values = block.ts, block.values
            if len(sids) > 1 and not bool(np.all(sids[1:] > sids[:-1])):
                order = np.argsort(sids, kind="stable")
                sids, starts, lengths = sids[order], block.offsets[:-1][order], lengths[order]
                ends = np.cumsum(lengths)
                gather = np.repeat(starts - (ends - lengths), lengths) + np.arange(int(lengths.sum()))
                ts, values = ts[gather], values[gather]
            sid_parts.append(np.repeat(sids, lengths))
            ts_parts.append(ts)
            value_parts.append(values)
            owner_parts.append(np.full(len(ts), owner, np.int32))
        if not sid_parts:
            return _Rows(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int32))
        return _Rows(
            np.concatenate(sid_parts),
            np.concatenate(ts_parts),
            np.concatenate(value_parts),
            np.concatenate(owner_parts),
        )

    def _save_series(self, tx: Transaction) -> None:
        if not self._unsaved:
            return
        saved = list(self._unsaved)
        pairs = [self._index.labels[sid] for sid in saved]
        tx.con.execute(
            "INSERT INTO series SELECT unnest($1::INTEGER[]), unnest($2::VARCHAR[][]), unnest($3::VARCHAR[][])",
            [saved, [[k for k, _ in p] for p in pairs], [[v for _, v in p] for p in pairs]],
        )
        tx.on_commit.append(lambda: self._unsaved.__delitem__(slice(len(saved))))

    def newest_ms(self) -> int:
        return self._database.clock() + self._database.settings.future_limit_s * 1000

    def _within_time(self, rows: _Rows, counts: list[SampleCounts]) -> _Rows:
        new, old = rows.ts > self.newest_ms(), rows.ts < self._database.oldest_ms("metrics")
        if not (new.any() or old.any()):
            return rows
        for owner, count in enumerate(counts):
            own = rows.owner == owner
            count.too_new = int(np.count_nonzero(new & own))
            count.too_old = int(np.count_nonzero(old & own))
        return rows.take(~(new | old))

    def _not_stored_yet(self, tx: Transaction, rows: _Rows, counts: list[SampleCounts]) -> _Rows:
        maybe = np.flatnonzero((rows.ts <= self._index.last[rows.sid]) & (rows.ts >= self._index.first[rows.sid]))
        if not len(maybe):
            return rows
        found, values = self._closed.stored(tx.con, rows.sid[maybe], rows.ts[maybe])
        at = maybe[found]
        if not len(at):
            return rows
        _count(counts, rows.owner[at], values[found].view(np.uint64) == rows.values[at].view(np.uint64))
        drop = np.zeros(len(rows), np.bool_)
        drop[at] = True
        return rows.take(~drop)

    def _insert(self, tx: Transaction, rows: _Rows) -> None:
        open_from = self._closed.open_from()
        scanner = self._closed.scanner
        block = rows.ts // BLOCK_MS
        numbers = np.unique(block).tolist()
        parts = [(n, rows if len(numbers) == 1 else rows.take(block == n)) for n in numbers]
        new = {n for n in numbers if n * BLOCK_MS > scanner.newest_ms}
        scanner.blocks.begin(numbers)
        tx.on_rollback.append(lambda: scanner.blocks.rollback(numbers))
        made: list[tuple[str, int]] = []
        for number, part in parts:
            if number >= open_from:
                self._write(tx, "head", number, part)
                made.append(("head", number))
        closed = rows.take(block < open_from) if numbers[0] < open_from else rows.take(np.zeros(0, np.int64))
        if len(closed):
            self._closed.add_late(tx, closed.sid, closed.ts, closed.values)

        def committed() -> None:
            for kind, number in made:
                self._partitions.added(kind, number)
            starts = np.flatnonzero(np.concatenate([[True], rows.sid[1:] != rows.sid[:-1]]))
            ends = np.append(starts[1:], len(rows)) - 1
            self._index.saw(rows.sid[starts], rows.ts[starts], rows.ts[ends])
            self._closed.count += len(rows)
            scanner.newest_ms = max(scanner.newest_ms, int(rows.ts.max()))
            scanner.blocks.commit((n, n in new, part.sid, part.ts, part.values) for n, part in parts)

        tx.on_commit.append(committed)

    def _write(self, tx: Transaction, kind: str, number: int, rows: _Rows) -> None:
        name = self._partitions.ensure(tx.con, kind, number)
        if len(rows) <= BUFFER_ROWS and not np.isnan(rows.values).any():
            self._write_few(tx, name, rows)
        else:
            insert_rows(tx.con, name, rows.sid, rows.ts, rows.values)

    def _write_few(self, tx: Transaction, name: str, rows: _Rows) -> None:
        """By arrays that stay registered: registering new ones costs a third of a small insert."""
        if self._buffer_of is not tx.con:
            self._buffer = {
                "i": np.arange(BUFFER_ROWS, dtype=np.int32),
                "sid": np.zeros(BUFFER_ROWS, np.int32),
                "ts": np.zeros(BUFFER_ROWS, np.int64),
                "val": np.zeros(BUFFER_ROWS, np.float64),
            }
            tx.con.register("few_rows", self._buffer)
            self._buffer_of = tx.con
            tx.on_rollback.append(self._forget_buffer)
        n = len(rows)
        self._buffer["sid"][:n], self._buffer["ts"][:n], self._buffer["val"][:n] = rows.sid, rows.ts, rows.values
        tx.con.execute(f"INSERT INTO {name} SELECT sid, ts, val, NULL FROM few_rows WHERE i < {n}")  # noqa: S608

    def _forget_buffer(self) -> None:
        """The registration was rolled back with its transaction."""
        self._buffer_of = None


def _sorted(rows: _Rows) -> _Rows:
    """By (series, time); of equal ones the first to arrive stays first."""
    later = rows.sid[1:] > rows.sid[:-1]
    if bool(np.all(later | ((rows.sid[1:] == rows.sid[:-1]) & (rows.ts[1:] > rows.ts[:-1])))):
        return rows
    return rows.take(np.lexsort((rows.ts, rows.sid)))


def _first_of_equal(rows: _Rows, counts: list[SampleCounts]) -> _Rows:
    if len(rows) < 2:
        return rows
    again = np.concatenate([[False], (rows.sid[1:] == rows.sid[:-1]) & (rows.ts[1:] == rows.ts[:-1])])
    if not again.any():
        return rows
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(rows))))
    bits = rows.values.view(np.uint64)
    _count(counts, rows.owner[again], (bits == bits[first])[again])
    return rows.take(~again)


def _count(counts: list[SampleCounts], owner: NDArray[np.int32], same: NDArray[np.bool_]) -> None:
    for i, n in enumerate(np.bincount(owner[same], minlength=len(counts)).tolist()):
        counts[i].duplicates += n
    for i, n in enumerate(np.bincount(owner[~same], minlength=len(counts)).tolist()):
        counts[i].conflicts += n
