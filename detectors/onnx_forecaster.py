"""A forecaster of the user's own, as an ONNX file: the residual of its one-step forecasts, scored like any other.

The file is named by its path and its SHA-256, and is not used if the two do not fit. It takes ``history`` float32
[series, context], centred by the median and scaled by the spread of each series, and gives the next value, [series]
or [series, 1]. It runs in onnxruntime on the CPU, needs the extra ``onnx``, and never runs code but ONNX operators.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.errors import ConfigError
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support.calibration import combine, scale_of
from detectors.support.device import Choice, observed, resolve
from detectors.support.resident import back
from detectors.support.robust import forward_filled, level, ring_means, spread, trailing_means
from detectors.support.states import check, pick, roll, scores_of, state_of

CLIP = 32.0
MAX_WINDOWS = 65_536
"""Windows handed to the model in one call."""


class OnnxForecasterOptions(PluginOptions):
    path: str
    """The model file."""
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    """Its SHA-256, in hexadecimal."""
    device: Choice = "auto"
    energy_steps: int = Field(8, ge=1, le=128)
    relative_floor: float = Field(0.002, gt=0)
    range_floor: float = Field(0.01, ge=0)
    band: float = Field(3.0, gt=0)


class OnnxForecaster(Detector[OnnxForecasterOptions]):
    """Residual of a user's own ONNX forecaster."""

    Options = OnnxForecasterOptions
    family = "onnx_forecaster"
    calibrated = True

    def __init__(self, options: OnnxForecasterOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        resolve("cpu")
        self._device = torch.device("cpu")
        self._session = _load(Path(options.path), options.sha256)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 2 or not isinstance(shape[1], int):
            raise ConfigError(
                f"The model {options.path} must take one input [series, context] of a fixed context.",
                hint=f"It takes {[(i.name, i.shape) for i in inputs]}.",
            )
        self._input, self._context_steps = inputs[0].name, shape[1]
        self.spans = {"surprise": 1, f"energy_{options.energy_steps}": options.energy_steps}

    def fit(self, batch: Batch) -> State:
        values, mask = observed(batch, self._device)
        centre, unit, floor = level(values, mask, self.options.relative_floor, self.options.range_floor)
        arrays = {"centre": centre, "unit": unit, "seen": mask.any(1)}
        x, first = self._filled(arrays, values, mask)
        residual = x - self._forecast(x, first)
        arrays["sigma"] = torch.maximum(spread(residual, mask), floor / unit)
        surprise = (residual.abs() / arrays["sigma"][:, None]).clamp(max=CLIP)
        parts = self._parts(surprise, trailing_means(surprise.square(), mask, (self.options.energy_steps,)))
        arrays["part_median"], arrays["part_gap"] = scale_of(parts, mask, self.spans)
        ahead = first[:, None].expand(-1, self._context_steps)
        arrays["history"] = torch.cat([ahead, x], 1)[:, -self._context_steps :].contiguous()
        arrays["recent"] = roll(torch.where(mask, surprise, torch.nan), self.options.energy_steps)
        return state_of(batch, arrays)

    def score(self, state: State, batch: Batch) -> Scores:
        check(state, batch)
        arrays = pick(state, self._device)
        values, mask = observed(batch, self._device)
        x, first = self._filled(arrays, values, mask)
        forecast = self._forecast(x, first)
        surprise = ((x - forecast).abs() / arrays["sigma"][:, None]).clamp(max=CLIP)
        energies = trailing_means(surprise.square(), mask, (self.options.energy_steps,))
        return self._scores(arrays, forecast, self._parts(surprise, energies), mask)

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        check(state, tick)
        arrays = pick(state, self._device)
        values, mask = observed(tick, self._device)
        history = arrays["history"]
        forecast = self._run(history)[:, None]
        x = torch.where(mask, self._scaled(arrays, values), history[:, -1:])
        surprise = ((x - forecast).abs() / arrays["sigma"][:, None]).clamp(max=CLIP)
        recent = torch.cat([arrays["recent"][:, 1:], torch.where(mask, surprise, torch.nan)], 1)
        parts = self._parts(surprise, ring_means(recent.square(), (self.options.energy_steps,)))
        changed = {"history": torch.cat([history[:, 1:], x], 1), "recent": recent}
        kept = {**state.arrays, **{k: back(v) for k, v in changed.items()}}
        return State(state.series_ids, state.step_ms, kept, state.shared), self._scores(arrays, forecast, parts, mask)

    def _scaled(self, arrays: dict[str, torch.Tensor], values: torch.Tensor) -> torch.Tensor:
        return ((values - arrays["centre"][:, None]) / arrays["unit"][:, None]).clamp(-CLIP, CLIP)

    def _filled(
        self, arrays: dict[str, torch.Tensor], values: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.where(mask, self._scaled(arrays, values), 0.0)
        first = torch.where(mask.any(1), x.gather(1, mask.to(torch.int8).argmax(1, keepdim=True))[:, 0], 0.0)
        return forward_filled(x, mask, first), first

    def _forecast(self, x: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """What the model expects at each step from those before it, [S, T]."""
        line = torch.cat([first[:, None].expand(-1, self._context_steps), x], 1)[:, :-1]
        windows = line.unfold(1, self._context_steps, 1)
        flat = windows.reshape(-1, self._context_steps)
        parts = [self._run(flat[i : i + MAX_WINDOWS]) for i in range(0, len(flat), MAX_WINDOWS)]
        return torch.cat(parts).view(x.shape) if parts else x

    def _run(self, history: torch.Tensor) -> torch.Tensor:
        if not len(history):
            return history.new_zeros(0)
        (out,) = self._session.run(None, {self._input: history.contiguous().numpy()})
        forecast: NDArray[np.float32] = np.asarray(out, np.float32).reshape(len(history), -1)[:, 0]
        return torch.from_numpy(np.ascontiguousarray(forecast)).nan_to_num_(0.0).clamp_(-2 * CLIP, 2 * CLIP)

    def _parts(self, surprise: torch.Tensor, energies: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"surprise": surprise, f"energy_{self.options.energy_steps}": energies[0]}

    def _scores(
        self,
        arrays: dict[str, torch.Tensor],
        forecast: torch.Tensor,
        parts: dict[str, torch.Tensor],
        mask: torch.Tensor,
    ) -> Scores:
        unit, centre = arrays["unit"][:, None], arrays["centre"][:, None]
        score, terms = combine(parts, arrays["part_median"], arrays["part_gap"])
        half = self.options.band * arrays["sigma"][:, None] * unit
        return scores_of(mask & arrays["seen"][:, None], score, centre + unit * forecast, half, terms)


def _load(path: Path, sha256: str) -> Any:
    """A session on the CPU, of one thread. Raises ``ConfigError`` for a file that is not the named one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"The ONNX model {path} cannot be read: {error.strerror}.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256.lower():
        raise ConfigError(
            f"The ONNX model {path} is not the one that was named: its SHA-256 is {found}.",
            hint="If the change is meant, put this hash into the setting sha256.",
        )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated types for a file it cannot take
        raise ConfigError(f"The ONNX model {path} cannot be loaded: {error}") from error
