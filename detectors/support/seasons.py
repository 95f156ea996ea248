"""Seasonal profiles: which rhythm each series has, and its typical shape as binned phase medians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detectors.support.robust import binned_medians, fill_circular, spread

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Slot:
    """One rhythm: ``period_ms`` 0 means found per series. ``bins`` phases, at least ``cycles`` seen."""

    name: str
    period_ms: int
    bins: int
    cycles: float


SLOTS = (Slot("day", DAY_MS, 96, 2.0), Slot("week", 7 * DAY_MS, 168, 2.0), Slot("own", 0, 64, 3.0))
SHRINK = 0.9
"""A profile is kept where it leaves less than this share of the spread."""
MAX_LAG = 4096
"""Longest own period looked for, in steps."""


def autocorrelation(x: torch.Tensor, mask: torch.Tensor, lags: int) -> torch.Tensor:
    """Masked autocorrelation at lags 0..lags, [S, lags + 1], by one batched FFT."""
    size = 1 << int(x.shape[1] + lags).bit_length()
    m = mask.to(x.dtype)
    mean = (x * m).sum(1, keepdim=True) / m.sum(1, keepdim=True).clamp(min=1)
    fx, fm = torch.fft.rfft((x - mean) * m, size), torch.fft.rfft(m, size)
    power = torch.fft.irfft(fx.abs().square(), size)[:, : lags + 1]
    pairs = torch.fft.irfft(fm.abs().square(), size)[:, : lags + 1]
    covariance = torch.where(pairs > 0.5, power / pairs.clamp(min=0.5), 0.0)
    return covariance / covariance[:, :1].clamp(min=1e-12)


def find_period(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Own period in steps, int64 [S]; 0 where no rhythm is seen three times over.

    The highest local maximum of the autocorrelation after its first descent below zero's noise.
    """
    length = x.shape[1]
    lags = min(length // 3, MAX_LAG)
    if lags < 6:
        return torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
    ac = autocorrelation(x.clamp(-5, 5), mask, lags)
    dipped = (ac < 0.5 * ac.amax(1, keepdim=True).clamp(max=1.0)).cummax(1).values[:, 2:-1]
    middle = ac[:, 2:-1]
    peak = (middle > ac[:, 1:-2]) & (middle >= ac[:, 3:]) & dipped & (middle > 0.2)
    height = torch.where(peak, middle, -1.0)
    best = height.amax(1, keepdim=True)
    first = (height >= 0.9 * best).to(torch.int8).argmax(1) + 2
    return torch.where(best[:, 0] > 0, first, torch.zeros_like(first))


def phase_bins(timestamps: torch.Tensor, period_ms: torch.Tensor, bins: int) -> torch.Tensor:
    """Bin of each time in each series' period, int64 [S, T]; bin 0 where the period is 0."""
    period = period_ms.clamp(min=1)[:, None]
    return ((timestamps[None, :] % period) * bins) // period


def fit_profiles(
    x: torch.Tensor, mask: torch.Tensor, timestamps: torch.Tensor, step_ms: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Additive profiles, each fitted to what the earlier ones leave.

    Returns:
        ``period.<slot>`` int64 [S] in ms (0: not used) and ``profile.<slot>`` float32 [S, bins]; the residual [S, T].
    """
    out: dict[str, torch.Tensor] = {}
    residual = x
    span = observed_span(mask) * step_ms
    for slot in SLOTS:
        if slot.period_ms:
            period = torch.full((x.shape[0],), slot.period_ms, dtype=torch.int64, device=x.device)
        else:
            period = find_period(residual, mask) * step_ms
        usable = (period >= 4 * step_ms) & (span.double() >= slot.cycles * period.double())
        if not bool(usable.any()):
            out[f"period.{slot.name}"] = torch.zeros_like(period)
            out[f"profile.{slot.name}"] = x.new_zeros((x.shape[0], slot.bins))
            continue
        bins = phase_bins(timestamps, period, slot.bins)
        profile, count = binned_medians(residual, mask, bins, slot.bins)
        profile = fill_circular(profile, count > 0)
        candidate = residual - profile.gather(1, bins)
        better = usable & (spread(candidate, mask) < SHRINK * spread(residual, mask))
        residual = torch.where(better[:, None], candidate, residual)
        out[f"period.{slot.name}"] = torch.where(better, period, torch.zeros_like(period))
        out[f"profile.{slot.name}"] = torch.where(better[:, None], profile, torch.zeros_like(profile))
    return out, residual


def observed_span(mask: torch.Tensor) -> torch.Tensor:
    """Steps from the first to the last observation, int64 [S]."""
    any_seen = mask.any(1)
    first = mask.to(torch.int8).argmax(1)
    last = mask.shape[1] - 1 - mask.flip(1).to(torch.int8).argmax(1)
    return torch.where(any_seen, last - first + 1, torch.zeros_like(first))


def seasonal(arrays: dict[str, torch.Tensor], timestamps: torch.Tensor) -> torch.Tensor:
    """Sum of the profiles at the times, float32 [S, T]."""
    total: torch.Tensor | None = None
    for slot in SLOTS:
        profile, period = arrays[f"profile.{slot.name}"], arrays[f"period.{slot.name}"]
        part = profile.gather(1, phase_bins(timestamps, period, slot.bins))
        total = part if total is None else total + part
    assert total is not None
    return total


def times(timestamps: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.array(timestamps, np.int64)).to(device)
