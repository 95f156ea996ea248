"""A finished range scored as a whole: fit on it, score it, look both ways. For back tests and boards.

A term that looks back on a window says most about the window's middle, so that its score is moved there, before
scores are averaged as :mod:`detectors.support.smoothing` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, Scores
from aiops.core.ports import Detector
from detectors.support.seasons import rhythm
from detectors.support.smoothing import finished
from detectors.support.windows import group_ragged

MAX_POINTS = 150_000
"""Grid cells fitted in one go: few enough that the arrays stay in the processor's cache."""


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
        if not batch.values.size:
            continue
        rows = max(1, MAX_POINTS // max(batch.values.shape[1], 1))
        parts = []
        for start in range(0, len(batch), rows):
            part = batch.rows(start, start + rows)
            scores = detector.score(detector.fit(part), part)
            parts.append(
                looking_both_ways(scores, detector.spans, part) if smooth and detector.calibrated else scores.score
            )
        for member, row in zip(group.members, group.back(np.concatenate(parts)), strict=True):
            out[member] = row
    return out


def looking_both_ways(scores: Scores, spans: Mapping[str, int], batch: Batch) -> NDArray[np.float32]:
    """Terms moved to the middle of their windows, and the result smoothed over what came before and after."""
    mask = np.isfinite(scores.score)
    width = rhythm(torch.from_numpy(batch.values), torch.from_numpy(batch.mask)).numpy()
    return finished(centred_square(scores, spans, mask), mask, width)


def centred_square(scores: Scores, spans: Mapping[str, int], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Square of the score, each term's part taken from half of its span later, or from the last step there is."""
    total: NDArray[np.float32] = np.zeros(scores.score.shape, np.float32)
    size = total.shape[1]
    seen: NDArray[np.int64] = np.maximum.accumulate(np.where(mask, np.arange(size), 0), axis=1)
    for name, term in scores.terms.items():
        square = np.where(mask, term * scores.score, np.float32(0))
        shift = min(spans.get(name, 1) // 2, max(size - 1, 0))
        if shift:
            later = np.concatenate([seen[:, shift:], np.repeat(seen[:, -1:], shift, axis=1)], axis=1)
            square = np.take_along_axis(square, later, 1)
        total += square
    return total
