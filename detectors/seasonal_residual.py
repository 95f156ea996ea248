"""Distance from the usual value at this time of day, of the week and of the series' own rhythm.

Each series is centred by its median and scaled by its MAD. Binned phase medians are taken out one after the
other (day, week, own period by FFT autocorrelation) where they explain something. The score combines the
distance at this step, the mean distance of the last steps (``shift``, which sees a lasting change too small for
one step), and the energy, the mean square, of the distance over windows of several lengths. Closed form; masks
throughout; a flat series has a floor for its scale, so that any move on it is scored by its relative size.
"""

from __future__ import annotations

import torch
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support import edge_members
from detectors.support.calibration import combine, scale_of
from detectors.support.device import Choice, observed, resolve
from detectors.support.edge_graph import EdgeGraph, EdgeScores, onnx_of
from detectors.support.resident import back
from detectors.support.robust import level, quantiles, ring_means, spread, trailing_mean, trailing_means
from detectors.support.seasons import fit_profiles, seasonal, times
from detectors.support.states import check, pick, roll, scores_of, state_of

CLIP = 20.0
"""Distances enter means at most this many spreads high: one wild step is not a level shift."""


class SeasonalResidualOptions(PluginOptions):
    device: Choice = "auto"
    shift_steps: int = Field(16, ge=2, le=128)
    """Steps whose mean is the ``shift`` term."""
    energy_steps: tuple[int, ...] = (8, 32)
    """Window lengths of the energy terms."""
    relative_floor: float = Field(0.002, gt=0)
    """The scale is at least this share of the median's size."""
    range_floor: float = Field(0.02, ge=0)
    """The scale is at least this share of the central 98 % range."""
    band: float = Field(3.0, gt=0)
    """Half-width of the reported band in spreads."""


class SeasonalResidual(Detector[SeasonalResidualOptions]):
    """Robust seasonal residual with level-shift and energy terms."""

    Options = SeasonalResidualOptions
    family = "seasonal_residual"
    calibrated = True

    def __init__(self, options: SeasonalResidualOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._device = resolve(options.device)
        self._ring = max(options.shift_steps, *options.energy_steps)
        self.spans = {"residual": 1, "shift": options.shift_steps} | {
            f"energy_{steps}": steps for steps in options.energy_steps
        }

    def fit(self, batch: Batch) -> State:
        values, mask = observed(batch, self._device)
        centre, unit, floor = level(values, mask, self.options.relative_floor, self.options.range_floor)
        x = torch.where(mask, (values - centre[:, None]) / unit[:, None], 0.0)
        profiles, residual, inflation = fit_profiles(x, mask, times(batch.timestamps, self._device), batch.step_ms)
        bias = quantiles(residual, mask, (0.5,))[:, 0]
        residual = residual - bias[:, None]
        sigma = torch.maximum(spread(residual, mask), floor / unit)
        z = residual / sigma[:, None]
        clipped = z.clamp(-CLIP, CLIP)
        mean = trailing_mean(clipped, mask, self.options.shift_steps)
        shift_scale = spread(mean, mask).clamp(min=self.options.shift_steps**-0.5)
        parts = self._parts(z, mean, trailing_means(clipped.square(), mask, self.options.energy_steps), shift_scale)
        median, gap = scale_of(parts, mask, self.spans)
        arrays = {
            "centre": centre,
            "unit": unit,
            "bias": bias,
            "sigma": sigma * inflation,
            "shift_scale": shift_scale,
            "recent": roll(torch.where(mask, (z / inflation[:, None]).clamp(-CLIP, CLIP), torch.nan), self._ring),
            "seen": mask.any(1),
            "part_median": median,
            "part_gap": gap,
            **profiles,
        }
        return state_of(batch, arrays)

    def score(self, state: State, batch: Batch) -> Scores:
        arrays = self._arrays(state, batch)
        values, mask = observed(batch, self._device)
        expected, z = self._residual(arrays, values, mask, batch)
        clipped = z.clamp(-CLIP, CLIP)
        mean = trailing_mean(clipped, mask, self.options.shift_steps)
        energies = trailing_means(clipped.square(), mask, self.options.energy_steps)
        return self._scores(arrays, expected, self._parts(z, mean, energies, arrays["shift_scale"]), z, mask)

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        arrays = self._arrays(state, tick)
        values, mask = observed(tick, self._device)
        expected, z = self._residual(arrays, values, mask, tick)
        entry = torch.where(mask, z.clamp(-CLIP, CLIP), torch.nan)
        recent = torch.cat([arrays["recent"][:, 1:], entry], 1)
        (mean,) = ring_means(recent, (self.options.shift_steps,))
        energies = ring_means(recent.square(), self.options.energy_steps)
        parts = self._parts(z, mean, energies, arrays["shift_scale"])
        kept = {**state.arrays, "recent": back(recent)}
        return State(state.series_ids, state.step_ms, kept, state.shared), self._scores(
            arrays, expected, parts, z, mask
        )

    def to_onnx(self, state: State) -> bytes:
        return onnx_of(self, self.family, state)

    def edge(self, graph: EdgeGraph, state: State) -> EdgeScores:
        """The scores of a stretch as a graph."""
        chosen = self.options
        return edge_members.seasonal_residual(
            graph,
            state.arrays,
            shift_steps=chosen.shift_steps,
            energy_steps=chosen.energy_steps,
            band=chosen.band,
            clip=CLIP,
        )

    def _residual(
        self, arrays: dict[str, torch.Tensor], values: torch.Tensor, mask: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Expected value, and the distance from it in spreads, 0 where nothing was observed."""
        profile = seasonal(arrays, times(batch.timestamps, self._device)) + arrays["bias"][:, None]
        x = (values - arrays["centre"][:, None]) / arrays["unit"][:, None]
        z = torch.where(mask, (x - profile) / arrays["sigma"][:, None], 0.0)
        return arrays["centre"][:, None] + arrays["unit"][:, None] * profile, z

    def _parts(
        self, z: torch.Tensor, mean: torch.Tensor, energies: list[torch.Tensor], shift_scale: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        parts = {"distance": z.abs() + mean.abs() / shift_scale[:, None]}
        return parts | {f"energy_{steps}": e for steps, e in zip(self.options.energy_steps, energies, strict=True)}

    def _scores(
        self,
        arrays: dict[str, torch.Tensor],
        expected: torch.Tensor,
        parts: dict[str, torch.Tensor],
        z: torch.Tensor,
        mask: torch.Tensor,
    ) -> Scores:
        usable = mask & arrays["seen"][:, None]
        score, terms = combine(parts, arrays["part_median"], arrays["part_gap"])
        distance = terms.pop("distance")
        now = z.abs() / parts["distance"].clamp(min=1e-6)
        half = self.options.band * (arrays["sigma"] * arrays["unit"])[:, None]
        return scores_of(
            usable, score, expected, half, {"residual": distance * now, "shift": distance * (1 - now), **terms}
        )

    def _arrays(self, state: State, batch: Batch) -> dict[str, torch.Tensor]:
        check(state, batch)
        return pick(state, self._device)
