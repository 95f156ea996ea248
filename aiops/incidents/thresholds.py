"""What is an anomaly is policy, and this is the policy: how rare an episode must be to be told of.

An alarm is an episode: the score of one series stays above its threshold for ``min_duration_steps``. So the
statistic that is calibrated is the running minimum of the score over that many steps, and what is counted is
its excursions, not its points: autocorrelation then costs nothing. Per series, the rate of excursions above a
high quantile of the training scores is observed, and their heights follow a generalised Pareto tail whose
parameters are shrunk towards the fleet's; the threshold is where the expected number of episodes a day equals
that series' share of the fleet's ``false_alarms_per_day``. Sources: Pickands (1975) on the tail, Hosking and
Wallis (1987) on probability-weighted moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import State

DAY_MS = 86_400_000
LEVEL = 0.98
"""Quantile of the training statistic above which excursions are counted."""
PRIOR = 20.0
"""Excursions that the fleet's mean tail counts for in each series' own."""
LEAST_SCALE = 0.05
"""Smallest tail scale, in score units: a series that never varied must not alarm at a hair's breadth."""
LIMIT = 0.5
"""Largest tail shape believed. The smallest used is 0: a tail is never taken to be bounded, since the training
window need not hold the worst of quiet times."""
DEFAULT_SHAPE = 0.1
FEW = 5
"""Fewer excursions say nothing of a series' own tail shape."""

Floats = NDArray[np.float64]
PREFIX = "calibration."


@dataclass(frozen=True, slots=True)
class Tail:
    """Episode tail of each series, all [S]: ``rate`` excursions a step above ``level``, their scale and shape."""

    level: Floats
    rate: Floats
    scale: Floats
    shape: Floats

    def rate_above(self, score: Floats) -> Floats:
        """Expected excursions a step that exceed ``score``; above 1 means nothing and is cut."""
        height = np.maximum(score - self.level, 0.0) / self.scale
        curved = np.maximum(self.shape, 1e-9)
        share = np.where(self.shape > 1e-6, np.exp(-np.log1p(curved * height) / curved), np.exp(-height))
        return np.clip(self.rate * share, 0.0, 1.0)

    def threshold(self, rate: float) -> Floats:
        """The score exceeded by ``rate`` excursions a step."""
        rarity = np.log(np.maximum(self.rate / max(rate, 1e-300), 1.0))
        curved = np.maximum(self.shape, 1e-9)
        height = np.where(self.shape > 1e-6, np.expm1(np.minimum(curved * rarity, 50.0)) / curved, rarity)
        return self.level + self.scale * height


def sustained(score: NDArray[np.floating], steps: int) -> Floats:
    """Minimum of the last ``steps`` scores, [S, T]; NaN where one of them is missing."""
    values = np.asarray(score, np.float64)
    out = np.full(values.shape, np.nan)
    if values.shape[1] >= steps:
        windows = np.lib.stride_tricks.sliding_window_view(values, steps, axis=1)
        out[:, steps - 1 :] = windows.min(axis=2)
    return out


def calibrate(score: NDArray[np.floating], min_duration_steps: int, apart_steps: int) -> dict[str, NDArray[np.generic]]:
    """Moments of the excursions of each series, as arrays [S] to be kept in the model's state.

    Args:
        score: training scores [S, T], best from a fit that did not see them.
        min_duration_steps: length of an episode.
        apart_steps: excursions closer than this are one.
    """
    statistic = sustained(score, min_duration_steps)
    known = np.isfinite(statistic)
    count = known.sum(1)
    ordered = np.sort(np.where(known, statistic, np.inf), axis=1)
    place = np.floor(LEVEL * np.maximum(count - 1, 0)).astype(np.int64)
    level = np.where(count > 0, np.take_along_axis(ordered, place[:, None], 1)[:, 0] if ordered.size else 0.0, 0.0)
    above = known & (np.where(known, statistic, -np.inf) > level[:, None])
    peaks, owner = _peaks(statistic, above, apart_steps)
    excess = peaks - level[owner]
    order = np.lexsort((excess, owner))
    excess, owner = excess[order], owner[order]
    episodes = np.bincount(owner, minlength=len(level)).astype(np.float64)
    first = np.concatenate([[0], np.cumsum(episodes)[:-1]]).astype(np.int64) if len(level) else np.empty(0, np.int64)
    rank = np.arange(len(excess)) - first[owner]
    survive = (episodes[owner] - rank - 0.65) / np.maximum(episodes[owner], 1)
    mean = np.bincount(owner, weights=excess, minlength=len(level)) / np.maximum(episodes, 1)
    weighted = np.bincount(owner, weights=excess * survive, minlength=len(level)) / np.maximum(episodes, 1)
    return {
        PREFIX + "level": level,
        PREFIX + "episodes": episodes,
        PREFIX + "steps": count.astype(np.float64),
        PREFIX + "mean": mean,
        PREFIX + "weighted": weighted,
    }


def _peaks(statistic: Floats, above: NDArray[np.bool_], apart: int) -> tuple[Floats, NDArray[np.int64]]:
    """Highest value of each excursion, and the series it belongs to."""
    row, column = np.nonzero(above)
    if not len(row):
        return np.empty(0), np.empty(0, np.int64)
    new = np.ones(len(row), bool)
    new[1:] = (np.diff(row) != 0) | (np.diff(column) > apart)
    starts = np.flatnonzero(new)
    return np.maximum.reduceat(statistic[row, column], starts), row[starts]


def tail_of(state: State) -> Tail:
    """The episode tails in a state that :func:`calibrate` has annotated, shrunk towards the fleet's."""
    level, episodes, steps, mean, weighted = (
        np.asarray(state.arrays[PREFIX + name], np.float64)
        for name in ("level", "episodes", "steps", "mean", "weighted")
    )
    total = episodes.sum()
    fleet_mean = float((episodes * mean).sum() / total) if total else 0.5
    own = np.clip(2 - mean / np.maximum(mean - 2 * weighted, 1e-9), -LIMIT, LIMIT)
    # Averaged over series, not fitted to all excursions at once: a mixture of scales looks like a heavy tail.
    weight = np.where(episodes >= FEW, episodes, 0.0)
    fleet = float((weight * own).sum() / weight.sum()) if weight.any() else DEFAULT_SHAPE
    trust = weight / (weight + 5 * PRIOR)
    shape = np.clip(trust * own + (1 - trust) * fleet, 0.0, LIMIT)
    mean = (episodes * mean + PRIOR * fleet_mean) / (episodes + PRIOR)
    scale = np.maximum(mean * (1 - shape), LEAST_SCALE)
    rate = np.maximum(episodes, 1.0) / np.maximum(steps, 1.0)
    return Tail(level, rate, scale, shape)


@dataclass(frozen=True, slots=True)
class Policy:
    """How many false episodes a day over all ``series`` are accepted, and what makes one episode."""

    false_alarms_per_day: float
    min_duration_steps: int
    resolve_after_steps: int

    def rate(self, step_ms: int, series: int) -> float:
        """Accepted false episodes a step for each series: equal shares of the day's budget."""
        return self.false_alarms_per_day * step_ms / DAY_MS / max(series, 1)


@dataclass(frozen=True, slots=True)
class Direction:
    """Which deviations matter, per series [S]: ``sign`` +1 up, -1 down, 0 both; ``least`` and ``share`` floors."""

    sign: NDArray[np.int8]
    least: Floats
    share: Floats

    def matters(self, value: Floats, expected: Floats) -> NDArray[np.bool_]:
        """True where the deviation points the bad way and is large enough for anyone to care."""
        deviation = value - expected
        signed = np.where(self.sign == 0, np.abs(deviation), deviation * self.sign)
        return np.asarray(signed >= np.maximum(self.least, self.share * np.abs(expected)) - 1e-12) & (signed > 0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one step changed, as row numbers: newly ``opened``, still ``open``, just ``closed``."""

    opened: NDArray[np.int64]
    open: NDArray[np.int64]
    closed: NDArray[np.int64]


class Judge:
    """Episodes of one group of series, step by step. Not thread-safe.

    Args:
        tail: from :func:`tail_of`.
        direction: per series.
        policy: the budget.
        step_ms: the group's step.
        fleet: series watched in all groups together; the budget is shared among them.
    """

    def __init__(self, tail: Tail, direction: Direction, policy: Policy, step_ms: int, fleet: int) -> None:
        size = len(tail.level)
        self._tail = tail
        self._direction = direction
        self._policy = policy
        self._step_ms = step_ms
        self._absent_limit = 4 * policy.resolve_after_steps
        self.run = np.zeros(size, np.int64)
        self.quiet = np.zeros(size, np.int64)
        self.open = np.zeros(size, bool)
        self.set_fleet(fleet)

    def set_fleet(self, fleet: int) -> None:
        self.threshold = self._tail.threshold(self._policy.rate(self._step_ms, fleet))

    def p_value(self, score: Floats) -> Floats:
        """Chance a step of a false episode at least this high, per series."""
        return self._tail.rate_above(score)

    def reopen(self, rows: NDArray[np.int64]) -> None:
        """Take these series as being in an episode, as after a restart."""
        self.open[rows] = True
        self.run[rows] = self._policy.min_duration_steps

    def step(self, score: Floats, value: Floats, expected: Floats) -> Verdict:
        """Judge one closed step, all [S]. A NaN score is a missing step: it neither starts nor soothes an episode,
        but a series that stays away for long is let go."""
        known = np.isfinite(score)
        matters = known & self._direction.matters(value, expected)
        high = matters & (np.where(known, score, 0.0) >= self.threshold)
        calm = known & ~(matters & (np.where(known, score, 0.0) >= self._tail.level))
        self.run = np.where(known, np.where(high, self.run + 1, 0), self.run)
        quiet = np.where(
            calm, self.quiet + 1, np.where(known, 0, self.quiet + self._policy.resolve_after_steps / self._absent_limit)
        )
        self.quiet = np.where(self.open, quiet, 0)
        opened = ~self.open & high & (self.run >= self._policy.min_duration_steps)
        closed = self.open & (self.quiet >= self._policy.resolve_after_steps)
        self.open = (self.open | opened) & ~closed
        self.quiet[opened | closed] = 0
        return Verdict(np.flatnonzero(opened), np.flatnonzero(self.open & ~opened), np.flatnonzero(closed))
