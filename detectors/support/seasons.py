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
DEFAULT_RHYTHM = 64
LARGEST = 60_000.0
"""Of a profile, in the series' units: halves hold no more. A unit is at least a fiftieth of the usual range."""


def lag_products(x: torch.Tensor, lags: int) -> torch.Tensor:
    """Sums over time of ``x[t] * x[t + lag]`` for lags 0..lags, float64 [S, lags + 1], by one batched FFT."""
    size = fast_length(x.shape[1] + lags)
    spectrum = torch.fft.rfft(x, size)
    power = torch.view_as_real(spectrum).square_().sum(-1)
    products: torch.Tensor = torch.fft.irfft(power.to(spectrum.dtype), size)[:, : lags + 1]
    return products.double()


def fast_length(least: int) -> int:
    """The smallest length from ``least`` up that has no prime factor above 5, as FFTs like it."""
    best = 1 << max(least - 1, 1).bit_length()
    for fives in (1, 5, 25, 125):
        for threes in (1, 3, 9, 27):
            rest = -(-least // (fives * threes))
            best = min(best, fives * threes << (rest - 1).bit_length())
    return best


def autocorrelation(x: torch.Tensor, mask: torch.Tensor, lags: int) -> torch.Tensor:
    """Masked autocorrelation at lags 0..lags, [S, lags + 1]."""
    m = mask.to(x.dtype)
    mean = (x * m).sum(1, keepdim=True) / m.sum(1, keepdim=True).clamp(min=1)
    power, pairs = lag_products((x - mean) * m, lags), lag_products(m, lags)
    covariance = torch.where(pairs > 0.5, power / pairs.clamp(min=0.5), 0.0)
    return (covariance / covariance[:, :1].clamp(min=1e-12)).to(x.dtype)


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


def rhythm(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Steps of the most marked rhythm from 3 to 300, int64 [S], however weak; ``DEFAULT_RHYTHM`` where there is none.

    The window length for averages, as the TSB-AD benchmark chooses it (Liu and Paparrizos 2024).
    """
    length = values.shape[1]
    lags = min(300, length - 2)
    none = torch.full((values.shape[0],), DEFAULT_RHYTHM, dtype=torch.int64, device=values.device)
    if lags < 4:
        return none
    centre = torch.where(mask, values, 0.0).sum(1, keepdim=True, dtype=torch.float64) / mask.sum(1, keepdim=True).clamp(
        min=1
    )
    ac = lag_products(torch.where(mask, values - centre, 0.0), lags + 1)
    middle = ac[:, 4:-1]
    peak = (middle > ac[:, 3:-2]) & (middle > ac[:, 5:])
    best = torch.where(peak, middle, -torch.inf).argmax(1) + 4
    return torch.where(peak.any(1), best, none)


def phase_bins(timestamps: torch.Tensor, period_ms: torch.Tensor, bins: int) -> torch.Tensor:
    """Bin of each time in each series' period, int64 [S, T]; bin 0 where the period is 0."""
    period = period_ms.clamp(min=1)[:, None]
    return ((timestamps[None, :] % period) * bins) // period


def fit_profiles(
    x: torch.Tensor, mask: torch.Tensor, timestamps: torch.Tensor, step_ms: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Additive profiles, each fitted to what the earlier ones leave.

    A phase seen ``m`` times leaves less on the history than on what comes: by ``sqrt((m + 1) / (m - 1))``. A profile
    is kept where it helps in spite of that.

    Returns:
        ``period.<slot>`` int64 [S] in ms (0: not used) and ``profile.<slot>`` float16 [S, bins]; the residual
        [S, T]; and how much larger residuals will be out of sample, [S].
    """
    out: dict[str, torch.Tensor] = {}
    inflation = torch.ones_like(x[:, 0])
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
            out[f"profile.{slot.name}"] = x.new_zeros((x.shape[0], slot.bins), dtype=torch.float16)
            continue
        bins = phase_bins(timestamps, period, slot.bins)
        profile, count = binned_medians(residual, mask, bins, slot.bins)
        profile = fill_circular(profile, count > 0).clamp_(-LARGEST, LARGEST).half()
        candidate = residual - profile.gather(1, bins).float()
        times_seen = mask.sum(1) / (count > 0).sum(1).clamp(min=1)
        optimism = ((times_seen + 1) / (times_seen - 1).clamp(min=0.1)).sqrt()
        better = usable & (optimism * spread(candidate, mask) < SHRINK * spread(residual, mask))
        inflation = torch.where(better, inflation * optimism, inflation)
        residual = torch.where(better[:, None], candidate, residual)
        out[f"period.{slot.name}"] = torch.where(better, period, torch.zeros_like(period))
        out[f"profile.{slot.name}"] = torch.where(better[:, None], profile, torch.zeros_like(profile))
    return out, residual, inflation


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
        part = profile.gather(1, phase_bins(timestamps, period, slot.bins)).float()
        total = part if total is None else total + part
    assert total is not None
    return total


def times(timestamps: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.array(timestamps, np.int64)).to(device)
