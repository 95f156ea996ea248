"""Samples of two-hour blocks in memory, under a byte budget: the newest as they arrive, others once they were read.

A block is held whole or not at all. What is held is what is committed; a block that is not held is read from the
file. Times are kept as int32 milliseconds since the block's start, so a sample takes 12 bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops.store.telemetry.schema import BLOCK_MS

RADIX_LIMIT = 1 << 16
"""Below it NumPy sorts series numbers as uint16 by radix, which is several times faster."""
LOOP_FROM = 24
"""Mean samples a series from which copying slices beats gathering by index."""
_FIRST_ROOM = 4096


@dataclass(frozen=True, slots=True)
class Run:
    """Samples ordered by time within each series: those of ``sids[i]`` are ``[starts[i], ends[i])``.

    Attributes:
        base: ms that are added to every ``ts``.
        sids: int32 [K], ascending.
        starts, ends: int64 [K].
        ts: int32 or int64 [N].
        values: float64 [N].
    """

    base: int
    sids: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    ts: NDArray[Any]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, base: int, sid: NDArray[np.int32], ts: NDArray[Any], values: NDArray[np.float64]) -> Run:
        """From parallel arrays in any order; afterwards ordered by (series, time)."""
        key: NDArray[Any] = sid.astype(np.uint16) if len(sid) and int(sid.max()) < RADIX_LIMIT else sid
        if not bool(np.all(key[1:] >= key[:-1])):
            order = np.argsort(key, kind="stable")
            key, ts, values = key[order], ts[order], values[order]
        same = key[1:] == key[:-1]
        if bool(np.any((ts[1:] <= ts[:-1]) & same)):
            order = np.lexsort((ts, key))
            ts, values = ts[order], values[order]
        starts = np.flatnonzero(np.concatenate([np.ones(min(len(key), 1), np.bool_), ~same]))
        return cls(base, key[starts].astype(np.int32), starts, np.append(starts[1:], len(key)), ts, values)

    @property
    def size(self) -> int:
        return 12 * len(self.ts) + 20 * len(self.sids)

    def keys(self) -> NDArray[np.int32]:
        """The series of every sample; for a run that was neither cut nor selected from."""
        return np.repeat(self.sids, self.ends - self.starts)

    def cut(self, start_ms: int, end_ms: int) -> Run:
        """Only samples with ``start_ms <= ts <= end_ms``; series may be left without any. Shares the arrays."""
        starts = self._first_from(start_ms - self.base)
        return replace(self, starts=starts, ends=np.maximum(self._first_from(end_ms - self.base + 1), starts))

    def _first_from(self, bound: int) -> NDArray[np.int64]:
        """For each series the first place whose time is not before ``bound``: one binary search for all."""
        low, high = self.starts.copy(), self.ends.copy()
        while True:
            searching = low < high
            if not searching.any():
                return low
            middle = (low + high) >> 1
            earlier = searching & (self.ts[np.minimum(middle, len(self.ts) - 1)] < bound)
            low = np.where(earlier, middle + 1, low)
            high = np.where(searching & ~earlier, middle, high)

    def only(self, sids: NDArray[np.int32]) -> Run:
        """The given series. Shares the arrays."""
        if not len(self.sids):
            return self
        at = np.minimum(np.searchsorted(self.sids, sids), len(self.sids) - 1)
        at = at[self.sids[at] == sids]
        return replace(self, sids=self.sids[at], starts=self.starts[at], ends=self.ends[at])


def joined(
    sids: NDArray[np.int32], runs: Sequence[Run]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Samples of ``sids`` (ascending) from all runs, by (series, time): lengths [S], ts [N], values [N]."""
    starts = np.zeros((len(runs), len(sids)), np.int64)
    lengths = np.zeros((len(runs), len(sids)), np.int64)
    for p, run in enumerate(runs):
        if len(run.sids):
            at = np.minimum(np.searchsorted(run.sids, sids), len(run.sids) - 1)
            hit = run.sids[at] == sids
            starts[p] = run.starts[at]
            lengths[p] = np.where(hit, run.ends[at] - run.starts[at], 0)
    total = lengths.sum(axis=0)
    ends = np.cumsum(total)
    target = (ends - total)[None, :] + np.cumsum(lengths, axis=0) - lengths
    size = int(ends[-1]) if len(ends) else 0
    ts, values = np.empty(size, np.int64), np.empty(size, np.float64)
    for run, source, length, to in zip(runs, starts, lengths, target, strict=True):
        _copy(run, source, length, to, ts, values, total)
    if len(runs) > 1 and _disordered(ts, total, target, lengths):
        owner = np.repeat(np.arange(len(sids)), total)
        order = np.lexsort((ts, owner))
        ts, values = ts[order], values[order]
    return total, ts, values


def _copy(
    run: Run, source: NDArray[np.int64], length: NDArray[np.int64], to: NDArray[np.int64],
    ts: NDArray[np.int64], values: NDArray[np.float64], total: NDArray[np.int64],
) -> None:  # fmt: skip
    count = int(length.sum())
    if not count:
        return
    n, width = int(length[0]), int(total[0])
    stride = int(source[1] - source[0]) if len(source) > 1 else n
    regular = ((length, n), (total, width), (np.diff(source), stride), (np.diff(to), width))
    if stride > 0 and all(bool(np.all(got == wanted)) for got, wanted in regular):
        first, b, shape = int(source[0]), int(to[0]), (len(length), n)
        np.add(_rows(run.ts[first:], stride, shape), run.base, out=ts.reshape(-1, width)[:, b : b + n], dtype=np.int64)
        values.reshape(-1, width)[:, b : b + n] = _rows(run.values[first:], stride, shape)
    elif count >= LOOP_FROM * len(length):
        from_ts = run.ts.astype(np.int64) + run.base if len(run.ts) <= 2 * count else None
        for a, n, b in zip(source.tolist(), length.tolist(), to.tolist(), strict=True):
            ts[b : b + n] = from_ts[a : a + n] if from_ts is not None else run.ts[a : a + n] + np.int64(run.base)
            values[b : b + n] = run.values[a : a + n]
    else:
        steps = np.arange(count) - np.repeat(np.cumsum(length) - length, length)
        gather, scatter = np.repeat(source, length) + steps, np.repeat(to, length) + steps
        ts[scatter] = run.ts[gather].astype(np.int64) + run.base
        values[scatter] = run.values[gather]


def _rows(array: NDArray[Any], stride: int, shape: tuple[int, int]) -> NDArray[Any]:
    """A view whose rows begin ``stride`` apart; the last row ends within the array."""
    width = array.strides[0]
    return np.lib.stride_tricks.as_strided(array, shape, (stride * width, width), writeable=False)


def _disordered(
    ts: NDArray[np.int64], total: NDArray[np.int64], target: NDArray[np.int64], lengths: NDArray[np.int64]
) -> bool:
    """Whether two runs overlap in a series; each is in order itself, so only their seams can tell."""
    ends = np.cumsum(total)
    for p in range(1, len(target)):
        seam = target[p][(lengths[p] > 0) & (target[p] > ends - total)]
        if bool(np.any(ts[seam] <= ts[seam - 1])):
            return True
    return False


class _Held:
    """One block: what was in order when it was last put in order, and what came since."""

    __slots__ = ("base", "count", "run", "sid", "ts", "used", "values")

    def __init__(self, run: Run) -> None:
        self.base = run.base
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
        return self.run.size + 16 * len(self.sid)

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
        with self._lock:
            for block, is_new, sid, ts, values in rows:
                self._changed(block)
                held = self._held.get(block)
                if held is None and is_new and self.budget:
                    nothing = np.empty(0, np.int32)
                    held = self._held[block] = _Held(Run.of(block * BLOCK_MS, nothing, nothing, np.empty(0)))
                if held is not None:
                    held.append(sid, ts, values)
                    self._touch(held)
            self._evict()

    def rollback(self, blocks: Iterable[int]) -> None:
        with self._lock:
            for block in blocks:
                self._changed(block)

    def forget_before(self, block: int) -> None:
        with self._lock:
            for number in [n for n in self._held if n < block]:
                del self._held[number]
            for number in [n for n in self._versions if n < block]:
                self._changed(number)

    def clear(self) -> None:
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

    def put(self, block: int, version: int, run: Run) -> None:
        """Keep a block as it was read, unless it has changed since ``version``."""
        with self._lock:
            if version < 0 or block in self._writing or self._versions.get(block) != version or block in self._held:
                return
            if run.size <= self.budget:
                held = self._held[block] = _Held(run)
                self._touch(held)
                self._evict()

    def few(self, block: int, sids: NDArray[np.int32]) -> list[Run] | None:
        """The given few series' samples of a block, in one run or two; ``None`` where it is not held."""
        with self._lock:
            held = self._held.get(block)
            if held is None:
                return None
            self._touch(held)
            run, n = held.run, held.count
            sid, ts, values = held.sid[:n], held.ts[:n], held.values[:n]
        found = run.only(sids)
        if not n:
            return [found]
        at = np.flatnonzero(sid == sids[0]) if len(sids) == 1 else np.flatnonzero(np.isin(sid, sids))
        if not len(at):
            return [found]
        return [found, Run.of(found.base, sid[at], ts[at], values[at])]

    def whole(self, block: int) -> list[Run] | None:
        """All samples of a block, in one run or two; ``None`` where it is not held."""
        with self._lock:
            held = self._held.get(block)
            if held is None:
                return None
            self._touch(held)
            run, n = held.run, held.count
            sid, ts, values = held.sid[:n], held.ts[:n], held.values[:n]
        if not n:
            return [run]
        if 4 * n < len(run.ts):
            return [run, Run.of(run.base, sid, ts, values)]
        key = np.concatenate([run.keys(), sid])
        both = Run.of(run.base, key, np.concatenate([run.ts, ts]), np.concatenate([run.values, values]))
        with self._lock:
            if self._held.get(block) is held and held.run is run:
                held.ordered(n, both)
        return [both]

    def size(self) -> int:
        with self._lock:
            return sum(held.size for held in self._held.values())

    def _touch(self, held: _Held) -> None:
        self._clock += 1
        held.used = self._clock

    def _evict(self) -> None:
        while self._held and sum(held.size for held in self._held.values()) > self.budget:
            del self._held[min(self._held, key=lambda block: self._held[block].used)]
