"""People's marks: how they move a series' threshold, and what they say of the models' precision and recall.

A false alarm makes the series' next one four times rarer, a true one lets it be twice as frequent; both fade over
two months. With several people's marks on one anomaly the latest counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiops.core.anomaly import Judgement, Mark
from aiops.core.series import Labels

HALF_LIFE_MS = 60 * 86_400_000
FALSE_SHIFT, TRUE_SHIFT = math.log(4.0), -math.log(2.0)
SHIFTS = (-1.5, 6.0)
Z = 1.959964


def latest(marks: Iterable[Mark]) -> list[Mark]:
    """The last judgement of each anomaly, and all that were missed."""
    found: dict[object, Mark] = {}
    for number, mark in enumerate(marks):
        found[mark.anomaly_id or number] = mark
    return list(found.values())


def offsets(marks: Iterable[Mark], now_ms: int) -> dict[tuple[str, Labels], float]:
    """How much rarer, as a logarithm, an alarm on each marked series must be: by metric and labels.

    A missed one counts as a true one.
    """
    total: dict[tuple[str, Labels], float] = {}
    for mark in latest(marks):
        fade = 0.5 ** (max(now_ms - mark.time_ms, 0) / HALF_LIFE_MS)
        shift = FALSE_SHIFT if mark.judgement is Judgement.FALSE else TRUE_SHIFT
        key = (mark.metric, mark.series)
        total[key] = total.get(key, 0.0) + fade * shift
    return {key: min(max(value, SHIFTS[0]), SHIFTS[1]) for key, value in total.items()}


@dataclass(frozen=True, slots=True)
class Share:
    """``hits`` of ``count``, with the 95 % interval by Wilson (1927); all NaN where there is nothing to count."""

    hits: int
    count: int
    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Quality:
    """What the labels say of one model, or of all (empty ``model``).

    ``recall`` knows only the misses that people told of.
    """

    model: str
    precision: Share
    recall: Share


def quality(marks: Sequence[Mark]) -> list[Quality]:
    """By model version, the newest name last, after that of all together."""
    own = latest(marks)
    names = sorted({mark.model for mark in own if mark.model}, key=_by_version)
    return [_quality("", own), *(_quality(name, [m for m in own if m.model == name]) for name in names)]


def _by_version(reference: str) -> tuple[str, int, str]:
    name, _, number = reference.partition("/")
    return name, int(number) if number.isdigit() else -1, number


def _quality(model: str, marks: Sequence[Mark]) -> Quality:
    true, false, missed = (sum(mark.judgement is kind for mark in marks) for kind in Judgement)
    return Quality(model, share(true, true + false), share(true, true + missed))


def share(hits: int, count: int) -> Share:
    """
    >>> share(8, 10)
    Share(hits=8, count=10, value=0.8, lower=0.4901624715366624, upper=0.943317848545625)
    """
    if not count:
        return Share(hits, count, math.nan, math.nan, math.nan)
    p = hits / count
    middle = p + Z**2 / (2 * count)
    half = Z * math.sqrt(p * (1 - p) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return Share(hits, count, p, min(max((middle - half) / scale, 0.0), p), max(min((middle + half) / scale, 1.0), p))
