"""Parts of a score on one scale.

Every part of every detector (a residual, an energy over a window, …) is measured in units of its own usual size on
the training window: the excess over its median, divided by the distance from the median to the 90 % quantile.
A score is the root mean square of the logarithms of those excesses, ``sqrt(mean(log(1 + excess)^2))``: the
logarithm keeps one wild part from drowning the others, the square lets clear evidence outweigh many small doubts.
So 0 is at or below the usual, about 0.7 the 90 % quantile, 2.4 ten and 4.6 a hundred times that distance.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from detectors.support.robust import quantiles

LEAST_GAP = 0.25
"""Parts are in spreads, where normal noise has a gap of about 1; a flat series must not have none."""
MAX_SAMPLE = 4096
"""Steps at most that a quantile is read from; longer rows are thinned evenly."""
UNSURE = 2.0
"""How much a gap widens, in units of the 90 % quantile, for a window as long as the history."""


def scale_of(
    parts: Mapping[str, torch.Tensor], mask: torch.Tensor, spans: Mapping[str, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Medians and gaps to the 90 % quantiles of parts [S, T] where ``mask`` is true; [S, P] each.

    A part that looks at windows of ``spans`` steps has seen few independent ones in a short history, so its usual
    size is less sure and the gap is widened by a share of it.
    """
    every = -(-mask.shape[1] // MAX_SAMPLE)
    count = mask.sum(1).clamp(min=1)
    medians, gaps = [], []
    for name, part in parts.items():
        cut = quantiles(part[:, ::every], mask[:, ::every], (0.5, 0.9))
        unsure = (spans.get(name, 1) / count).clamp(max=1.0)
        medians.append(cut[:, 0])
        gaps.append((cut[:, 1] - cut[:, 0]).clamp(min=LEAST_GAP) + UNSURE * unsure * cut[:, 1])
    return torch.stack(medians, 1), torch.stack(gaps, 1)


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
