"""Distance from the usual value at this time of day, of the week and of the series' own rhythm.

Each series is centred by its median and scaled by its MAD. Binned phase medians are taken out one after the
other (day, week, own period by FFT autocorrelation) where they explain something. The score adds two terms in
units of their own usual size: ``residual``, the distance at this step, and ``shift``, the mean of the last
steps, which sees a lasting change too small for one step. Closed form; masks throughout; a flat series has a
floor for its scale, so that any move on it is scored by its relative size.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support.device import Choice, observed, resolve, to_array
from detectors.support.robust import level, quantiles, spread, trailing_mean
from detectors.support.seasons import fit_profiles, seasonal, times
from detectors.support.states import check, pick, roll, scores_of, state_of

CLIP = 20.0
"""Residuals enter means at most this many spreads high: one wild step is not a level shift."""


class SeasonalResidualOptions(PluginOptions):
    device: Choice = "auto"
    shift_steps: int = Field(16, ge=2, le=256)
    """Steps whose mean is the ``shift`` term."""
    relative_floor: float = Field(0.002, gt=0)
    """The scale is at least this share of the median's size."""
    range_floor: float = Field(0.02, ge=0)
    """The scale is at least this share of the central 98 % range."""
    band: float = Field(3.0, gt=0)
    """Half-width of the reported band in spreads."""


class SeasonalResidual(Detector[SeasonalResidualOptions]):
    """Robust seasonal residual with a level-shift term."""

    Options = SeasonalResidualOptions
    family = "seasonal_residual"

    def __init__(self, options: SeasonalResidualOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._device = resolve(options.device)

    def fit(self, batch: Batch) -> State:
        values, mask = observed(batch, self._device)
        centre, unit, floor = level(values, mask, self.options.relative_floor, self.options.range_floor)
        x = torch.where(mask, (values - centre[:, None]) / unit[:, None], 0.0)
        profiles, residual = fit_profiles(x, mask, times(batch.timestamps, self._device), batch.step_ms)
        bias = quantiles(residual, mask, (0.5,))[:, 0]
        residual = residual - bias[:, None]
        sigma = torch.maximum(spread(residual, mask), floor / unit)
        clipped = (residual / sigma[:, None]).clamp(-CLIP, CLIP)
        mean = trailing_mean(clipped, mask, self.options.shift_steps)
        shift_scale = spread(mean, mask).clamp(min=self.options.shift_steps**-0.5)
        ring = torch.where(mask, clipped, torch.nan)
        arrays = {
            "centre": centre,
            "unit": unit,
            "bias": bias,
            "sigma": sigma,
            "shift_scale": shift_scale,
            "recent": roll(ring, self.options.shift_steps),
            "seen": mask.any(1),
            **profiles,
        }
        return state_of(batch, arrays)

    def score(self, state: State, batch: Batch) -> Scores:
        arrays = self._arrays(state, batch)
        values, mask = observed(batch, self._device)
        expected, clipped, z = self._residual(arrays, values, mask, batch)
        mean = trailing_mean(clipped, mask, self.options.shift_steps)
        return self._scores(arrays, expected, z, mean, mask)

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        arrays = self._arrays(state, tick)
        values, mask = observed(tick, self._device)
        expected, clipped, z = self._residual(arrays, values, mask, tick)
        recent = torch.cat([arrays["recent"][:, 1:], torch.where(mask, clipped, torch.nan)], 1)
        known = ~recent.isnan()
        mean = torch.where(known, recent, 0.0).double().sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
        scores = self._scores(arrays, expected, z, mean.to(z.dtype), mask)
        return State(
            state.series_ids, state.step_ms, {**state.arrays, "recent": to_array(recent)}, state.shared
        ), scores

    def _residual(
        self, arrays: dict[str, torch.Tensor], values: torch.Tensor, mask: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        profile = seasonal(arrays, times(batch.timestamps, self._device)) + arrays["bias"][:, None]
        x = (values - arrays["centre"][:, None]) / arrays["unit"][:, None]
        z = torch.where(mask, (x - profile) / arrays["sigma"][:, None], 0.0)
        expected = arrays["centre"][:, None] + arrays["unit"][:, None] * profile
        return expected, z.clamp(-CLIP, CLIP), z

    def _scores(
        self,
        arrays: dict[str, torch.Tensor],
        expected: torch.Tensor,
        z: torch.Tensor,
        mean: torch.Tensor,
        mask: torch.Tensor,
    ) -> Scores:
        usable = mask & arrays["seen"][:, None]
        residual = z.abs()
        shift = mean.abs() / arrays["shift_scale"][:, None]
        half = self.options.band * (arrays["sigma"] * arrays["unit"])[:, None]
        return scores_of(usable, residual + shift, expected, half, {"residual": residual, "shift": shift})

    def _arrays(self, state: State, batch: Batch) -> dict[str, Any]:
        check(state, batch)
        return pick(state, self._device)
