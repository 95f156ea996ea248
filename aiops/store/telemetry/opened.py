"""A scan that is open: what it found, decoded part by part. Implements ``core.ports.OpenScan``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiops.core.series import Labels, SampleBlock, SeriesPart
from aiops.store.telemetry.chunks import Chunks, places
from aiops.store.telemetry.codec import Ints, reader
from aiops.store.telemetry.runs import Run

Piece = Chunks | Run


class OpenedScan:
    """Samples of some series, held in pieces that are in order of time but for late samples.

    Args:
        all_labels: by series number.
        sids: wanted series, ascending.
        pieces: where their samples are.
        start_ms, end_ms: the window, both ends in it.
    """

    def __init__(
        self, all_labels: Sequence[Labels], sids: NDArray[np.int32], pieces: Sequence[Piece], start_ms: int, end_ms: int
    ) -> None:
        self.start_ms, self.end_ms = start_ms, end_ms
        self._pieces = [piece for piece in pieces if len(piece.sids)]
        places_, counts, clocks = [], [], []
        weight = 0.0
        size = len(sids)
        newest = np.full(size, -(1 << 62), np.int64)
        tangled = np.zeros(size, np.bool_)
        for piece in self._pieces:
            at = places(piece.sids, sids)
            first, last, count, clock = _outline(piece, at)
            inside = (at >= 0) & (count > 0) & (last >= start_ms) & (first <= end_ms)
            count = np.where(inside, count, 0)
            tangled |= inside & (first <= newest)
            newest = np.where(inside, np.maximum(newest, last), newest)
            span = np.maximum(last - first, 1)
            share = (np.minimum(last, end_ms) - np.maximum(first, start_ms) + 1) / span
            weight += float((count * np.clip(share, 0.0, 1.0)).sum())
            places_.append(at)
            counts.append(count)
            clocks.append(np.where(inside, clock, -1))
        self._at = np.array(places_, np.int64).reshape(len(places_), size)
        self._counts = np.array(counts, np.int64).reshape(len(counts), size)
        total = self._counts.sum(axis=0)
        filled = np.flatnonzero(total)
        self.sample_count = int(weight)
        self._tangled = tangled[filled]
        self._at, self._counts, self._total = self._at[:, filled], self._counts[:, filled], total[filled]
        self._clock, self._of_clock = _combined([clock[filled] for clock in clocks], len(filled))
        self.sids = sids[filled]
        self.labels: list[Labels] = [all_labels[i] for i in self.sids.tolist()]

    def part(self, first: int, last: int) -> SeriesPart:
        """Series ``first`` to ``last - 1``, with all samples of the pieces; some may lie outside the window."""
        codec = reader()
        total = self._total[first:last]
        offsets = np.concatenate([[0], np.cumsum(total)])
        values = np.empty(int(offsets[-1]))
        clocks, clock = np.unique(self._clock[first:last], return_inverse=True)
        like = self._of_clock[clocks]
        clock_offsets = np.concatenate([[0], np.cumsum(self._total[like])])
        ts = np.empty(int(clock_offsets[-1]), np.int64)
        to, clock_to = offsets[:-1].copy(), clock_offsets[:-1].copy()
        for piece, at, count in zip(self._pieces, self._at, self._counts, strict=True):
            own = count[first:last]
            some = np.flatnonzero(own)
            if not len(some):
                continue
            where, own_to = at[first:last][some], to[some]
            theirs = np.flatnonzero(count[like])
            like_at, like_to = at[like[theirs]], clock_to[theirs]
            if isinstance(piece, Chunks):
                piece.values_into(codec, where, own_to, values)
                piece.times_into(codec, piece.clock[like_at], like_to, ts)
            else:
                codec.copy_values(piece.values, piece.starts[where], own[some], own_to, values)
                codec.copy_times(piece.ts, piece.base, piece.starts[like_at], count[like[theirs]], like_to, ts)
            to += own
            clock_to += count[like]
        part = SeriesPart(offsets, values, clock.astype(np.int64), clock_offsets, ts)
        return _untangled(part) if bool(self._tangled[first:last].any()) else part

    def samples(self) -> SampleBlock:
        """All samples of the window, one row for each of ``sids``."""
        part = self.part(0, len(self.labels))
        ts, values, offsets = part.times(), part.values, part.offsets
        inside = (ts >= self.start_ms) & (ts <= self.end_ms)
        if not bool(inside.all()):
            kept = np.concatenate([[0], np.cumsum(inside)]).astype(np.int64)
            offsets, ts, values = kept[offsets], ts[inside], values[inside]
        return SampleBlock(tuple(self.labels), offsets.astype(np.int64), ts, values)

    def block(self) -> SampleBlock:
        """All samples of the window; series without any are left out."""
        found = self.samples()
        filled = np.flatnonzero(np.diff(found.offsets))
        if len(filled) == len(found):
            return found
        offsets = np.concatenate([found.offsets[filled], found.offsets[-1:]])
        return SampleBlock(tuple(self.labels[i] for i in filled.tolist()), offsets, found.ts, found.values)


def _outline(piece: Piece, at: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """First and last time, number of samples and clock at the given places; anything where the place is -1."""
    if isinstance(piece, Chunks):
        return piece.first[at], piece.last[at], np.where(at >= 0, piece.counts[at], 0), piece.clock[at]
    starts, ends = piece.starts[at], piece.ends[at]
    top = len(piece.ts) - 1
    first = piece.ts[np.clip(starts, 0, top)].astype(np.int64) + piece.base
    last = piece.ts[np.clip(ends - 1, 0, top)].astype(np.int64) + piece.base
    return first, last, np.where(at >= 0, ends - starts, 0), piece.groups()[at]


def _combined(clocks: Sequence[Ints], size: int) -> tuple[Ints, Ints]:
    """One number for series whose clocks are the same in all pieces, and one of the series for each number."""
    key = np.zeros(size, np.int64)
    for clock in clocks:
        if not size or bool((clock == clock[0]).all()):
            continue
        key = np.unique(key, return_inverse=True)[1] * (int(clock.max()) + 2) + clock + 1
    _, like, number = np.unique(key, return_index=True, return_inverse=True)
    return number.astype(np.int64), like.astype(np.int64)


def _untangled(part: SeriesPart) -> SeriesPart:
    """With the samples of each series in order of time."""
    ts = part.times()
    order = np.lexsort((ts, np.repeat(np.arange(len(part.clock)), np.diff(part.offsets))))
    return SeriesPart.of(part.offsets, ts[order], part.values[order])
