"""Figures of a window that lies in the past: a series' mean and extremes over it, not what it was at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aiops.agent.validator import parse, uses
from aiops.core.evidence import Figure
from aiops.core.query import MetricStep
from aiops.core.series import METRIC_NAME, Labels, SampleBlock

SHAPES = frozenset({"value", "top", "threshold", "ratio", "quantile"})
"""Shapes whose values mean something at every moment; counts and ages do at the end only."""
RANGE_SHARE = 4
"""An expression that looks back over more than this part of the window says at its end what the window holds."""
MEAN, HIGHEST, LOWEST = "mean", "highest", "lowest"


@dataclass(frozen=True, slots=True)
class Course:
    """A series over the window, in its own unit."""

    labels: Labels
    mean: float
    high: float
    low: float

    def decisive(self, step: MetricStep) -> float:
        """What the threshold is compared with, and the order follows: the extreme that it asks for, or the mean."""
        if step.threshold is None or step.threshold.op in ("==", "!="):
            return self.mean
        return self.low if step.threshold.op in ("<", "<=") else self.high

    def figures(self, step: MetricStep) -> tuple[Figure, Figure]:
        """The decisive figure without a name, then the one beside it with its name."""
        low = step.bad == "low" if step.threshold is None else step.threshold.op in ("<", "<=")
        if step.threshold is not None and step.threshold.op not in ("==", "!="):
            return Figure(self.decisive(step), step.unit, self.labels), Figure(self.mean, step.unit, self.labels, MEAN)
        extreme = Figure(self.low if low else self.high, step.unit, self.labels, LOWEST if low else HIGHEST)
        return Figure(self.mean, step.unit, self.labels), extreme


def asks_for_course(step: MetricStep, start_ms: int, end_ms: int) -> bool:
    """Whether the step's window lies in the past and its values are to be taken over all of it."""
    if step.window.end_ms is None or step.shape not in SHAPES:
        return False
    longest = max((use.selector.range_ms or 0 for use in uses(parse(step.promql))), default=0)
    return RANGE_SHARE * longest <= end_ms - start_ms


def courses(block: SampleBlock, most: int) -> list[Course]:
    """One for each of the first ``most`` series that has a finite value."""
    found = []
    for i, labels in enumerate(block.labels[:most]):
        _, values = block.series(i)
        known = values[np.isfinite(values)]
        if len(known):
            name = tuple(p for p in labels if p[0] != METRIC_NAME)
            found.append(Course(name, float(known.mean()), float(known.max()), float(known.min())))
    return found


def drawn(block: SampleBlock, wanted: Sequence[Labels]) -> SampleBlock | None:
    """The wanted series of a range, for the chart."""
    at = {tuple(p for p in labels if p[0] != METRIC_NAME): i for i, labels in enumerate(block.labels)}
    chosen = [(labels, *block.series(at[labels])) for labels in wanted if labels in at]
    return SampleBlock.build(chosen) if chosen else None
