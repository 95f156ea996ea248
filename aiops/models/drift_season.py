"""Taking the daily or weekly season off two stretches of series.

The season is the mean of each hour of the day, or of the week. From every day of the reference the mean of the other
days is taken, so that what is left is as much out of sample as in the later stretch; a season is used where that
leaves less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOUR_MS = 3_600_000
CYCLES = (24, 168)
"""Hours of a season."""
USEFUL = 0.95
"""A season is used where it leaves less than this share of the variance."""


def deseasoned(
    before: Floats, after: Floats, before_ms: NDArray[np.int64], after_ms: NDArray[np.int64], step_ms: int
) -> tuple[Floats, Floats]:
    """Both stretches [S, T] and [S, U] without the season of the first; NaN stays NaN."""
    left = _variance(before)
    out = before - _mean(before)[:, None], after - _mean(before)[:, None]
    for hours in CYCLES:
        cycle = hours * HOUR_MS
        if step_ms > HOUR_MS or not len(before_ms) or before_ms[-1] - before_ms[0] + step_ms < 2 * cycle:
            continue
        first = before_ms[0] // cycle
        bins, turn = (before_ms % cycle) // HOUR_MS, before_ms // cycle - first
        known = np.isfinite(before)
        turns = int(turn[-1]) + 1
        cell = turn * hours + bins
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        total, count = np.zeros((len(before), turns * hours)), np.zeros((len(before), turns * hours))
        total[:, cell[starts]] = np.add.reduceat(np.where(known, before, 0.0), starts, axis=1)
        count[:, cell[starts]] = np.add.reduceat(known.astype(np.float64), starts, axis=1)
        by_turn, counts = total.reshape(-1, turns, hours), count.reshape(-1, turns, hours)
        whole, seen = by_turn.sum(1), counts.sum(1)
        centre = _mean(before)[:, None]
        others = (whole[:, None] - by_turn) / np.maximum(seen[:, None] - counts, 1)
        others = np.where(seen[:, None] - counts > 0, others, centre[:, :, None]).reshape(len(before), -1)
        profile = np.where(seen > 0, whole / np.maximum(seen, 1), centre)
        trial = before - others[:, cell], after - profile[:, (after_ms % cycle) // HOUR_MS]
        remains = _variance(trial[0])
        better = remains < USEFUL * left
        left = np.where(better, remains, left)
        out = tuple(np.where(better[:, None], new, old) for new, old in zip(trial, out, strict=True))  # type: ignore[assignment]
    return out


def _mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(1) / np.maximum(known.sum(1), 1))


def _variance(values: Floats) -> Floats:
    return _mean((values - _mean(values)[:, None]) ** 2)
