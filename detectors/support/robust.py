"""Masked order statistics over [series, time] tensors, no loop over series."""

from __future__ import annotations

import numpy as np
import torch

NORMAL = 1.4826
"""MAD to standard deviation for a normal distribution."""


def quantiles(values: torch.Tensor, mask: torch.Tensor, levels: tuple[float, ...]) -> torch.Tensor:
    """Lower empirical quantiles of the observed values, [S, len(levels)]; 0 for a series with none."""
    count = mask.sum(1, keepdim=True)
    ordered = ascending(torch.where(mask, values, torch.inf))
    share = torch.tensor(levels, device=values.device, dtype=torch.float64)
    index = ((count - 1).clamp(min=0) * share).floor().long()
    picked = ordered.gather(1, index)
    return torch.where(count > 0, picked, torch.zeros_like(picked))


def ascending(values: torch.Tensor) -> torch.Tensor:
    """Rows in ascending order. NumPy's vector sort is several times faster than torch's on the CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(1).values


def spread(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Standard deviation by the MAD about zero, [S]."""
    return quantiles(values.abs(), mask, (0.5,))[:, 0] * NORMAL


def level(
    values: torch.Tensor, mask: torch.Tensor, relative_floor: float, range_floor: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Median, unit and the unit's floor of each series, [S] each.

    The unit is the spread about the median, but at least ``relative_floor`` of the median's size and
    ``range_floor`` of the central 98 % range.
    """
    cuts = quantiles(values, mask, (0.01, 0.5, 0.99))
    centre = cuts[:, 1]
    floor = torch.maximum(relative_floor * centre.abs(), range_floor * (cuts[:, 2] - cuts[:, 0])).clamp(min=1e-12)
    return centre, torch.maximum(spread(values - centre[:, None], mask), floor), floor


def trailing_mean(values: torch.Tensor, mask: torch.Tensor, width: int) -> torch.Tensor:
    """Mean of the observed values among the last ``width`` steps, [S, T]; 0 where there is none.

    Sums run in float64, so that a long series does not lose the early ones' digits.
    """
    total = torch.where(mask, values, 0.0).double().cumsum(1)
    count = mask.double().cumsum(1)
    pad = torch.nn.functional.pad
    total = total - pad(total, (width, 0))[:, : total.shape[1]]
    count = count - pad(count, (width, 0))[:, : count.shape[1]]
    return (total / count.clamp(min=1)).to(values.dtype)


def binned_medians(
    values: torch.Tensor, mask: torch.Tensor, bins: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Median of the observed values in each bin of each series.

    Args:
        values, mask: [S, T].
        bins: int64 [S, T] in [0, size).

    Returns:
        medians [S, size], 0 in an empty bin, and counts [S, size].
    """
    key = torch.where(mask, bins, size)
    by_value = torch.where(mask, values, torch.inf).argsort(1)
    by_bin = key.gather(1, by_value).argsort(dim=1, stable=True)
    ordered = values.gather(1, by_value.gather(1, by_bin))
    count = torch.zeros((values.shape[0], size + 1), dtype=torch.int64, device=values.device)
    count.scatter_add_(1, key, torch.ones_like(key))
    start = count.cumsum(1) - count
    lower = start + (count - 1).clamp(min=0) // 2
    upper = start + count // 2
    last = values.shape[1] - 1
    medians = 0.5 * (ordered.gather(1, lower.clamp(max=last)) + ordered.gather(1, upper.clamp(max=last)))
    return torch.where(count > 0, medians, 0.0)[:, :size], count[:, :size]


def fill_circular(profile: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Empty bins take the nearest known bin before them, around the circle; all empty gives 0."""
    size = profile.shape[1]
    position = torch.arange(2 * size, device=profile.device).expand(profile.shape[0], -1)
    seen = torch.where(known.repeat(1, 2), position, -1).cummax(1).values[:, size:]
    return torch.where(seen >= 0, profile.gather(1, seen.clamp(min=0) % size), 0.0)
