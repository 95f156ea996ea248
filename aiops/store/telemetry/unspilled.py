"""Samples that are in the journal and in memory, but not in the database file yet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TIME_BITS = 40
"""Times so many bits apart (35 years) are looked up by binary search, others one by one."""
_GROWTH = 4
_FIRST_ROOM = 1 << 16


class Unspilled:
    """Sample columns in order of arrival. One thread writes; others read the first ``count`` rows.

    Attributes:
        count: committed rows.
        claimed: rows written, committed or not.
        segment: set when it is sealed: the journal's segments before it hold all of it.
        last: set when it is sealed: for each series a time that no sample in it is later than.
    """

    def __init__(self) -> None:
        self.sid = np.empty(_FIRST_ROOM, np.int32)
        self.ts = np.empty(_FIRST_ROOM, np.int64)
        self.values = np.empty(_FIRST_ROOM, np.float64)
        self.count = self.claimed = 0
        self.segment: int | None = None
        self.last = np.empty(0, np.int64)
        self._base = 0
        self._runs: list[tuple[int, NDArray[np.int64], NDArray[np.int64]]] = []
        self._indexed = 0

    def add(self, sid: NDArray[np.int32], ts: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        a, b = self.claimed, self.claimed + len(sid)
        if b > len(self.sid):
            self._grow(max(2 * len(self.sid), b))
        if not a and b:
            self._base = int(ts[0])
        self.sid[a:b], self.ts[a:b], self.values[a:b] = sid, ts, values
        self.claimed = b

    def _grow(self, room: int) -> None:
        for name in ("sid", "ts", "values"):
            old = getattr(self, name)
            new = np.empty(room, old.dtype)
            new[: self.claimed] = old[: self.claimed]
            setattr(self, name, new)

    def drop_repeated(self) -> None:
        """Keep of equal (series, time) pairs the first; before anything is committed."""
        sid, ts, values = self.sid[: self.claimed], self.ts[: self.claimed], self.values[: self.claimed]
        order = np.lexsort((ts, sid))
        again = np.flatnonzero((np.diff(sid[order]) == 0) & (np.diff(ts[order]) == 0)) + 1
        if len(again):
            keep = np.sort(np.delete(order, again))
            self.claimed = 0
            self.add(sid[keep], ts[keep], values[keep])

    def commit(self) -> None:
        self.count = self.claimed

    def rollback(self) -> None:
        self.claimed = self.count
        self._runs.clear()
        self._indexed = 0

    def find(self, sids: NDArray[np.int32], ts: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which (series, time) pairs are among the claimed rows, and their values. For the writing thread."""
        self._index()
        found, values = np.zeros(len(sids), np.bool_), np.zeros(len(sids))
        key, near = self._keys(sids, ts)
        for _, keys, rows in self._runs:
            if not len(keys):
                continue
            at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            hit = near & (keys[at] == key)
            found |= hit
            values[hit] = self.values[rows[at[hit]]]
        for i in np.flatnonzero(~near).tolist():
            hits = np.flatnonzero((self.sid[: self.claimed] == sids[i]) & (self.ts[: self.claimed] == ts[i]))
            if len(hits):
                found[i], values[i] = True, self.values[hits[0]]
        return found, values

    def _keys(self, sid: NDArray[np.int32], ts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        after = ts - (self._base - (1 << (TIME_BITS - 1)))
        return (sid.astype(np.int64) << TIME_BITS) + after, (after >= 0) & (after < 1 << TIME_BITS)

    def _index(self) -> None:
        """Sorted runs of rows, each a fraction of the one before it, so that sorting stays cheap."""
        start, end = self._indexed, self.claimed
        if start == end:
            return
        while self._runs and start - self._runs[-1][0] < _GROWTH * (end - start):
            start = self._runs.pop()[0]
        keys, near = self._keys(self.sid[start:end], self.ts[start:end])
        rows = np.flatnonzero(near)
        rows = rows[np.argsort(keys[rows], kind="stable")]
        self._runs.append((start, keys[rows], rows + start))
        self._indexed = end

    def within(
        self, count: int, start_ms: int, end_ms: int, wanted: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
        """The first ``count`` rows with ``start_ms <= ts <= end_ms``, of the series that ``wanted`` marks."""
        sid, ts, values = self.sid[:count], self.ts[:count], self.values[:count]
        inside: Any = (ts >= start_ms) & (ts <= end_ms)
        if wanted is not None:
            inside &= (sid < len(wanted)) & wanted[np.minimum(sid, len(wanted) - 1)]
        at = np.flatnonzero(inside)
        return sid[at], ts[at], values[at]
