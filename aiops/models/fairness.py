"""Whether a model's false alarms fall on one group's services: rates over named groups, with intervals and a test.

Groups are the values of a label that the user names, such as ``team``. A group's exposure are its watched series times
the days looked at. Intervals of rates are Byar's (Breslow and Day 1987), of shares Wilson's. The test of equal rates
is exact by simulation: given all false alarms, each falls on a group with its share of the exposure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aiops.core.anomaly import Anomaly, Judgement, Mark
from aiops.models.guards import wilson

UNNAMED = "(none)"
SIMULATIONS = 20_000
LEVEL = 0.05
Z = 1.959964


@dataclass(frozen=True, slots=True)
class GroupRates:
    """One group: its series, alarms, those marked false and marked at all.

    ``rate`` is false alarms a series-month with its interval; ``share`` of the marked alarms that are false.
    """

    group: str
    series: int
    alarms: int
    false: int
    marked: int
    rate: tuple[float, float, float]
    share: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Fairness:
    """By one label. ``p`` is of equal rates of false alarms in all groups, NaN where there were none; ``alarms_p``
    the same of all alarms. ``unequal`` where either is below 5 %."""

    label: str
    groups: tuple[GroupRates, ...]
    p: float
    alarms_p: float

    @property
    def unequal(self) -> bool:
        return self.p < LEVEL or self.alarms_p < LEVEL


def fairness(
    label: str,
    series: Sequence[Mapping[str, str]],
    alarms: Sequence[Anomaly],
    marks: Sequence[Mark],
    days: float,
) -> Fairness:
    """Rates by the values of ``label``.

    Args:
        series: labels of the watched series.
        alarms: episodes of the model in the last ``days``.
        marks: people's judgements; of several on one episode the last counts.
    """
    watched = Counter(one.get(label) or UNNAMED for one in series)
    said = {mark.anomaly_id: mark.judgement for mark in marks if mark.anomaly_id}
    groups, false, total = [], [], []
    fallen: dict[str, list[Anomaly]] = {}
    for alarm in alarms:
        fallen.setdefault(dict(alarm.series).get(label) or UNNAMED, []).append(alarm)
    for name in sorted({*watched, *fallen}):
        mine = fallen.get(name, [])
        judged = [said[a.id] for a in mine if a.id in said]
        wrong = sum(one is Judgement.FALSE for one in judged)
        months = max(watched[name], 1) * days / 30
        share = (wrong / len(judged), *wilson(wrong, len(judged))) if judged else (math.nan,) * 3
        groups.append(GroupRates(name, watched[name], len(mine), wrong, len(judged), rate_of(wrong, months), share))
        false.append(wrong)
        total.append(len(mine))
    exposure = [max(group.series, 1) for group in groups]
    return Fairness(label, tuple(groups), equal_rates(false, exposure), equal_rates(total, exposure))


def rate_of(events: int, exposure: float) -> tuple[float, float, float]:
    """Events by exposure with their 95 % interval by Byar's approximation to the exact one."""
    if exposure <= 0:
        return (math.nan,) * 3
    low = events * (1 - 1 / (9 * events) - Z / (3 * math.sqrt(events))) ** 3 if events else 0.0
    more = events + 1
    high = more * (1 - 1 / (9 * more) + Z / (3 * math.sqrt(more))) ** 3
    return events / exposure, low / exposure, high / exposure


def equal_rates(events: Sequence[int], exposure: Sequence[float], seed: int = 0) -> float:
    """P-value of equal rates: the chance of counts as uneven as these; NaN without events or for one group."""
    total = sum(events)
    if len(events) < 2 or not total:
        return math.nan
    shares = np.array(exposure, float) / sum(exposure)
    expected = total * shares
    drawn = np.random.default_rng(seed).multinomial(total, shares, SIMULATIONS)
    found = ((np.array(events) - expected) ** 2 / expected).sum()
    uneven = ((drawn - expected) ** 2 / expected).sum(1) >= found - 1e-9
    return float((1 + uneven.sum()) / (SIMULATIONS + 1))
