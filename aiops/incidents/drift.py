"""How far the scores of live steps have drifted from those that the thresholds were calibrated on.

A model meets data that it has not seen; series change their size over hours. Each series' excursions above its
calibrated level go on being counted, with a memory of days, so that its threshold follows how often and how high
they are now. It follows upwards only in height, where the count is small and its noise would cost alarms. An excursion
that reaches the threshold does not count: a fault is no new normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiops.incidents.tails import Floats, Tail

MEMORY_MS = 2 * 86_400_000
PRIOR = 8.0
"""Excursions that the calibration counts for against the live ones."""
FLEET_PRIOR = 100.0
RATES = (0.3, 20.0)
HEIGHTS = (1.0, 3.0)


@dataclass(frozen=True, slots=True)
class Live:
    """What was counted of each series, all [S], fading: excursions, the sum of their heights, steps."""

    count: Floats
    height: Floats
    steps: Floats


class Drift:
    """Counts the excursions of a group of series step by step, each when it is over. Not thread-safe.

    Args:
        tail: the calibration that live scores are compared with.
        step_ms: the group's step.
        duration: steps whose smallest score is the statistic.
        apart: steps below the level that end an excursion.
    """

    def __init__(self, tail: Tail, step_ms: int, duration: int, apart: int) -> None:
        size = len(tail.level)
        self._tail = tail
        self._keep = float(np.exp(-step_ms / MEMORY_MS))
        self._apart = apart
        self._recent = np.full((size, max(duration, 1)), -np.inf)
        self._peak = np.zeros(size)
        self._pending = np.zeros(size, bool)
        self._alarming = np.zeros(size, bool)
        self._below = np.zeros(size, np.int64)
        self.live = Live(np.zeros(size), np.zeros(size), np.zeros(size))

    def take(self, live: Live) -> None:
        """Go on from earlier counts of the same series."""
        self.live = live

    def step(self, score: Floats, cap: Floats) -> None:
        """One closed step.

        Args:
            score: [S], NaN where missing: such a step is passed over.
            cap: [S], the height above the level at which an excursion does not count.
        """
        known = np.isfinite(score)
        shifted = np.column_stack([self._recent[:, 1:], np.where(known, score, 0.0)])
        self._recent = np.where(known[:, None], shifted, self._recent)
        height = self._recent.min(1) - self._tail.level
        above = known & (height > 0)
        self._alarming = (self._alarming & self._pending) | (above & (height >= cap))
        self._peak = np.where(above, np.maximum(np.where(self._pending, self._peak, 0.0), height), self._peak)
        self._pending |= above
        self._below = np.where(above, 0, np.where(known, self._below + 1, self._below))
        over = self._pending & (self._below > self._apart)
        counts = over & ~self._alarming
        live = self.live
        for counted in (live.count, live.height, live.steps):
            counted *= self._keep
        live.count[counts] += 1
        live.height[counts] += self._peak[counts]
        live.steps[known] += 1
        self._pending &= ~over

    def ratios(self) -> tuple[Floats, Floats]:
        """Live over calibrated, [S] each: excursions a step, and their mean height."""
        live, tail = self.live, self._tail
        usual = tail.rate * live.steps
        fleet_rate = (live.count.sum() + FLEET_PRIOR) / (usual.sum() + FLEET_PRIOR)
        rate = (live.count + PRIOR * fleet_rate) / (usual + PRIOR)
        relative = live.height / tail.height
        fleet_height = max((relative.sum() + FLEET_PRIOR) / (live.count.sum() + FLEET_PRIOR), 1.0)
        height = (relative + PRIOR * fleet_height) / (live.count + PRIOR)
        return np.clip(rate, *RATES), np.clip(height, *HEIGHTS)


def carried(live: Live, before: dict[str, int], ids: list[str], old: Tail, new: Tail) -> Live:
    """The counts of series that were watched before, in the units of a new calibration."""
    size = len(ids)
    out = Live(np.zeros(size), np.zeros(size), np.zeros(size))
    rows = np.array([row for row, key in enumerate(ids) if key in before], np.int64)
    was = np.array([before[ids[row]] for row in rows], np.int64)
    if len(rows):
        scale = (new.rate[rows] / old.rate[was], new.height[rows] / old.height[was])
        out.count[rows] = live.count[was] * scale[0]
        out.height[rows] = live.height[was] * scale[0] * scale[1]
        out.steps[rows] = live.steps[was]
    return out


def faded(live: Live, share: float) -> Live:
    """Counts after a pause that leaves ``share`` of them."""
    return Live(live.count * share, live.height * share, live.steps * share)
