"""Whitening of windows from the autocorrelation: how unlikely a stretch is for its own series.

The windows' covariance is taken to be Toeplitz (the series is stationary), so that its 16 numbers come from one
batched FFT autocorrelation instead of all windows; on ten sets of operational series the scores were as good as
those of the empirical covariance. Long windows are looked at in coarser steps: a resolution of 8 averages
8 steps into one sample, so 16 samples span 128 steps.
"""

from __future__ import annotations

import torch

from detectors.support.seasons import lag_products

CLIP = 8.0
"""Values enter the covariance at most this many spreads from the median."""
LEAST_VARIANCE = 0.05
"""Of a sample, in squared spreads, so that a flat series does not call a hair's breadth impossible."""
CHUNK_BYTES = 4 << 20

Scale = tuple[int, int]
"""Samples in the window, and steps a sample."""


def whitening(x: torch.Tensor, inside: torch.Tensor, scales: tuple[Scale, ...], ridge: float) -> list[torch.Tensor]:
    """Inverse Cholesky factors of the windows' covariances, float32 [S, w, w] a scale, oldest sample first.

    Args:
        x: centred values [S, T].
        inside: bool [S, T], true from the first to the last observation.
        ridge: white noise added, as a share of the variance of the samples.
    """
    lags = max(width * step for width, step in scales)
    count = inside.sum(1).clamp(min=1).double()
    moments = lag_products(torch.where(inside, x.clamp(-CLIP, CLIP), 0.0), lags) / count[:, None]
    out = []
    for width, step in scales:
        sampled = _of_means(moments, width, step)
        place = torch.arange(width, device=x.device)
        covariance = sampled[:, (place[:, None] - place[None, :]).abs()]
        least = (LEAST_VARIANCE - sampled[:, :1]).clamp(min=0.0)
        load = ridge * sampled[:, :1] + least
        covariance = covariance + torch.diag_embed(load.expand(-1, width))
        factor = torch.linalg.cholesky_ex(covariance).L
        eye = torch.eye(width, dtype=factor.dtype, device=x.device).expand_as(factor)
        out.append(torch.linalg.solve_triangular(factor, eye, upper=False).float())
    return out


def _of_means(moments: torch.Tensor, width: int, step: int) -> torch.Tensor:
    """Autocovariance [S, width] of means over ``step`` values, taken every ``step``."""
    place = torch.arange(width, device=moments.device) * step
    total = torch.zeros_like(moments[:, :width])
    for offset in range(1 - step, step):
        total = total + (step - abs(offset)) / step**2 * moments[:, (place + offset).abs()]
    return total


def energies(x: torch.Tensor, first: torch.Tensor, factor: torch.Tensor, step: int) -> torch.Tensor:
    """Mean square of the whitened window that ends at each step, [S, T].

    Args:
        x: centred values without gaps [S, T].
        first: what stands before the first step, [S].
        factor: of :func:`whitening`.
    """
    width, size = factor.shape[1], x.shape[1]
    ahead = first[:, None].expand(-1, width * step - 1)
    line = torch.cat([ahead, x], 1)
    if step > 1:
        total = torch.nn.functional.pad(line.cumsum(1, dtype=torch.float64), (1, 0))
        line = ((total[:, step:] - total[:, :-step]) / step).float()
    out = torch.empty_like(x)
    rows = max(1, CHUNK_BYTES // (4 * width * max(size, 1)))
    for start in range(0, len(x), rows):
        part = line[start : start + rows]
        shifted = torch.stack([part[:, k * step : k * step + size] for k in range(width)], 1)
        out[start : start + rows] = torch.bmm(factor[start : start + rows], shifted).square_().mean(1)
    return out


def last_energy(ring: torch.Tensor, factor: torch.Tensor, step: int) -> torch.Tensor:
    """The same for the window at the end of ``ring`` [S, >= w * step]; [S, 1]."""
    width = factor.shape[1]
    samples = ring[:, -width * step :].view(len(ring), width, step).mean(2)
    return torch.bmm(factor, samples[:, :, None]).square_().mean(1)
