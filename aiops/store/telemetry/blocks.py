"""Samples of two-hour blocks in memory, under a byte budget: the newest as they arrive, others once they were read.

A block is held whole or not at all. What is held is what is committed; a block that is not held is read from the
file. What is closed is held as it is in the file, compressed; other samples take 12 bytes, their times being int32
milliseconds since the block's start.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from aiops.store.telemetry.changes import EVERYTHING_MS, NOTHING_MS, ChangeLog
from aiops.store.telemetry.chunks import Chunks
from aiops.store.telemetry.runs import Run
from aiops.store.telemetry.schema import BLOCK_MS

_FIRST_ROOM = 4096


class _Held:
    """One block: what is closed, what was in order when it was last put in order, and what came since."""

    __slots__ = ("base", "chunks", "count", "run", "sid", "ts", "used", "values")

    def __init__(self, run: Run, chunks: Chunks | None = None) -> None:
        self.base = run.base
        self.chunks = chunks
        self.run = run
        self.used = 0
        self.count = 0
        self.sid, self.ts, self.values = _room(0)

    def _grow(self, room: int) -> None:
        old, n = (self.sid, self.ts, self.values), self.count
        self.sid, self.ts, self.values = _room(room)
        for new, before in zip((self.sid, self.ts, self.values), old, strict=True):
            new[:n] = before[:n]  # type: ignore[index]

    def append(self, sid: NDArray[np.int32], ts: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        a, b = self.count, self.count + len(sid)
        if b > len(self.sid):
            self._grow(max(b + b // 2, _FIRST_ROOM))
        self.sid[a:b] = sid
        self.ts[a:b] = ts - self.base
        self.values[a:b] = values
        self.count = b

    @property
    def size(self) -> int:
        return self.run.size + 16 * len(self.sid) + (self.chunks.size if self.chunks is not None else 0)

    def ordered(self, count: int, run: Run) -> None:
        """``run`` holds the former run and the first ``count`` samples that came since."""
        self.run = run
        rest = slice(count, self.count)
        sid, ts, values = self.sid[rest], self.ts[rest], self.values[rest]
        self.count = 0
        self.sid, self.ts, self.values = _room(max(len(sid), _FIRST_ROOM))
        self.append(sid, ts.astype(np.int64) + self.base, values)


def _room(room: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    return np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float64)


class BlockCache:
    """Blocks in memory. Thread-safe; only the writer thread appends.

    Args:
        budget: bytes; above it the block that was not used for longest goes. 0 holds nothing.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.loading = threading.Lock()
        """Held by a reader that fills the cache, so that equal queries at one time read the file once."""
        self.changes = ChangeLog()
        self._held: dict[int, _Held] = {}
        self._versions: dict[int, int] = {}
        self._writing: set[int] = set()
        self._lock = threading.Lock()
        self._clock = 0

    # ------------------------------------------------------------------ writer thread

    def begin(self, blocks: Iterable[int]) -> None:
        """The blocks are about to change; what a reader loads of them meanwhile may be old or new."""
        with self._lock:
            self._writing.update(blocks)

    def commit(
        self, rows: Iterable[tuple[int, bool, NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]]
    ) -> None:
        """Rows that were committed, as (block, whether it is new, sid, ts, values)."""
        low = NOTHING_MS
        with self._lock:
            for block, is_new, sid, ts, values in rows:
                self._changed(block)
                low = min(low, int(ts.min(initial=NOTHING_MS)))
                held = self._held.get(block)
                if held is None and is_new and self.budget:
                    nothing = np.empty(0, np.int32)
                    held = self._held[block] = _Held(Run.of(block * BLOCK_MS, nothing, nothing, np.empty(0)))
                if held is not None:
                    held.append(sid, ts, values)
                    self._touch(held)
            self._evict()
        if low < NOTHING_MS:
            self.changes.record(low)

    def rollback(self, blocks: Iterable[int]) -> None:
        with self._lock:
            for block in blocks:
                self._changed(block)

    def forget_before(self, block: int) -> None:
        self.changes.record(EVERYTHING_MS)
        with self._lock:
            for number in [n for n in self._held if n < block]:
                del self._held[number]
            for number in [n for n in self._versions if n < block]:
                self._changed(number)

    def clear(self) -> None:
        self.changes.record(EVERYTHING_MS)
        with self._lock:
            self._held.clear()
            self._writing.clear()
            for number in list(self._versions):
                self._changed(number)

    def _changed(self, block: int) -> None:
        self._versions[block] = self._versions.get(block, 0) + 1
        self._writing.discard(block)

    # ------------------------------------------------------------------ readers

    def holds(self, block: int) -> bool:
        with self._lock:
            return block in self._held

    def version(self, block: int) -> int:
        """To be taken before a load; -1 while the block is being written."""
        with self._lock:
            return -1 if block in self._writing else self._versions.setdefault(block, 0)

    def put(self, block: int, version: int, run: Run, chunks: Chunks | None = None) -> None:
        """Keep a block as it was read, unless it has changed since ``version``; ``run`` is what is not in chunks."""
        with self._lock:
            if version < 0 or block in self._writing or self._versions.get(block) != version or block in self._held:
                return
            held = _Held(run, chunks)
            if held.size <= self.budget:
                self._held[block] = held
                self._touch(held)
                self._evict()

    def few(self, block: int, sids: NDArray[np.int32]) -> list[Chunks | Run] | None:
        """The given few series' samples of a block, in pieces; ``None`` where it is not held."""
        with self._lock:
            held = self._held.get(block)
            if held is None:
                return None
            self._touch(held)
            chunks, run, n = held.chunks, held.run, held.count
            sid, ts, values = held.sid[:n], held.ts[:n], held.values[:n]
        found: list[Chunks | Run] = [chunks.only(sids)] if chunks is not None else []
        if len(run.sids):
            found.append(run.only(sids))
        if n:
            at = np.flatnonzero(sid == sids[0]) if len(sids) == 1 else np.flatnonzero(np.isin(sid, sids))
            if len(at):
                found.append(Run.of(run.base, sid[at], ts[at], values[at]))
        return found

    def whole(self, block: int) -> list[Chunks | Run] | None:
        """All samples of a block, in pieces; ``None`` where it is not held."""
        with self._lock:
            held = self._held.get(block)
            if held is None:
                return None
            self._touch(held)
            chunks, run, n = held.chunks, held.run, held.count
            sid, ts, values = held.sid[:n], held.ts[:n], held.values[:n]
        found: list[Chunks | Run] = [chunks] if chunks is not None else []
        if not n:
            return [*found, run] if len(run.sids) else found
        if 4 * n < len(run.ts):
            return [*found, run, Run.of(run.base, sid, ts, values)]
        key = np.concatenate([run.keys(), sid])
        both = Run.of(run.base, key, np.concatenate([run.ts, ts]), np.concatenate([run.values, values]))
        with self._lock:
            if self._held.get(block) is held and held.run is run:
                held.ordered(n, both)
        return [*found, both]

    def drop(self, block: int) -> None:
        """Hold the block no more: what is held would be read in another form now."""
        with self._lock:
            self._held.pop(block, None)
            self._changed(block)

    def held(self, first: int, last: int) -> list[int]:
        """Blocks that are held, from the first to the last named, ascending."""
        with self._lock:
            return sorted(n for n in self._held if first <= n <= last)

    def size(self) -> int:
        with self._lock:
            return sum(held.size for held in self._held.values())

    def _touch(self, held: _Held) -> None:
        self._clock += 1
        held.used = self._clock

    def _evict(self) -> None:
        while self._held and sum(held.size for held in self._held.values()) > self.budget:
            del self._held[min(self._held, key=lambda block: self._held[block].used)]
