"""Rows of samples in memory, ordered by (series, time)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops.store.telemetry.codec import CODECS

RADIX_LIMIT = 1 << 16
"""Below it NumPy sorts series numbers as uint16 by radix, which is several times faster."""


@dataclass(frozen=True, slots=True)
class Run:
    """Samples ordered by time within each series: those of ``sids[i]`` are ``[starts[i], ends[i])``.

    Attributes:
        base: ms that are added to every ``ts``.
        sids: int32 [K], ascending.
        starts, ends: int64 [K].
        ts: int32 or int64 [N].
        values: float64 [N].
        known: what was worked out of these series; see :meth:`groups`.
    """

    base: int
    sids: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    ts: NDArray[Any]
    values: NDArray[np.float64]
    known: dict[str, NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)

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
        ends = np.maximum(self._first_from(end_ms - self.base + 1), starts)
        # Equal times are equal within the window too, but not the other way round: what a cut learns is its own.
        known = {"groups": self.groups()} if CODECS.ready is not None else {}
        return replace(self, starts=starts, ends=ends, known=known)

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
        known = {name: own[at] for name, own in self.known.items()}
        return replace(self, sids=self.sids[at], starts=self.starts[at], ends=self.ends[at], known=known)

    def groups(self) -> NDArray[np.int64]:
        """A number for each series, the same for series that have the same times: int64 [K]."""
        known = self.known.get("groups")
        if known is None:
            codec = CODECS.ready
            if codec is None:
                return np.arange(len(self.sids), dtype=np.int64)
            known = self.known["groups"] = codec.equal_times(self.ts, self.starts, self.ends)[0]
        return known
