"""Parts of a score on one scale, and smoothing of finished score rows.

Every part of every detector (a residual, an energy over a window, …) is measured in units of its own usual size on
the training window: the excess over its median, divided by the distance from the median to the 90 % quantile.
A score is the root mean square of the logarithms of those excesses, ``sqrt(mean(log(1 + excess)^2))``: the
logarithm keeps one wild part from drowning the others, the square lets clear evidence outweigh many small doubts.
So 0 is at or below the usual, about 0.7 the 90 % quantile, 2.4 ten and 4.6 a hundred times that distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detectors.support.robust import quantiles

LEAST_GAP = 0.25
"""Parts are in spreads, where normal noise has a gap of about 1; a flat series must not have none."""
MAX_SAMPLE = 4096
"""Steps at most that a quantile is read from; longer rows are thinned evenly."""


def scale_of(parts: Sequence[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Medians and gaps to the 90 % quantiles of parts [S, T] where ``mask`` is true; [S, P] each."""
    every = -(-mask.shape[1] // MAX_SAMPLE)
    cuts = [quantiles(part[:, ::every], mask[:, ::every], (0.5, 0.9)) for part in parts]
    median = torch.stack([cut[:, 0] for cut in cuts], 1)
    high = torch.stack([cut[:, 1] for cut in cuts], 1)
    return median, (high - median).clamp(min=LEAST_GAP)


def combine(
    parts: Mapping[str, torch.Tensor], median: torch.Tensor, gap: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The score [S, T] and what each part contributes to it; contributions add up to the score."""
    squares = {}
    for number, (name, part) in enumerate(parts.items()):
        excess = ((part - median[:, number, None]) / gap[:, number, None]).clamp_(min=0)
        squares[name] = excess.log1p_().square_().div_(len(parts))
    return shares(squares)


def shares(squares: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Root of the sum of squares, and each one's share of it."""
    score = torch.stack(list(squares.values())).sum(0).sqrt_()
    whole = score.clamp(min=1e-6)
    return score, {name: square / whole for name, square in squares.items()}


def centred_mean(score: NDArray[np.float32], mask: NDArray[np.bool_], width: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean of the observed scores in a window of ``width`` [S] steps around each; looks ahead."""
    place = np.arange(score.shape[1])[None]
    wide = np.maximum(width, 1)[:, None]
    low, high = np.maximum(place - wide // 2, 0), np.minimum(place + (wide + 1) // 2, score.shape[1])
    return _mean_between(score, mask, low, high)


def trailing_mean(score: NDArray[np.float32], mask: NDArray[np.bool_], width: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean of the observed scores among the last ``width`` [S] steps."""
    place = np.arange(score.shape[1])[None]
    return _mean_between(score, mask, np.maximum(place + 1 - np.maximum(width, 1)[:, None], 0), place + 1)


def _mean_between(
    score: NDArray[np.float32], mask: NDArray[np.bool_], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.float32]:
    total = np.pad(np.cumsum(np.where(mask, score, 0.0), 1, dtype=np.float64), ((0, 0), (1, 0)))
    count = np.pad(np.cumsum(mask, 1), ((0, 0), (1, 0)))
    high, low = np.broadcast_to(high, score.shape), np.broadcast_to(low, score.shape)
    seen: NDArray[np.int64] = np.take_along_axis(count, high, 1) - np.take_along_axis(count, low, 1)
    mean = (np.take_along_axis(total, high, 1) - np.take_along_axis(total, low, 1)) / np.maximum(seen, 1)
    out: NDArray[np.float32] = mean.astype(np.float32)
    return out
