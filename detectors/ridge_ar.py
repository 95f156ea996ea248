"""Surprise at this step given the last ones: ridge autoregression, one batched Cholesky for all series.

Twenty-four lags by default. The residual's spread is robust; lags that are missing take the last observed
value, so that a gap neither alarms nor hides what follows. The score combines the surprise at this step and of
the last few with its energy, the mean square, over windows. Gives the one-step forecast as its expected value.
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
from detectors.support.robust import forward_filled, level, quantiles, ring_means, spread, trailing_means
from detectors.support.states import check, pick, roll, scores_of, state_of

CLIP = 8.0
"""Lags and targets of the fit are limited to this many spreads, so that outliers do not bend it."""
EARLY = 3.0
"""The surprise of a step that lacks some of its lags is at most this."""
CHUNK_BYTES = 2 << 20
"""Of lagged values at once: few enough to stay in the processor's cache."""


class RidgeArOptions(PluginOptions):
    device: Choice = "auto"
    lags: int = Field(24, ge=1, le=256)
    ridge: float = Field(1e-3, gt=0)
    """Added to the normal equations' diagonal, relative to its mean."""
    prior_steps: float = Field(4.0, ge=0)
    """Steps that a prior of no autocorrelation counts for."""
    burst_steps: int = Field(8, ge=1, le=256)
    """Steps whose mean surprise is the ``burst`` term."""
    energy_steps: tuple[int, ...] = (8, 32)
    """Window lengths of the energy terms."""
    relative_floor: float = Field(0.002, gt=0)
    range_floor: float = Field(0.01, ge=0)
    band: float = Field(3.0, gt=0)


class RidgeAr(Detector[RidgeArOptions]):
    """Ridge autoregressive residual and one-step forecast."""

    Options = RidgeArOptions
    family = "ridge_ar"
    calibrated = True

    def __init__(self, options: RidgeArOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._device = resolve(options.device)
        self._ring = max(options.burst_steps, *options.energy_steps)
        self.spans = {"surprise": 1, "burst": options.burst_steps} | {
            f"energy_{steps}": steps for steps in options.energy_steps
        }

    def fit(self, batch: Batch) -> State:
        values, mask = observed(batch, self._device)
        centre, unit, floor = level(values, mask, self.options.relative_floor, self.options.range_floor)
        x, filled = self._normal(values, mask, centre, unit, torch.zeros_like(centre))
        weights = self._solve(x.clamp(-CLIP, CLIP), mask)
        fitted = {"centre": centre, "unit": unit, "weights": weights}
        residual = x - self._forecast(fitted, x, x.new_zeros((x.shape[0], self.options.lags)))
        warm = mask.clone()
        warm[:, : self.options.lags] = False
        sigma = torch.maximum(spread(residual, warm), floor / unit)
        surprise = (residual.abs() / sigma[:, None]).clamp(max=4 * CLIP)
        surprise[:, : self.options.lags].clamp_(max=EARLY)
        burst, *energies = self._windows(surprise, mask)
        scale = quantiles(burst, warm, (0.9,))[:, 0].clamp(min=1.0)
        parts = self._parts(surprise, burst / scale[:, None], energies)
        median, gap = scale_of(parts, mask, self.spans)
        optimism = self._optimism(mask)
        recent = (surprise / optimism[:, None]).clamp(max=4 * CLIP)
        return state_of(
            batch,
            {
                **fitted,
                "sigma": sigma * optimism,
                "burst_scale": scale,
                "lags": filled[:, 1:],
                "recent": roll(torch.where(mask, recent, torch.nan), self._ring),
                "seen": mask.any(1),
                "part_median": median,
                "part_gap": gap,
            },
        )

    def score(self, state: State, batch: Batch) -> Scores:
        check(state, batch)
        arrays = pick(state, self._device)
        values, mask = observed(batch, self._device)
        x, _ = self._normal(values, mask, arrays["centre"], arrays["unit"], torch.zeros_like(arrays["centre"]))
        forecast = self._forecast(arrays, x, x.new_zeros((x.shape[0], self.options.lags)))
        surprise = ((x - forecast).abs() / arrays["sigma"][:, None]).clamp(max=4 * CLIP)
        surprise[:, : self.options.lags].clamp_(max=EARLY)
        burst, *energies = self._windows(surprise, mask)
        parts = self._parts(surprise, burst / arrays["burst_scale"][:, None], energies)
        return self._scores(arrays, forecast, parts, surprise, mask)

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        check(state, tick)
        arrays = pick(state, self._device)
        values, mask = observed(tick, self._device)
        past = arrays["lags"]
        x, _ = self._normal(values, mask, arrays["centre"], arrays["unit"], past[:, -1])
        forecast = self._forecast(arrays, x, past)
        surprise = ((x - forecast).abs() / arrays["sigma"][:, None]).clamp(max=4 * CLIP)
        entry = torch.where(mask, surprise, torch.nan)
        recent = torch.cat([arrays["recent"][:, 1:], entry], 1)
        (burst,) = ring_means(recent, (self.options.burst_steps,))
        parts = self._parts(
            surprise, burst / arrays["burst_scale"][:, None], ring_means(recent.square(), self.options.energy_steps)
        )
        scores = self._scores(arrays, forecast, parts, surprise, mask)
        changed = {"lags": back(torch.cat([past[:, 1:], x], 1)), "recent": back(recent)}
        return State(state.series_ids, state.step_ms, {**state.arrays, **changed}, state.shared), scores

    def to_onnx(self, state: State) -> bytes:
        return onnx_of(self, self.family, state)

    def edge(self, graph: EdgeGraph, state: State) -> EdgeScores:
        """The scores of a stretch as a graph."""
        chosen = self.options
        return edge_members.ridge_ar(
            graph,
            state.arrays,
            lags=chosen.lags,
            burst_steps=chosen.burst_steps,
            energy_steps=chosen.energy_steps,
            band=chosen.band,
            clip=CLIP,
            early=EARLY,
        )

    def _optimism(self, mask: torch.Tensor) -> torch.Tensor:
        """How much larger than on the history the residual will be, [S] (Akaike's final prediction error)."""
        count, weights = mask.sum(1), self.options.lags + 1
        return ((count + weights) / (count - weights).clamp(min=weights / 2)).sqrt()

    def _windows(self, surprise: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """Mean surprise of the last steps, then its energies."""
        return [
            *trailing_means(surprise, mask, (self.options.burst_steps,)),
            *trailing_means(surprise.square(), mask, self.options.energy_steps),
        ]

    def _parts(
        self, surprise: torch.Tensor, burst: torch.Tensor, energies: list[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        parts = {"distance": surprise + burst}
        return parts | {f"energy_{steps}": e for steps, e in zip(self.options.energy_steps, energies, strict=True)}

    def _normal(
        self, values: torch.Tensor, mask: torch.Tensor, centre: torch.Tensor, unit: torch.Tensor, before: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled values with gaps filled by the last observed one; and the last ``lags + 1`` of them."""
        x = forward_filled(torch.where(mask, (values - centre[:, None]) / unit[:, None], 0.0), mask, before)
        keep = self.options.lags + 1
        tail = torch.nn.functional.pad(x, (keep, 0))[:, -keep:]
        return x, tail

    def _solve(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Ridge weights [S, lags + 1], oldest lag first, intercept last."""
        lags, length = self.options.lags, max(x.shape[1] - self.options.lags, 0)
        width = lags + 2
        gram = x.new_zeros((x.shape[0], width, width), dtype=torch.float64)
        weight = mask[:, None, lags:].to(x.dtype)
        span = max(min(length, CHUNK_BYTES // (4 * width)), 1)
        rows = max(1, CHUNK_BYTES // (4 * width * span))
        for first in range(0, x.shape[0], rows):
            part, mine = x[first : first + rows], gram[first : first + rows]
            for start in range(0, length, span):
                end = min(start + span, length)
                shifted = [part[:, start + k : end + k] for k in range(lags + 1)]
                block = torch.stack([*shifted, torch.ones_like(shifted[0])], 1)
                mine += torch.bmm(block * weight[first : first + rows, :, start:end], block.transpose(1, 2))
        inside = [*range(lags), lags + 1]
        normal, target = gram[:, inside][:, :, inside], gram[:, inside, lags]
        count = mask[:, lags:].sum(1).clamp(min=1)
        share = self.options.ridge + self.options.prior_steps / count
        load = share * normal.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1.0)
        normal = normal + load[:, None, None] * torch.eye(lags + 1, dtype=normal.dtype, device=x.device)
        factor = torch.linalg.cholesky_ex(normal).L
        return torch.cholesky_solve(target[:, :, None], factor)[:, :, 0].to(x.dtype)

    def _forecast(self, arrays: dict[str, torch.Tensor], x: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """Expected scaled value of each step of ``x`` [S, T] given the ``lags`` steps before it."""
        lags = self.options.lags
        line = torch.cat([past[:, -lags:], x], 1)[:, :-1].clamp(-4 * CLIP, 4 * CLIP)
        weights = arrays["weights"]
        series = line.shape[0]
        out = torch.nn.functional.conv1d(line[None], weights[:, None, :lags], groups=series)[0] if series else x
        return out + weights[:, lags:]

    def _scores(
        self,
        arrays: dict[str, torch.Tensor],
        forecast: torch.Tensor,
        parts: dict[str, torch.Tensor],
        surprise: torch.Tensor,
        mask: torch.Tensor,
    ) -> Scores:
        unit, centre = arrays["unit"][:, None], arrays["centre"][:, None]
        usable = mask & arrays["seen"][:, None]
        score, terms = combine(parts, arrays["part_median"], arrays["part_gap"])
        distance = terms.pop("distance")
        now = surprise / parts["distance"].clamp(min=1e-6)
        half = self.options.band * arrays["sigma"][:, None] * unit
        split = {"surprise": distance * now, "burst": distance * (1 - now), **terms}
        return scores_of(usable, score, centre + unit * forecast, half, split)
