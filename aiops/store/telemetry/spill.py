"""The spill: hands samples that are journaled to the database file in bulk, and knows which are not there yet.

Samples gather in memory (:class:`Unspilled`). To spill, the gathered ones are sealed, the journal goes on in a new
segment, and one transaction of the database's writer thread inserts them together with the number of that segment.
A read joins the file and what it does not hold, told by that number as the read's snapshot sees it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import orjson
from numpy.typing import NDArray

from aiops.core.errors import AiopsError
from aiops.core.series import Labels
from aiops.store.telemetry.closed import ClosedSamples
from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.journal import Journal
from aiops.store.telemetry.labels import SeriesIndex
from aiops.store.telemetry.rows import insert_rows
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS, PARTITIONED, Partitions, stored_segment
from aiops.store.telemetry.unspilled import Unspilled

log = logging.getLogger(__name__)

SPILL_ROWS = 2_000_000
SPILL_AGE_MS = 300_000
LOADED_ROWS = 50_000
"""Samples of closed blocks from which a load of history is handed over ..."""
LOADED_QUIET_MS = 2_000
"""... once nothing has come for so long."""
BACKLOG_ROWS = 4 * SPILL_ROWS
"""Samples held in memory at most when the database cannot take them over."""
SID_KINDS = tuple(kind for kind, columns in PARTITIONED.items() if "sid INTEGER" in columns)
RAW_KINDS = tuple(kind for kind in SID_KINDS if not kind.startswith("rollup"))


class Spill:
    """What is not in the file yet, for one database.

    Attributes:
        active: takes new samples; only the head's thread writes to it, holding ``lock``.
        sealed: on their way into the file.
        journaled: series that the journal or the file holds.
        lock: held by the head over a group, and here while sealing.
    """

    def __init__(
        self, database: TelemetryDatabase, index: SeriesIndex, partitions: Partitions, closed: ClosedSamples,
        journal: Journal | None,
    ) -> None:  # fmt: skip
        self._database = database
        self._index = index
        self._partitions = partitions
        self._closed = closed
        self._journal = journal
        self.active = Unspilled()
        self.sealed: list[Unspilled] = []
        self.journaled = 0
        self.lock = threading.RLock()
        self._seals = 0
        self._since_ms = 0
        self._grown = (0, 0)
        self._posted = False
        self._loaded = False
        self._saved = 0

    # ------------------------------------------------------------------ opening

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Series of the file, and at first what the journal holds. Before the times of the file are loaded."""
        with self.lock:
            known = len(self._index)
            self._index.load(
                con.execute("SELECT sid, names, vals FROM series WHERE sid >= ? ORDER BY sid", [known]).fetchall()
            )
            saved = con.execute("SELECT coalesce(max(sid) + 1, 0) FROM series").fetchone()
            self._saved = int(saved[0]) if saved else 0
            segment = stored_segment(con)
            self.sealed = [held for held in self.sealed if held.segment is None or held.segment > segment]
            if self._journal is not None and not self._loaded:
                self._replay(self._journal, segment)
            self._loaded = True
            self.journaled = len(self._index)

    def _replay(self, journal: Journal, first: int) -> None:
        lost = 0
        for frame in journal.replay(first):
            for sid, labels in frame.series:
                self._index.put(sid, labels)
            known = frame.sid < len(self._index)
            lost += int(np.count_nonzero(~known))
            self.active.add(frame.sid[known], frame.ts[known], frame.values[known])
        if lost:
            log.error("%d samples of the journal belong to series that were lost with a damaged record.", lost)
        self.active.drop_repeated()
        self.active.commit()
        self._since_ms = self._database.clock()
        if self.active.count:
            log.info("%d samples were taken from the journal.", self.active.count)

    def settle_index(self) -> None:
        """Times of the series, once those of the file are loaded."""
        index = self._index
        with self.lock:
            index.stored[:] = index.last
            for held in (*self.sealed, self.active):
                sid, ts = held.sid[: held.count], held.ts[: held.count]
                index.saw(sid, ts, ts)
                if held.count:
                    self._closed.scanner.newest_ms = max(self._closed.scanner.newest_ms, int(ts.max()))
            index.claimed[:] = index.last
            index.count_gone()

    # ------------------------------------------------------------------ for the head and for readers

    def grew(self) -> None:
        """The head has committed to ``active``: ask for a spill when it is large. Holding the lock."""
        if not self._since_ms:
            self._since_ms = self._database.clock()
        if self.active.count >= SPILL_ROWS and not self._posted:
            self._posted = True
            self._database.post(self.group, None)

    def count(self) -> int:
        """Committed samples that the database file does not hold."""
        return self.active.count + sum(held.count for held in self.sealed)

    def journal_bytes(self) -> int:
        return self._journal.bytes_on_disk() if self._journal is not None else 0

    def unspilled(self) -> list[tuple[Unspilled, int]]:
        """What a read has to join to the file, with the number of rows: to be asked before the file is read."""
        active = self.active  # first: once it is sealed, it is found among the others
        sealed = [held for held in self.sealed if held is not active]
        return [(held, held.count) for held in (*sealed, active) if held.count]

    def flush(self) -> None:
        """Spill all and wait for it; what cannot be spilled stays in the journal."""
        try:
            self._database.write(self.group, None, frees=True)
        except AiopsError as error:
            log.warning("The newest samples stay in the journal: %s", error)

    # ------------------------------------------------------------------ on the database's writer thread

    def tidy(self) -> bool:
        """Spill when it is time. For the idle writer thread."""
        count = self.count()
        if not count and self._saved == len(self._index):
            return False
        old = self._database.clock() - self._since_ms >= SPILL_AGE_MS
        heads = self._partitions.numbers("head")
        closing = bool(heads) and heads[0] < self._closed.open_from()
        if count >= SPILL_ROWS or (count and (old or closing or self._loaded_history())):
            self._database.transaction(self.spill)
        return False

    def _loaded_history(self) -> bool:
        """Whether a load of closed blocks has ended: it need not wait in the journal, where it takes most room."""
        active, now = self.active, self._database.clock()
        count, (before, since_ms) = active.count, self._grown
        if count != before or now < since_ms:
            self._grown = (count, now)
            return False
        if count < LOADED_ROWS or now - since_ms < LOADED_QUIET_MS:
            return False
        self._grown = (count, since_ms + SPILL_AGE_MS)  # looked at once
        return int(np.count_nonzero(active.ts[:count] < self._closed.open_from() * BLOCK_MS)) >= LOADED_ROWS

    def group(self, tx: Transaction, payloads: list[None]) -> list[int]:
        return [self.spill(tx)] * len(payloads)

    def spill(self, tx: Transaction) -> int:
        """Hand all that is committed to the database, in its transaction; returns how many samples."""
        with self.lock:
            self._posted = False
            series = self._index.labels[self._saved :]
            if self.active.count:
                self._seals += 1
                self.active.segment = self._journal.rotate() if self._journal is not None else self._seals
                self.sealed.append(self.active)
                self.active.last = self._index.last[: len(self._index)].copy()
                self.active = Unspilled()
                self._since_ms = 0
            sealed = list(self.sealed)
        first = self._saved
        if series:
            save_series(tx, first, series)
            tx.on_commit.append(lambda: self._series_saved(first + len(series)))
        if sealed:
            made = self._insert(tx, sealed)
            tx.con.execute("DELETE FROM journal")
            tx.con.execute("INSERT INTO journal VALUES (?)", [sealed[-1].segment])

            def committed() -> None:
                for kind, number in made:
                    self._partitions.added(kind, number)
                self._spilled(sealed)

            tx.on_commit.append(committed)
        return sum(held.count for held in sealed)

    def free_ended(self, tx: Transaction, payloads: list[None]) -> list[int]:
        """Forget series of which no table holds anything; returns how many. The head waits meanwhile."""
        self.lock.acquire()
        tx.on_commit.append(self.lock.release)
        tx.on_rollback.append(self.lock.release)
        oldest, raw = self._oldest_ms(SID_KINDS), self._oldest_ms(RAW_KINDS)
        sids = self._index.ended(oldest, unseen=oldest >= raw)
        sids = sids[sids < self._saved] if not self.sealed else sids[:0]
        sids = self._without_rows(tx, sids)
        if len(sids):
            tx.con.register("rows", {"sid": sids})
            tx.con.execute("DELETE FROM series WHERE sid IN (SELECT sid FROM rows)")
            tx.con.unregister("rows")
            tx.on_commit.insert(0, lambda: self._index.free(sids))
        return [len(sids)] * len(payloads)

    def _without_rows(self, tx: Transaction, sids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of which really no table and no journal holds a row: what times tell is looked up once more."""
        for held, count in self.unspilled():
            sids = np.setdiff1d(sids, held.sid[:count])
        for kind in SID_KINDS:
            for name in self._partitions.between(kind, -(1 << 62), 1 << 62):
                if len(sids):
                    tx.con.register("rows", {"sid": sids})
                    found = tx.con.execute(
                        f"SELECT DISTINCT sid FROM {name} WHERE sid IN (SELECT sid FROM rows)"  # noqa: S608
                    ).fetchall()
                    tx.con.unregister("rows")
                    sids = np.setdiff1d(sids, np.array([row[0] for row in found], np.int64))
        return sids

    def _oldest_ms(self, kinds: tuple[str, ...]) -> int:
        """Where the oldest of these tables begins, or the samples that no table holds yet."""
        starts = [
            number * (BLOCK_MS if kind == "head" else DAY_MS)
            for kind in kinds
            for number in self._partitions.numbers(kind)
        ]
        starts += [int(held.ts[:count].min()) for held, count in self.unspilled()]
        return min(starts, default=self._database.clock())

    def _series_saved(self, count: int) -> None:
        self._saved = count

    def _spilled(self, sealed: list[Unspilled]) -> None:
        with self.lock:
            for held in sealed:
                own = self._index.stored[: len(held.last)]
                np.maximum(own, held.last, out=own)
                self._closed.count += held.count
            self.sealed = [held for held in self.sealed if held not in sealed]
            if self._journal is not None and sealed[-1].segment is not None:
                self._journal.remove_before(sealed[-1].segment)

    def _insert(self, tx: Transaction, sealed: list[Unspilled]) -> list[tuple[str, int]]:
        sid = _joined([held.sid[: held.count] for held in sealed])
        ts = _joined([held.ts[: held.count] for held in sealed])
        values = _joined([held.values[: held.count] for held in sealed])
        open_from = self._closed.open_from()
        low, high = int(ts.min()) // BLOCK_MS, int(ts.max()) // BLOCK_MS
        block = None if low == high else ts // BLOCK_MS
        numbers = [low] if block is None else np.unique(block).tolist()
        late: list[NDArray[np.int64]] = []
        made: list[tuple[str, int]] = []
        own: Any
        heads = self._partitions.numbers("head")
        for number in numbers:
            if number < open_from and number not in heads:
                late.append(np.arange(len(ts)) if block is None else np.flatnonzero(block == number))
                continue
            own = slice(None) if block is None else np.flatnonzero(block == number)
            if number >= open_from and self._closed.pack(tx, number, sid[own], ts[own], values[own]):
                continue
            name = self._partitions.ensure(tx.con, "head", number)
            insert_rows(tx.con, name, sid[own], ts[own], values[own])
            made.append(("head", number))
        if late:
            at = np.concatenate(late)
            at = at[np.lexsort((ts[at], sid[at]))]
            self._closed.add_late(tx, sid[at], ts[at], values[at])
        return made


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def save_series(tx: Transaction, first: int, series: Sequence[Labels]) -> None:
    """As JSON, which DuckDB takes in bulk at a fifth of what lists of Python cost."""
    columns: dict[str, Any] = {"sid": np.arange(first, first + len(series), dtype=np.int32)}
    for place, column in enumerate(("names", "vals")):
        texts = np.empty(len(series), object)
        texts[:] = [orjson.dumps([pair[place] for pair in labels]).decode() for labels in series]
        columns[column] = texts
    tx.con.register("rows", columns)
    tx.con.execute(
        """INSERT INTO series SELECT sid, from_json(names, '["VARCHAR"]'), from_json(vals, '["VARCHAR"]') FROM rows"""
    )
    tx.con.unregister("rows")
