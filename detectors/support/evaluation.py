"""A finished range scored as a whole: fit on it, score it, average over time scales. For back tests and boards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch
from aiops.core.ports import Detector
from detectors.support.calibration import centred_mean
from detectors.support.windows import group_ragged

MAX_POINTS = 4_000_000
"""Grid cells fitted in one go."""
SCALES = (1, 4, 16, 64, 256)
"""Widths in steps over which scores are averaged; anomalies last from one step to hundreds."""


def score_ranges(
    detector: Detector[Any],
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
                score = multiscale(score)
            parts.append(score)
        for member, row in zip(group.members, group.back(np.concatenate(parts)), strict=True):
            out[member] = row
    return out


def multiscale(score: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over scales of the centred moving means, each in units of its own largest value; looks ahead."""
    mask = np.isfinite(score)
    total = np.zeros(score.shape, np.float32)
    for width in SCALES:
        mean = np.where(mask, centred_mean(score, mask, width), np.float32(0))
        total += mean / np.maximum(mean.max(1, keepdims=True, initial=0.0), 1e-9)
    return np.where(mask, total / len(SCALES), np.float32(np.nan))
