"""What ends a trial: guards over what both versions said of the same series, each a sequential test.

Every guard counts hits among looks and asks whether the share of hits is above its limit ``p0``. The evidence is the
likelihood ratio of the hits, averaged over a grid of shares above ``p0``, against ``p0``. Where the true share is
at most ``p0`` it is a supermartingale, so that the chance that it ever exceeds ``1 / a`` is at most ``a`` however
often one looks (Ville 1939; Robbins 1970). Each guard gets an equal part of ``false_rollback_rate``.

What is counted is chosen so that one fault is not many looks: an episode and not its steps, an episode that only one
version sees and not one that both see, a series without scores and not its values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from aiops.models.trial_record import TrialRecord
from aiops.settings.models import DeploymentSettings

FEW = ("alerts", "agreement", "precision")
"""Guards with few looks, which keep a candidate from being promoted only where they are above their limit by Wilson's
interval; the others do where their share is."""
GUARDS = ("errors", "nan", "latency", "cost", "alerts", "alone", "agreement", "precision")
_GRID = 400


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard's figures: ``hits`` of ``looks``, the ``limit`` of their share, Wilson's 95 % interval, and the
    evidence against the candidate as a likelihood ratio's logarithm, to be compared with ``needed``."""

    name: str
    hits: int
    looks: int
    limit: float
    lower: float
    upper: float
    evidence: float
    needed: float

    @property
    def broken(self) -> bool:
        """Whether the share is above its limit beyond chance."""
        return self.evidence >= self.needed

    @property
    def doubtful(self) -> bool:
        """Whether the candidate must not be promoted as things stand."""
        share = self.lower if self.name in FEW else self.hits / max(self.looks, 1)
        return bool(self.looks) and share > self.limit

    def __str__(self) -> str:
        share = self.hits / self.looks if self.looks else 0.0
        return (
            f"{self.name}: {self.hits} of {self.looks} ({share:.0%}, 95 % {self.lower:.0%} to {self.upper:.0%}; "
            f"limit {self.limit:.0%})"
        )


class Outcome(StrEnum):
    GO_ON = "go on"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and why, with figures."""

    outcome: Outcome
    reason: str
    guards: tuple[Guard, ...]


def evidence(hits: int, looks: int, limit: float) -> float:
    """Logarithm of the averaged likelihood ratio of the share being above ``limit`` against its being ``limit``."""
    if not looks:
        return 0.0
    shares = limit + (1 - limit) * (np.arange(_GRID) + 0.5) / _GRID
    ratio = hits * np.log(shares / limit) + (looks - hits) * np.log((1 - shares) / (1 - limit))
    top = float(ratio.max())
    return top + math.log(float(np.exp(ratio - top).mean()))


def wilson(hits: int, looks: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share (1927); (0, 1) without looks."""
    if not looks:
        return 0.0, 1.0
    share, spread = hits / looks, z * z / looks
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / looks + spread / (4 * looks)) / (1 + spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def guards(record: TrialRecord, settings: DeploymentSettings, marks: tuple[int, int] = (0, 0)) -> tuple[Guard, ...]:
    """All guards as they stand.

    Args:
        marks: of the candidate's anomalies that people judged, those found false, and all.
    """
    counts = record.counts()
    alone, stable_alone, both = counts["candidate_alone"], counts["stable_alone"], counts["both"]
    ratio = settings.max_alert_ratio
    looked = {
        "errors": (counts["errors"], counts["calls"], settings.max_error_share),
        "nan": (record.series_without(settings.max_nan_share), counts["series"], settings.max_nan_share),
        "latency": (counts["slow"], counts["calls"] - counts["errors"], 0.5),
        "cost": (counts["dear"], counts["calls"] - counts["errors"], 0.5),
        "alerts": (alone, alone + stable_alone, ratio / (1 + ratio)),
        "alone": (counts["series_alone"], counts["series"], settings.max_alone_share),
        "agreement": (alone + stable_alone, alone + stable_alone + both, 1 - settings.min_agreement),
        "precision": (*marks, 1 - settings.min_precision),
    }
    needed = math.log(len(GUARDS) / settings.false_rollback_rate)
    return tuple(
        Guard(name, hits, looks, limit, *wilson(hits, looks), evidence(hits, looks, limit), needed)
        for name, (hits, looks, limit) in looked.items()
    )


def judge(
    record: TrialRecord, elapsed_ms: int, settings: DeploymentSettings, marks: tuple[int, int] = (0, 0)
) -> Verdict:
    """Roll back where a guard is broken; promote with a sufficient sample after the least time where none is
    doubtful; roll back what is not decided at the longest time."""
    found = guards(record, settings, marks)
    broken = [g for g in found if g.broken]
    if broken:
        worst = max(broken, key=lambda g: g.evidence)
        return Verdict(Outcome.ROLL_BACK, str(worst), found)
    points = record.counts()["points"]
    held = "; ".join(str(g) for g in found if g.looks)
    least_s = min(settings.min_time_s, settings.max_time_s)
    doubtful = [g for g in found if g.doubtful]
    enough = points >= settings.min_sample and elapsed_ms >= least_s * 1000
    if enough and not doubtful and settings.auto_promote:
        return Verdict(Outcome.PROMOTE, f"every guard held over {points} values: {held}", found)
    if elapsed_ms < settings.max_time_s * 1000:
        return Verdict(Outcome.GO_ON, "", found)
    if points < settings.min_sample:
        reason = f"only {points} of {settings.min_sample} values were scored by both in {settings.max_time_s:g} s"
    elif doubtful:
        reason = f"{doubtful[0]}; above its limit after {settings.max_time_s:g} s"
    else:
        reason = f"nobody promoted it in {settings.max_time_s:g} s, and auto_promote is off"
    return Verdict(Outcome.ROLL_BACK, reason, found)
