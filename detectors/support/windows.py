"""Ragged, irregular series to regular batches and back, causally, with a score for every original timestamp.

All times are UTC, so daylight saving never moves a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch

DAY_MS = 86_400_000
MAX_GAP = 288
"""Steps of a gap that always stay."""
SPARSE = 4
"""A series whose grid would be longer than this many times its points is laid out by position instead."""


@dataclass(frozen=True, slots=True)
class Group:
    """Series of one step as a batch, and the way back.

    Attributes:
        members: positions of the batch's rows in the caller's list.
        cells: per row, the grid index of every original point.
    """

    batch: Batch
    members: tuple[int, ...]
    cells: tuple[NDArray[np.int64], ...]

    def back(self, scores: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Scores [S, T] on the grid to one array a row, one entry an original point."""
        return [scores[row, cells] for row, cells in enumerate(self.cells)]


def step_of(timestamps_ms: NDArray[np.int64]) -> int:
    """The usual spacing in ms: the median positive difference; 1000 for fewer than two distinct times."""
    gaps = np.diff(timestamps_ms)
    gaps = gaps[gaps > 0]
    return max(int(np.median(gaps)), 1) if len(gaps) else 1000


def group_ragged(
    values: Sequence[NDArray[np.float64]], timestamps_ms: Sequence[NDArray[np.int64]], first: int | None = None
) -> list[Group]:
    """Batches of equal step and similar length.

    With ``first`` the step is that of each row's first points, so that no later point matters. A row starts at its
    own first point, so series of different years share a grid.

    The grid's times count from that first point: a day's or week's phase is relative to the row, so that neither a
    time zone nor the rows beside it matter.
    """
    alike: dict[tuple[int, int], list[int]] = {}
    places = []
    for i, ts in enumerate(timestamps_ms):
        step = step_of(ts[:first])
        places.append(_places(ts, step, first))
        alike.setdefault((step, int(places[-1][-1] + 1).bit_length() if len(ts) else 0), []).append(i)
    groups = []
    for (step, _), members in sorted(alike.items()):
        cells = [places[i] for i in members]
        length = max((int(c[-1]) + 1 for c in cells if len(c)), default=0)
        grid, mask = _lay([values[i] for i in members], cells, length)
        times = step * np.arange(length, dtype=np.int64)
        batch = Batch(grid, mask, times, step, tuple(str(i) for i in members))
        groups.append(Group(batch, tuple(members), tuple(cells)))
    return groups


def _places(ts: NDArray[np.int64], step: int, first: int | None) -> NDArray[np.int64]:
    """Grid index of every point; by position where the points fit no grid."""
    if not len(ts):
        return np.empty(0, np.int64)
    index = without_long_gaps((ts - ts[0] + step // 2) // step, step)
    if first is not None:
        # A cell of its own for every point: a mean over a cell would change when its next point arrives.
        place = np.arange(len(ts), dtype=np.int64)
        index = np.maximum.accumulate(index - place) + place
    head = index[:first]
    if head[-1] >= SPARSE * len(head) or index.min() < 0:
        return np.arange(len(ts), dtype=np.int64)
    return index


def without_long_gaps(index: NDArray[np.int64], step_ms: int) -> NDArray[np.int64]:
    """Grid places with whole days taken out of long gaps, so that a pause of years fits into memory."""
    day = max(DAY_MS // step_ms, MAX_GAP)
    gap = np.diff(index, prepend=index[:1])
    short: NDArray[np.int64] = index - np.cumsum(np.maximum(gap - MAX_GAP, 0) // day * day)
    return short


def _lay(
    values: Sequence[NDArray[np.float64]], cells: Sequence[NDArray[np.int64]], length: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the finite points of each cell."""
    rows = np.repeat(np.arange(len(values)), [len(v) for v in values])
    if not len(rows):
        return np.zeros((len(values), length), np.float32), np.zeros((len(values), length), bool)
    flat = np.concatenate(list(values))
    place = rows * length + np.concatenate(list(cells))
    good = np.isfinite(flat)
    size = len(values) * length
    count = np.bincount(place[good], minlength=size)
    total = np.bincount(place[good], weights=flat[good], minlength=size)
    grid = total / np.maximum(count, 1)
    limit = np.finfo(np.float32).max
    return (
        np.clip(grid, -limit, limit).astype(np.float32).reshape(len(values), length),
        (count > 0).reshape(len(values), length),
    )
