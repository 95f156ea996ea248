"""How unlikely the last stretch is for its own series: Mahalanobis energy of windows of several lengths.

A window is whitened by the covariance that the series' own autocorrelation implies, with a ridge of a tenth of
the variance, and scored by the mean square of the result (the classic T-square statistic, Hotelling 1947; as a
subspace score Sub-PCA, Aggarwal 2017). It sees changes of shape, rhythm and variance as well as of level.
"""

from __future__ import annotations

import torch
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support import edge_members
from detectors.support.calibration import combine, scale_of
from detectors.support.covariance import CLIP, energies, last_energy, whitening
from detectors.support.device import Choice, observed, resolve
from detectors.support.edge_graph import EdgeGraph, EdgeScores, onnx_of
from detectors.support.resident import back
from detectors.support.robust import between, forward_filled, level
from detectors.support.states import check, pick, scores_of, state_of


class WindowCovarianceOptions(PluginOptions):
    device: Choice = "auto"
    scales: tuple[tuple[int, int], ...] = ((8, 1), (16, 4))
    """Samples in a window and steps a sample: windows of 8 and of 64 steps."""
    ridge: float = Field(0.1, gt=0)
    """White noise in the covariance, as a share of the variance."""
    relative_floor: float = Field(0.002, gt=0)
    range_floor: float = Field(0.02, ge=0)
    band: float = Field(3.0, gt=0)


class WindowCovariance(Detector[WindowCovarianceOptions]):
    """Toeplitz Mahalanobis energy of windows."""

    Options = WindowCovarianceOptions
    family = "window_covariance"
    calibrated = True

    def __init__(self, options: WindowCovarianceOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._device = resolve(options.device)
        self._ring = max(width * step for width, step in options.scales)
        self.spans = {_name(scale): scale[0] * scale[1] for scale in options.scales}

    def fit(self, batch: Batch) -> State:
        values, mask = observed(batch, self._device)
        centre, unit, _ = level(values, mask, self.options.relative_floor, self.options.range_floor)
        x = torch.where(mask, (values - centre[:, None]) / unit[:, None], 0.0)
        first = _first(x, mask)
        filled = forward_filled(x, mask, first)
        inside = between(mask)
        count = inside.sum(1).clamp(min=1)
        mean = torch.where(inside, filled.clamp(-CLIP, CLIP), 0.0).sum(1) / count
        centred = (filled - mean[:, None]).clamp(-4 * CLIP, 4 * CLIP)
        factors = whitening(centred, inside, self.options.scales, self.options.ridge)
        # A window longer than half of what was seen has no usual size.
        factors = [
            torch.where((count >= 2 * w * step)[:, None, None], factor, 0.0)
            for factor, (w, step) in zip(factors, self.options.scales, strict=True)
        ]
        arrays = {
            "centre": centre + unit * mean,
            "unit": unit,
            "spread": torch.where(inside, centred.square(), 0.0).sum(1).div(count).sqrt(),
            "seen": mask.any(1),
            **{f"factor.{_name(s)}": f.half() for s, f in zip(self.options.scales, factors, strict=True)},
        }
        parts = self._parts(arrays, centred, centred[:, 0])
        arrays["part_median"], arrays["part_gap"] = scale_of(parts, mask, self.spans)
        ahead = centred[:, :1].expand(-1, self._ring)
        arrays["recent"] = torch.cat([ahead, centred], 1)[:, -self._ring :].contiguous()
        return state_of(batch, arrays)

    def score(self, state: State, batch: Batch) -> Scores:
        check(state, batch)
        arrays = pick(state, self._device)
        values, mask = observed(batch, self._device)
        x = self._centred(arrays, values, mask)
        first = _first(x, mask)
        return self._scores(arrays, self._parts(arrays, forward_filled(x, mask, first), first), mask)

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        check(state, tick)
        arrays = pick(state, self._device)
        values, mask = observed(tick, self._device)
        x = torch.where(mask, self._centred(arrays, values, mask), arrays["recent"][:, -1:])
        recent = torch.cat([arrays["recent"][:, 1:], x], 1)
        parts = {
            _name((w, step)): last_energy(recent, arrays[f"factor.{_name((w, step))}"].float(), step)
            for w, step in self.options.scales
        }
        kept = {**state.arrays, "recent": back(recent)}
        return State(state.series_ids, state.step_ms, kept, state.shared), self._scores(arrays, parts, mask)

    def to_onnx(self, state: State) -> bytes:
        return onnx_of(self, self.family, state)

    def edge(self, graph: EdgeGraph, state: State) -> EdgeScores:
        """The scores of a stretch as a graph."""
        chosen = self.options
        return edge_members.window_covariance(graph, state.arrays, scales=chosen.scales, band=chosen.band, clip=CLIP)

    def _centred(self, arrays: dict[str, torch.Tensor], values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = (values - arrays["centre"][:, None]) / arrays["unit"][:, None]
        return torch.where(mask, x, 0.0).clamp(-4 * CLIP, 4 * CLIP)

    def _parts(self, arrays: dict[str, torch.Tensor], x: torch.Tensor, first: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            _name((w, step)): energies(x, first, arrays[f"factor.{_name((w, step))}"].float(), step)
            for w, step in self.options.scales
        }

    def _scores(self, arrays: dict[str, torch.Tensor], parts: dict[str, torch.Tensor], mask: torch.Tensor) -> Scores:
        score, terms = combine(parts, arrays["part_median"], arrays["part_gap"])
        expected = arrays["centre"][:, None].expand_as(score)
        half = self.options.band * (arrays["spread"] * arrays["unit"])[:, None]
        return scores_of(mask & arrays["seen"][:, None], score, expected, half, terms)


def _name(scale: tuple[int, int]) -> str:
    return f"window_{scale[0] * scale[1]}"


def _first(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The first observed value, [S]; 0 where there is none."""
    return torch.where(mask.any(1), x.gather(1, mask.to(torch.int8).argmax(1, keepdim=True))[:, 0], 0.0)
