"""Scores of different detectors on one scale, and smoothing of finished score rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from detectors.support.robust import quantiles

LEAST_GAP = 0.25
"""Members score in spreads, where normal noise has a gap of about 1; a flat series must not have none."""


def scale_of(score: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Median and 90 % quantile of each series' finite scores, [S] each; 0 and 1 for a series with none."""
    mask = score.isfinite()
    cuts = quantiles(torch.where(mask, score, 0.0), mask, (0.5, 0.9))
    gap = (cuts[:, 1] - cuts[:, 0]).clamp(min=LEAST_GAP)
    return cuts[:, 0], torch.where(mask.any(1), cuts[:, 0] + gap, torch.ones_like(gap))


def excess(score: torch.Tensor, median: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Log of the excess over the median in units of the distance to the 90 % quantile, at least 0."""
    unit = (high - median).clamp(min=LEAST_GAP)[:, None]
    return torch.log1p(((score - median[:, None]) / unit).clamp(min=0))


def centred_mean(score: NDArray[np.float32], mask: NDArray[np.bool_], width: int) -> NDArray[np.float32]:
    """Mean of the observed scores in a window of ``width`` steps around each; looks ahead, so for finished ranges."""
    size = score.shape[1]
    place = np.arange(size)
    low, high = np.maximum(place - width // 2, 0), np.minimum(place + (width + 1) // 2, size)
    total = np.pad(np.cumsum(np.where(mask, score, 0.0), 1, dtype=np.float64), ((0, 0), (1, 0)))
    count = np.pad(np.cumsum(mask, 1), ((0, 0), (1, 0)))
    seen: NDArray[np.int64] = count[:, high] - count[:, low]
    mean: NDArray[np.float32] = ((total[:, high] - total[:, low]) / np.maximum(seen, 1)).astype(np.float32)
    return mean
