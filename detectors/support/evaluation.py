"""A finished range scored as a whole: fit on it, score it, smooth by its rhythm. For back tests and boards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, State
from aiops.core.ports import Detector
from detectors.support.calibration import centred_mean
from detectors.support.windows import group_ragged

MAX_POINTS = 4_000_000
"""Grid cells fitted in one go."""
NO_RHYTHM = 24
"""Smoothing width in steps where a series has no period of its own."""


def score_ranges(
    detector: Detector[object],  # type: ignore[type-var]
    values: Sequence[NDArray[np.float64]],
    timestamps_ms: Sequence[NDArray[np.int64]],
    smooth: bool = True,
) -> list[NDArray[np.float32]]:
    """Scores for every original point of ragged, irregular series; NaN where nothing can be said."""
    out: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(values)
    for group in group_ragged(values, timestamps_ms):
        batch = group.batch
        rows = max(1, MAX_POINTS // max(batch.values.shape[1], 1))
        parts = []
        for start in range(0, len(batch), rows):
            cut = slice(start, start + rows)
            part = Batch(batch.values[cut], batch.mask[cut], batch.timestamps, batch.step_ms, batch.series_ids[cut])
            state = detector.fit(part)
            score = detector.score(state, part).score
            if smooth:
                mean = centred_mean(score, np.isfinite(score), widths(state))
                score = np.where(np.isfinite(score), mean, np.float32(np.nan))
            parts.append(score)
        for member, row in zip(group.members, group.back(np.concatenate(parts)), strict=True):
            out[member] = row
    return out


def widths(state: State) -> NDArray[np.int64]:
    """Smoothing width [S] in steps: the shortest rhythm found, at most a day and 128 steps."""
    found = [v for k, v in state.arrays.items() if k.rpartition(":")[2].startswith("period.")]
    width = np.full(len(state.series_ids), NO_RHYTHM, np.int64)
    if found:
        periods = np.stack([np.where(p > 0, p // state.step_ms, np.iinfo(np.int64).max) for p in found]).min(0)
        width = np.where(periods < np.iinfo(np.int64).max, np.minimum(periods, 128), width)
    return width
