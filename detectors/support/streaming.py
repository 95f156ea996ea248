"""A range scored as if it arrived one step after the other: refits on what has been, never looks ahead.

What the detection loop does over days, in memory and for whole batches: the detector is fitted on the trailing
window once there is enough of it and again each time the past has grown by a share; between two fits every step is
scored by the state of the last one. A step's score never changes when later ones arrive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops.core.ports import Detector
from detectors.support.smoothing import running
from detectors.support.windows import group_ragged

MAX_POINTS = 4_000_000
"""Grid cells scored in one go."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to refit.

    Attributes:
        first: steps before the first fit; they have no score.
        growth: the next fit comes when the past is this many times as long.
        block: but after this many steps at the latest.
        window: trailing steps that are fitted.
        context: steps before a block that its scores may look back on.
        sure: steps of history from which scores count in full; with fewer their square counts by the share.
    """

    first: int = 64
    growth: float = 1.25
    block: int = 5040
    window: int = 20_160
    context: int = 320
    sure: int = 700

    def blocks(self, size: int) -> Iterator[tuple[int, int]]:
        """(first, end) of the steps scored by each fit."""
        start = self.first
        while start < size:
            end = min(start + self.block, max(int(start * self.growth), start + 1))
            yield start, min(end, size)
            start = end


def stream_ranges(
    detector: Detector[Any],
    values: Sequence[NDArray[np.float64]],
    timestamps_ms: Sequence[NDArray[np.int64]],
    schedule: Schedule | None = None,
    smooth: bool = True,
) -> list[NDArray[np.float32]]:
    """Causal scores for every original point of ragged, irregular series; NaN before the first fit and in gaps."""
    plan = schedule or Schedule()
    out: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(values)
    for group in group_ragged(values, timestamps_ms, first=plan.first):
        batch = group.batch
        if not batch.values.size:
            continue
        rows = max(1, MAX_POINTS // max(batch.values.shape[1], 1))
        parts = [np.empty((0, batch.values.shape[1]), np.float32)]
        for start in range(0, len(batch), rows):
            part = batch.rows(start, start + rows)
            score: NDArray[np.float32] = np.full(part.values.shape, np.nan, np.float32)
            for a, b in plan.blocks(score.shape[1]):
                state = detector.fit(part.steps(max(a - plan.window, 0), a))
                ahead = min(a, plan.context)
                score[:, a:b] = detector.score(state, part.steps(a - ahead, b)).score[:, ahead:]
            score *= np.sqrt(np.minimum(np.arange(score.shape[1]) / plan.sure, 1)).astype(np.float32)
            parts.append(running(score) if smooth else score)
        for member, row in zip(group.members, group.back(np.concatenate(parts)), strict=True):
            out[member] = row
    return out
