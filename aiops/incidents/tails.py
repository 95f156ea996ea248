"""How high the scores of a quiet series go: the tail of its excursions, and what it is worth in false alarms a day.

An alarm is an episode: the score of one series stays above its threshold for ``min_duration_steps``. So the
statistic that is calibrated is the running minimum of the score over that many steps, and what is counted is its
excursions above a high quantile, not its points: autocorrelation then costs nothing. Their heights follow a
generalised Pareto tail. Its shape is uncertain, so the rate expected above a height is the mean over the shape's
posterior: each series' own estimate, with an error found by leaving out one part of the window after the other,
shrunk towards the fleet's by how much shapes differ between series. Above the largest scores that one series has
seen, series of similar shape are pooled: how their highest excursions depart from what their tails said corrects
them all.

Sources: Pickands (1975) on the tail, Hosking and Wallis (1987) on moments, Efron and Morris
(1975) on shrinkage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import State

LEVEL = 0.95
"""Quantile of the training statistic above which excursions are counted."""
PRIOR = 20.0
"""Excursions that the fleet's mean height counts for in each series' own."""
LEAST_HEIGHT = 0.05
"""Smallest mean height, in score units: a series that never varied must not alarm at a hair's breadth."""
SHAPES = np.linspace(-0.4, 0.5, 19)
"""Tail shapes reckoned with."""
DEFAULT_SHAPE, DEFAULT_SPREAD, DEFAULT_WEIGHT = 0.05, 0.15, 5.0
"""The mixture of shapes to begin with: its mean, its spread, and how many series it counts for."""
ROUNDS = 60
FEW = 8
"""Fewer excursions say nothing of a series' own tail shape."""
PARTS = 8
"""Parts of the window left out in turn."""
RARITIES = np.arange(0.0, 36.1, 1.5)
"""Logarithms of how much rarer than an excursion an alarm is to be, at which heights are tabulated."""
Floats = NDArray[np.float64]
PREFIX = "calibration."
MOMENTS = ("level", "episodes", "steps", "mean", "square", "error")
TOP = 4
"""Highest excursions kept of each series."""
POOL = 500
"""Series of similar tails that are pooled, at least, where there are that many."""
RATIOS = (0.6, 2.5)
"""Limits of a pool's correction."""
LEAST_SLOPE = 0.15
"""Least steepness of a tail beyond what was seen, in mean heights for each factor e in rarity."""
DEEPEST, FEWEST = 200, 24
"""Number of a pool's highest excursions that correct it, at most and at least."""
TOGETHER = 10
"""Excursions of several series within so many steps may be one fault in the training window: they count once."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Excursions of each series, [S] each: ``rate`` a step above ``level``, their mean ``height``; and the ``table``
    [S, R] of heights above the level that the share ``exp(-r)`` of them exceeds, for each r of ``RARITIES``."""

    level: Floats
    rate: Floats
    height: Floats
    table: Floats

    def above(self, rarity: Floats) -> Floats:
        """Height [S] above the level at ``rarity`` [S]; beyond the table's end it goes on straight."""
        place = np.maximum(rarity, 0.0) / RARITIES[1]
        left = np.minimum(place, len(RARITIES) - 2).astype(np.int64)
        rows = np.arange(len(self.table))
        low, high = self.table[rows, left], self.table[rows, left + 1]
        return np.asarray(low + (place - left) * (high - low))

    def rate_above(self, score: Floats) -> Floats:
        """Expected excursions a step that exceed ``score``; above 1 means nothing and is cut."""
        height = np.maximum(score - self.level, 0.0)
        left = np.clip((self.table < height[:, None]).sum(1) - 1, 0, len(RARITIES) - 2)
        rows = np.arange(len(self.table))
        low, high = self.table[rows, left], self.table[rows, left + 1]
        rarity: Floats = RARITIES[left] + (height - low) / np.maximum(high - low, 1e-12) * RARITIES[1]
        return np.clip(self.rate * np.exp(-rarity), 0.0, 1.0)

    def threshold(self, rate: float) -> Floats:
        """The score exceeded by ``rate`` excursions a step."""
        return self.level + self.above(np.log(np.maximum(self.rate / max(rate, 1e-300), 1.0)))


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
    peaks, owner, when = peaks_of(statistic, above, apart_steps)
    excess = peaks - level[owner]
    size = len(level)
    order = np.lexsort((excess, owner))
    excess, owner, when = excess[order], owner[order], when[order]
    part = when * PARTS // max(statistic.shape[1], 1)
    n, mean, square = _moments(excess, owner, size)
    left_out = np.zeros((size, PARTS))
    for number in range(PARTS):
        keep = part != number
        left_out[:, number] = _shape(*_moments(excess[keep], owner[keep], size)[1:])
    spread = left_out - left_out.mean(1, keepdims=True)
    return {
        PREFIX + "level": level,
        PREFIX + "episodes": n,
        PREFIX + "steps": count.astype(np.float64),
        PREFIX + "mean": mean,
        PREFIX + "square": square,
        PREFIX + "error": np.sqrt((PARTS - 1) / PARTS * (spread**2).sum(1)),
        **_highest(excess, owner, when, n),
    }


def _highest(
    excess: Floats, owner: NDArray[np.int64], when: NDArray[np.int64], count: Floats
) -> dict[str, NDArray[np.generic]]:
    """The ``TOP`` largest excesses of each owner and their steps, [S, TOP]; NaN where there are fewer."""
    size = len(count)
    rank = np.cumsum(count)[owner] - 1 - np.arange(len(excess))
    keep = rank < TOP
    cells = (owner[keep], rank[keep].astype(np.int64))
    height, step = np.full((size, TOP), np.nan, np.float32), np.zeros((size, TOP), np.int32)
    height[cells], step[cells] = excess[keep], when[keep]
    return {PREFIX + "top": height, PREFIX + "top_step": step}


def peaks_of(
    statistic: Floats, above: NDArray[np.bool_], apart: int
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Highest value of each excursion, the series it belongs to, the step at which it began."""
    row, column = np.nonzero(above)
    if not len(row):
        return np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
    new = np.ones(len(row), bool)
    new[1:] = (np.diff(row) != 0) | (np.diff(column) > apart)
    starts = np.flatnonzero(new)
    return np.maximum.reduceat(statistic[row, column], starts), row[starts], column[starts]


def _moments(excess: Floats, owner: NDArray[np.int64], size: int) -> tuple[Floats, Floats, Floats]:
    """Number, mean and mean square of each owner's excesses."""
    n = np.bincount(owner, minlength=size).astype(np.float64)
    total, square = (np.bincount(owner, weights=w, minlength=size) for w in (excess, excess**2))
    return n, total / np.maximum(n, 1), square / np.maximum(n, 1)


def _shape(mean: Floats, square: Floats) -> Floats:
    """Tail shape by moments, which for light tails tells more than any other simple estimate."""
    return np.clip(0.5 * (1 - mean**2 / np.maximum(square - mean**2, 1e-12)), -1.0, 0.5)


def tail_of(state: State) -> Tail:
    """The tails in a state that :func:`calibrate` has annotated, shrunk towards the fleet's.

    Raises:
        KeyError: the state holds no calibration, or one of another kind.
    """
    level, episodes, steps, mean, square, error = (
        np.asarray(state.arrays[PREFIX + name], np.float64) for name in MOMENTS
    )
    total = episodes.sum()
    fleet_mean = float((episodes * mean).sum() / total) if total else 0.5
    belief = _belief(_shape(mean, square), error, episodes)
    height = (episodes * mean + PRIOR * fleet_mean) / (episodes + PRIOR)
    height = np.maximum(height, LEAST_HEIGHT)
    table = _heights(belief)
    pools = max(1, len(level) // POOL) if len(level) else 0
    pool = np.empty(len(level), np.int64)
    pool[np.argsort(belief @ SHAPES, kind="stable")] = np.arange(len(level)) * pools // max(len(level), 1)
    top = np.asarray(state.arrays[PREFIX + "top"], np.float64) / height[:, None]
    when = np.asarray(state.arrays[PREFIX + "top_step"], np.int64)
    for number in range(pools):
        mine = pool == number
        table[mine] = _pooled(table[mine], top[mine], when[mine], float(episodes[mine].sum()))
    rate = np.maximum(episodes, 1.0) / np.maximum(steps, 1.0)
    return Tail(level, rate, height, height[:, None] * table)


def _heights(belief: Floats) -> Floats:
    """Heights, in units of their mean, at each of ``RARITIES``, [S, R]: of the mean tail over the shapes believed."""
    grid = np.concatenate([np.linspace(0, 20, 201)[:-1], np.geomspace(20, 2000, 100)])
    curved = np.where(np.abs(SHAPES) < 1e-6, 1e-6, SHAPES)[:, None]
    with np.errstate(divide="ignore"):
        survival = np.exp(-np.log(np.maximum(1 + curved * grid / (1 - curved), 0.0)) / curved)
    rarity = -np.log(np.maximum(belief @ survival, 1e-300))
    out = np.zeros((len(belief), len(RARITIES)))
    rows = np.arange(len(belief))
    for column, wanted in enumerate(RARITIES):
        right = np.clip((rarity < wanted).sum(1), 1, len(grid) - 1)
        low, high = rarity[rows, right - 1], rarity[rows, right]
        share = np.clip((wanted - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
        out[:, column] = grid[right - 1] + share * (grid[right] - grid[right - 1])
    return out


def _pooled(table: Floats, top: Floats, when: NDArray[np.int64], count: float) -> Floats:
    """The heights of a pool, made to agree with its highest excursions as far as they reach; beyond, the tail is
    taken to be exponential, as steep as it was there.

    Args:
        table: [S, R] by the series' own tails.
        top, when: [S, TOP] highest excursions in units of their mean, and their steps.
        count: excursions of the pool in all.
    """
    flat = top.ravel()
    order = np.argsort(-np.nan_to_num(flat, nan=-np.inf), kind="stable")
    order = order[np.isfinite(flat[order])]
    first = np.unique(when.ravel()[order] // TOGETHER, return_index=True)[1]
    ranked = flat[order[np.sort(first)]]
    usual = table.mean(0)
    low = min(len(ranked) // 4, DEEPEST)
    if low < FEWEST:
        reach = float(np.log(max(count, 1) / 4 + 1))
        far, slope = reach < RARITIES, float(np.interp(reach, RARITIES[1:], np.diff(usual) / RARITIES[1]))
        factor = np.ones(len(RARITIES))
    else:
        ranks = np.array([low, max(low // 5, 5), max(low // 25, 2)])
        seen, said = np.log(count / (ranks + 0.5)), ranked[ranks]
        trust = len(ranked) / (len(ranked) + 50)
        own = np.interp(seen, RARITIES, usual)
        ratio = np.clip(said / own, *RATIOS) ** trust
        steep = [float(max(np.diff(x) / np.diff(seen))) for x in (said, own)]
        slope = trust * steep[0] + (1 - trust) * steep[1]
        reach = float(seen[2])
        far, factor = reach < RARITIES, np.interp(RARITIES, [0.0, *seen], [1.0, *ratio])
    at = np.array([np.interp(reach, RARITIES, row) for row in table]) * np.interp(reach, RARITIES, factor)
    beyond = at[:, None] + max(slope, LEAST_SLOPE) * np.maximum(RARITIES - reach, 0.0)
    return np.asarray(np.where(far, beyond, table * factor))


def _belief(own: Floats, error: Floats, episodes: Floats) -> Floats:
    """Posterior over ``SHAPES`` of each series' tail shape, [S, len(SHAPES)].

    The prior is the fleet's own mixture, found by expectation and maximisation: few series may be much heavier than
    most, and where one cannot be told from them, its tail must reckon with being so.
    """
    # The error on independent excursions is the least that it can be.
    deviation = np.maximum(error, 1 / np.sqrt(np.maximum(episodes, 1)))[:, None]
    distance = (np.clip(own, SHAPES[0], SHAPES[-1])[:, None] - SHAPES) / deviation
    likelihood = np.where(episodes[:, None] >= FEW, np.exp(-0.5 * distance**2) + 1e-12, 1.0)
    start = np.exp(-0.5 * ((SHAPES - DEFAULT_SHAPE) / DEFAULT_SPREAD) ** 2)
    start /= start.sum()
    prior = start
    for _ in range(ROUNDS):
        posterior = likelihood * prior
        posterior /= posterior.sum(1, keepdims=True)
        prior = (posterior.sum(0) + DEFAULT_WEIGHT * start) / (len(own) + DEFAULT_WEIGHT)
    posterior = likelihood * prior
    return np.asarray(posterior / posterior.sum(1, keepdims=True))
