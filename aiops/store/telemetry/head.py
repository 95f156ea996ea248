"""The head: every sample's way in. One thread groups what is queued, journals it, syncs once and acknowledges.

New samples are held in memory until the database's writer thread takes them over in bulk (``spill.py``), which
empties the journal. A store in memory does the same without a journal.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.core.errors import AiopsError, TransientError
from aiops.core.series import Labels, SampleBlock
from aiops.store.telemetry.closed import ClosedSamples
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.journal import Journal
from aiops.store.telemetry.labels import SeriesIndex
from aiops.store.telemetry.schema import BLOCK_MS
from aiops.store.telemetry.spill import BACKLOG_ROWS, Spill

log = logging.getLogger(__name__)

GROUP_LIMIT = 256
"""Appends in one group at most, so that a flood cannot starve the first one of its answer."""
GROUP_BYTES = 16 << 20
QUEUE_BYTES = 192 << 20
"""Bytes that may wait; above it an append is refused at once, to be sent again."""
ATTEMPTS = 50


@dataclass(slots=True)
class SampleCounts:
    """What became of one append's samples."""

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    too_new: int = 0
    too_old: int = 0
    over_limit: int = 0
    """Samples of new series beyond ``store.max_series``."""


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Samples of interned series in order of arrival, as parallel columns."""

    sid: NDArray[np.int32]
    ts: NDArray[np.int64]
    values: NDArray[np.float64]


class SampleSource(Protocol):
    """Something that becomes samples on the head's thread, where series are interned. ``size`` is bytes, about."""

    @property
    def size(self) -> int: ...

    def rows(self, index: SeriesIndex) -> SampleRows:
        """Raises an :class:`AiopsError` that is the sender's fault; the others of the group go on."""
        ...


@dataclass(frozen=True, slots=True)
class BlockSource:
    """A block of samples with label sets."""

    block: SampleBlock

    @property
    def size(self) -> int:
        return 16 * self.block.sample_count + 200 * len(self.block)

    def rows(self, index: SeriesIndex) -> SampleRows:
        sids = index.intern(self.block.labels)
        return SampleRows(np.repeat(sids, np.diff(self.block.offsets)), self.block.ts, self.block.values)


Settle = Callable[[list[tuple[Any, "SampleCounts | Exception"]]], None]
"""Told once a group what became of the tokens that were given with it. Must not block or raise."""


@dataclass(slots=True)
class _Job:
    source: SampleSource
    token: Any
    settle: Settle
    outcome: SampleCounts | Exception = field(default_factory=SampleCounts)


def _resolve(batch: list[tuple[Any, SampleCounts | Exception]]) -> None:
    for future, outcome in batch:
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class Head:
    """Takes samples for one database. :meth:`submit` and :meth:`append` may be called from any thread."""

    def __init__(
        self, database: TelemetryDatabase, index: SeriesIndex, closed: ClosedSamples, spill: Spill,
        journal: Journal | None,
    ) -> None:  # fmt: skip
        self._database = database
        self._index = index
        self._closed = closed
        self._spill = spill
        self._journal = journal
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._count_lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="telemetry-head", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Finish what is queued and hand everything to the database. Later appends are refused."""
        with self._count_lock:
            if self._closing:
                return
            self._closing = True
            self._jobs.put(None)
        self._thread.join()
        self._spill.flush()
        if self._journal is not None:
            self._journal.close()

    def healthy(self) -> bool:
        return not self._closing and self._thread.is_alive()

    # ------------------------------------------------------------------ appending

    def submit(self, source: SampleSource, token: Any, settle: Settle) -> None:
        """Queue ``source``; ``settle`` is called on the head's thread once it is journaled and synced, or refused.

        Raises:
            TransientError: too much is waiting or the store is closed.
        """
        with self._count_lock:
            if self._closing:
                raise TransientError("The telemetry store is closed.", retry_after_s=5)
            if self._waiting > QUEUE_BYTES or self._spill.count() > BACKLOG_ROWS:
                raise TransientError("More samples are waiting than can be held; send them again.", retry_after_s=1)
            self._waiting += source.size
            self._jobs.put(_Job(source, token, settle))

    def append(self, source: SampleSource) -> SampleCounts:
        """Queue ``source`` and wait until it is journaled and synced. Raises what made it fail."""
        future: Future[SampleCounts] = Future()
        self.submit(source, future, _resolve)
        while True:
            try:
                return future.result(timeout=1.0)
            except TimeoutError as error:
                if future.done() and future.exception() is error:
                    raise
                if not future.done() and not self._thread.is_alive():
                    raise TransientError("The telemetry store has stopped.", retry_after_s=5) from error

    def newest_ms(self) -> int:
        return self._database.clock() + self._database.settings.future_limit_s * 1000

    def _run(self) -> None:
        stop = False
        while not stop:
            job = self._jobs.get()
            jobs, size = [], 0
            while True:
                if job is None:
                    stop = True
                    break
                jobs.append(job)
                size += job.source.size
                if len(jobs) >= GROUP_LIMIT or size >= GROUP_BYTES:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            if jobs:
                self._group(jobs)
                with self._count_lock:
                    self._waiting -= size
                for settle in {job.settle for job in jobs}:
                    try:
                        settle([(job.token, job.outcome) for job in jobs if job.settle == settle])
                    except Exception:
                        log.exception("a sender cannot be told what became of its samples")
                jobs.clear()
            job = None

    def _group(self, jobs: Sequence[_Job]) -> None:
        with self._spill.lock:
            low, high = self._database.oldest_ms("metrics"), self.newest_ms()
            try:
                self._database.check_space()
                for job in jobs:
                    job.outcome = self._take(job.source, low, high)
                self._journal_and_apply()
            except Exception as error:
                self._rollback()
                if not isinstance(error, AiopsError):
                    log.exception("samples could not be stored")
                    error = TransientError("The samples could not be stored; the log has the details.")
                for job in jobs:
                    if not isinstance(job.outcome, Exception):
                        job.outcome = error

    def _take(self, source: SampleSource, low: int, high: int) -> SampleCounts | Exception:
        try:
            rows = source.rows(self._index)
        except AiopsError as error:
            return error
        counts = SampleCounts()
        sid, ts, values = rows.sid, rows.ts, rows.values
        if not len(sid):
            return counts
        if int(sid.min()) < 0:
            known = sid >= 0
            counts.over_limit = int(np.count_nonzero(~known))
            sid, ts, values = sid[known], ts[known], values[known]
            if not len(sid):
                return counts
        if int(ts.min()) < low or int(ts.max()) > high:
            counts.too_new, counts.too_old = int(np.count_nonzero(ts > high)), int(np.count_nonzero(ts < low))
            within = (ts >= low) & (ts <= high)
            sid, ts, values = sid[within], ts[within], values[within]
        sid, ts, values = _ordered(sid, ts, values, counts)
        claimed = self._index.claimed
        fresh = ts > claimed[sid]
        if fresh.all():
            claimed[sid] = ts
        else:
            new = self._not_stored_yet(sid, ts, values, fresh, counts)
            fresh = fresh[new]
            sid, ts, values = sid[new], ts[new], values[new]
            claimed[sid[fresh]] = ts[fresh]
        self._spill.active.add(sid, ts, values)
        counts.accepted = len(sid)
        return counts

    def _not_stored_yet(
        self, sid: NDArray[np.int32], ts: NDArray[np.int64], values: NDArray[np.float64], fresh: NDArray[np.bool_],
        counts: SampleCounts,
    ) -> NDArray[np.int64]:  # fmt: skip
        """Rows that are new, looked up where they are not later than all of their series."""
        maybe = np.flatnonzero(~fresh)
        some, at = sid[maybe], ts[maybe]
        found, before = np.zeros(len(maybe), np.bool_), np.zeros(len(maybe))
        for held in (*self._spill.sealed, self._spill.active):
            hit, value = held.find(some, at)
            found |= hit
            before[hit] = value[hit]
        filed = np.flatnonzero(~found & (at <= self._index.stored[some]) & (at >= self._index.first[some]))
        if len(filed):
            found[filed], before[filed] = self._in_file(some[filed], at[filed])
        gone = maybe[found]
        same = before[found].view(np.uint64) == values[gone].view(np.uint64)
        counts.duplicates += int(np.count_nonzero(same))
        counts.conflicts += int(np.count_nonzero(~same))
        return np.delete(np.arange(len(sid)), gone)

    def _in_file(self, sids: NDArray[np.int32], ts: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        for _ in range(ATTEMPTS):
            with self._database.read() as con:
                con.execute("BEGIN TRANSACTION")
                try:
                    return self._closed.stored(con, sids, ts)
                except duckdb.CatalogException:  # a table was moved under the read
                    pass
            time.sleep(0.01)
        raise TransientError("The store is being compacted.", retry_after_s=1)

    def _journal_and_apply(self) -> None:
        held, index = self._spill.active, self._index
        rows = slice(held.count, held.claimed)
        sid, ts, values = held.sid[rows], held.ts[rows], held.values[rows]
        size = len(index)
        if self._journal is not None and (len(sid) or size > self._spill.journaled):
            fresh: list[tuple[int, Labels]] = [(i, index.labels[i]) for i in range(self._spill.journaled, size)]
            self._journal.append(fresh, sid, ts, values)
        self._spill.journaled = size
        if not len(sid):
            return
        held.commit()
        index.last[sid] = index.claimed[sid]
        earlier = ts < index.first[sid]
        if earlier.any():
            np.minimum.at(index.first, sid[earlier], ts[earlier])
        self._show(sid, ts, values)
        self._spill.grew()

    def _show(self, sid: NDArray[np.int32], ts: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        scanner = self._closed.scanner
        low, high = int(ts.min()) // BLOCK_MS, int(ts.max()) // BLOCK_MS
        newest = scanner.newest_ms
        scanner.newest_ms = max(newest, int(ts.max()))
        if low == high:
            scanner.blocks.commit([(low, low * BLOCK_MS > newest, sid, ts, values)])
            return
        block = ts // BLOCK_MS
        parts = [(n, block == n) for n in np.unique(block).tolist()]
        scanner.blocks.commit((n, n * BLOCK_MS > newest, sid[own], ts[own], values[own]) for n, own in parts)

    def _rollback(self) -> None:
        held = self._spill.active
        sid = held.sid[held.count : held.claimed].copy()
        held.rollback()
        self._index.claimed[sid] = self._index.last[sid]


def _ordered(
    sid: NDArray[np.int32], ts: NDArray[np.int64], values: NDArray[np.float64], counts: SampleCounts
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
    """By (series, time), of equal ones the first to arrive; the others are counted."""
    if bool(np.all(sid[1:] > sid[:-1])):
        return sid, ts, values
    order = np.lexsort((ts, sid))
    sid, ts, values = sid[order], ts[order], values[order]
    again = np.concatenate([[False], (sid[1:] == sid[:-1]) & (ts[1:] == ts[:-1])])
    if not again.any():
        return sid, ts, values
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(sid))))
    bits = values.view(np.uint64)
    same = int(np.count_nonzero((bits == bits[first])[again]))
    counts.duplicates += same
    counts.conflicts += int(np.count_nonzero(again)) - same
    return sid[~again], ts[~again], values[~again]
