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
    """Mean of the observed values among the last ``width`` steps, [S, T]; 0 where there is none."""
    return trailing_means(values, mask, (width,))[0]


def trailing_means(values: torch.Tensor, mask: torch.Tensor, widths: tuple[int, ...]) -> list[torch.Tensor]:
    """Means of the observed values among the last steps, one [S, T] a width; 0 where there is none.

    Sums run in float64, so that a long series does not lose the early ones' digits.
    """
    pad = torch.nn.functional.pad
    total = pad(torch.where(mask, values, 0.0).cumsum(1, dtype=torch.float64), (1, 0))
    count = pad(mask.cumsum(1, dtype=torch.int32), (1, 0))
    out = []
    for width in widths:
        first = min(width, values.shape[1])
        seen, part = count[:, 1:].clone(), total[:, 1:].clone()
        seen[:, first:] -= count[:, 1:-first] if first else 0
        part[:, first:] -= total[:, 1:-first] if first else 0
        out.append((part / seen.clamp(min=1)).to(values.dtype))
    return out


def forward_filled(values: torch.Tensor, mask: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Gaps take the last observed value, or ``before`` [S] where there is none yet; [S, T]."""
    place = torch.arange(1, values.shape[1] + 1, device=values.device)
    seen = torch.where(mask, place, 0).cummax(1).values
    return torch.cat([before[:, None], values], 1).gather(1, seen)


def between(mask: torch.Tensor) -> torch.Tensor:
    """True from the first to the last observation of each series."""
    seen = mask.cumsum(1, dtype=torch.int32)
    return (seen > 0) & (seen - mask.int() < seen[:, -1:])


def ring_means(ring: torch.Tensor, widths: tuple[int, ...]) -> list[torch.Tensor]:
    """Means of the known (not NaN) values among a ring's last columns, one [S, 1] a width; 0 where there is none."""
    known = ~ring.isnan()
    filled = torch.where(known, ring, 0.0).to(torch.float64)
    return [
        (filled[:, -w:].sum(1, keepdim=True) / known[:, -w:].sum(1, keepdim=True).clamp(min=1)).to(torch.float32)
        for w in widths
    ]


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
    # One sort by bin and value: the value's bits, made to order as integers, below the bin's.
    bits = values.contiguous().view(torch.int32).long()
    place = torch.where(bits < 0, -1 - (bits & 0x7FFFFFFF), bits) + (1 << 31)
    packed = ascending((key << 32) | place)
    place = (packed & 0xFFFFFFFF) - (1 << 31)
    bits = torch.where(place < 0, (-1 - place) | 0x80000000, place)
    ordered = torch.where(bits >= 1 << 31, bits - (1 << 32), bits).to(torch.int32).view(torch.float32)
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
