"""Days, steps and creeping growth in daily cost that a group's own weekday and calendar past does not explain.

A day departs when it differs from the median of the same weekday over eight weeks by more than four median
absolute deviations *and* by more than ``variation`` (12 %) *and* the same day of last month does not show the
same excess (monthly fees, month-end jobs). Growth creeps when its four-week trend exceeds ``variation`` while no
single day does. A fall on the newest days is never reported: late bills look like that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.cost.calendar import Days, Money, day_of_month, days_to_month_end, same_weekday_past

MADS = 4.0
MAX_GAP = 2
"""Quiet days inside one episode: a step on working days pauses at the weekend."""
STEP_DAYS = 3
LATE_DAYS = 3
CREEP_WEEKS = 8
CREEP_MADS = 3.0
CREEP_JUMP = 0.55
"""Share of the whole rise that two weeks may bring; more is a step."""


@dataclass(frozen=True, slots=True)
class Episode:
    """Consecutive departing days of one group; indices into the history, ``last`` inclusive."""

    group: int
    first: int
    last: int
    kind: str
    amount: float
    expected: float
    excess: float


def find(days: Days, amounts: Money, variation: float, smallest: float) -> list[Episode]:
    """Episodes of all groups by first day.

    Args:
        days: [D] consecutive days since the epoch, all complete.
        amounts: [G, D] daily cost.
        variation: relative departure below which nothing is reported.
        smallest: money a day below which a departure does not matter.
    """
    if amounts.size == 0:
        return []
    expected, mad = same_weekday_past(amounts)
    residual = amounts - expected
    tolerance = np.maximum(np.maximum(MADS * mad, variation * np.abs(expected)), smallest)
    with np.errstate(invalid="ignore"):
        unusual = np.abs(residual) > tolerance
    unusual &= ~_explained_by_last_month(days, residual, tolerance)
    unusual[:, -LATE_DAYS:] &= residual[:, -LATE_DAYS:] > 0
    found: list[Episode] = []
    for group in range(len(amounts)):
        for sign in (1, -1):
            hits = np.flatnonzero(unusual[group] & (np.sign(residual[group]) == sign))
            for run in _runs(hits):
                first, last = int(run[0]), int(run[-1])
                span = slice(first, last + 1)
                found.append(
                    Episode(
                        group,
                        first,
                        last,
                        "step" if len(run) >= STEP_DAYS else "spike",
                        float(amounts[group, first]),
                        float(expected[group, first]),
                        float(np.nansum(residual[group, span])),
                    )
                )
        creep = _creep(group, amounts[group], variation, smallest)
        if creep is not None:
            found = [e for e in found if e.group != group or e.first < creep.first or not _part_of(e, creep)]
            found.append(creep)
    return sorted(found, key=lambda e: (e.first, e.group))


def _part_of(episode: Episode, creep: Episode) -> bool:
    """A day that stands out only because the ground rises is told as the rise."""
    return 0 < episode.amount - episode.expected <= 1.5 * (creep.amount - creep.expected)


def _runs(hits: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    if not len(hits):
        return []
    return np.split(hits, np.flatnonzero(np.diff(hits) > MAX_GAP + 1) + 1)


def _explained_by_last_month(days: Days, residual: Money, tolerance: Money) -> NDArray[np.bool_]:
    """True where the same calendar day of last month departed alike, a day off being allowed (weekends)."""
    explained = np.zeros(residual.shape, bool)
    first = int(days[0])
    for key in (day_of_month(days), days_to_month_end(days)):
        back = _previous_same(days, key)
        for shift in (0, -1, 1):
            at = back + shift - first
            known = (back >= 0) & (at >= 0) & (at < len(days))
            then = residual[:, np.where(known, at, 0)]
            with np.errstate(invalid="ignore"):
                alike = (np.abs(residual - then) <= tolerance) & (np.abs(then) > tolerance / 2)
            explained |= alike & known
    return explained


def _previous_same(days: Days, key: Days) -> Days:
    """The latest earlier day with the same key, 27 to 33 days before; -1 where there is none."""
    back = np.full(len(days), -1, np.int64)
    for lag in range(27, 34):
        if lag < len(days):
            same = key[lag:] == key[:-lag]
            back[lag:][same] = days[:-lag][same]
    return back


def _creep(group: int, amounts: Money, variation: float, smallest: float) -> Episode | None:
    """Steady growth over the last ``CREEP_WEEKS`` weeks, from weekly medians (one fee a month cannot bend them)."""
    span = CREEP_WEEKS * 7
    if len(amounts) < span or not np.all(np.isfinite(amounts[-span:])):
        return None
    weeks = amounts[-span:].reshape(CREEP_WEEKS, 7)
    level = np.median(weeks, axis=1)
    if level.min() <= 0:
        return None
    x = np.arange(CREEP_WEEKS)
    y = np.log(level)
    i, j = np.triu_indices(CREEP_WEEKS, 1)
    slope = float(np.median((y[j] - y[i]) / (j - i)))
    scatter = float(np.median(np.abs(y - np.median(y - slope * x) - slope * x)))
    growth = float(np.expm1(slope * 4))
    rising = int((np.diff(y) > 0).sum())
    line = np.exp(np.median(y - slope * x) + slope * x)
    excess_a_day = float(line[-1] - line[0])
    if growth <= variation or rising < CREEP_WEEKS - 3 or excess_a_day < smallest:
        return None
    if slope * (CREEP_WEEKS - 1) < CREEP_MADS * scatter:
        return None
    if float((y[2:] - y[:-2]).max()) > CREEP_JUMP * float(y[-1] - y[0]):
        return None
    excess = float((line - line[0]).sum() * 7)
    first = len(amounts) - span
    return Episode(group, first, len(amounts) - 1, "creep", float(line[-1]), float(line[0]), excess)
