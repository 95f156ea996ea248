"""What the scikit-learn baselines share: a model a series of short windows, rebuilt from the windows it was fitted to.

For comparison only: one Python call a series. The state is a sample of the training windows, since fitted
scikit-learn objects could only be stored as pickles; the model is made anew from it, with a fixed seed.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support.device import Choice, observed, resolve
from detectors.support.robust import forward_filled, level
from detectors.support.states import check, pick, scores_of, state_of

Windows = NDArray[np.float32]
CLIP = 50.0


class BaselineOptions(PluginOptions):
    device: Choice = "auto"
    width: int = Field(10, ge=2, le=64)
    windows: int = Field(128, ge=8)
    """Training windows kept, evenly taken from the history."""
    relative_floor: float = Field(0.002, gt=0)


class Baseline(Detector[BaselineOptions]):
    """Windows of each series, scored by :meth:`judge`."""

    Options = BaselineOptions
    spans = {"model": 10}

    def __init__(self, options: BaselineOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        resolve("cpu")
        self._cpu = torch.device("cpu")
        self.spans = {"model": options.width}

    @abstractmethod
    def judge(self, known: Windows, windows: Windows) -> NDArray[np.floating[Any]]:
        """Scores [T] of ``windows`` [T, width], by a model of the windows ``known`` [N, width]."""

    def fit(self, batch: Batch) -> State:
        values, mask = observed(batch, self._cpu)
        centre, unit, _ = level(values, mask, self.options.relative_floor, 0.02)
        arrays = {"centre": centre, "unit": unit, "seen": mask.any(1)}
        windows, line = self._windows(arrays, values, mask)
        last = torch.where(mask, torch.arange(mask.shape[1]), 0).amax(1)
        begin = mask.to(torch.int8).argmax(1)
        share = torch.linspace(0, 1, self.options.windows)
        place = (begin[:, None] + share * (last - begin)[:, None]).round().long()
        arrays["known"] = torch.stack([w[p] for w, p in zip(windows, place, strict=True)]).half()
        arrays["recent"] = line[:, -(self.options.width - 1) :].contiguous()
        return state_of(batch, arrays)

    def score(self, state: State, batch: Batch) -> Scores:
        check(state, batch)
        arrays = pick(state, self._cpu)
        values, mask = observed(batch, self._cpu)
        return self._scores(arrays, self._windows(arrays, values, mask)[0], mask)

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        check(state, tick)
        arrays = pick(state, self._cpu)
        values, mask = observed(tick, self._cpu)
        x = self._scaled(arrays, values)
        line = torch.cat([arrays["recent"], torch.where(mask, x, arrays["recent"][:, -1:])], 1)
        kept = {**state.arrays, "recent": line[:, 1:].contiguous().numpy()}
        return State(state.series_ids, state.step_ms, kept, state.shared), self._scores(arrays, line[:, None], mask)

    def _scaled(self, arrays: dict[str, torch.Tensor], values: torch.Tensor) -> torch.Tensor:
        return ((values - arrays["centre"][:, None]) / arrays["unit"][:, None]).clamp(-CLIP, CLIP)

    def _windows(
        self, arrays: dict[str, torch.Tensor], values: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The window that ends at each step, [S, T, width]; and the line they are cut from."""
        x = torch.where(mask, self._scaled(arrays, values), 0.0)
        first = torch.where(mask.any(1), x.gather(1, mask.to(torch.int8).argmax(1, keepdim=True))[:, 0], 0.0)
        line = torch.cat([first[:, None].expand(-1, self.options.width - 1), forward_filled(x, mask, first)], 1)
        return line.unfold(1, self.options.width, 1), line

    def _scores(self, arrays: dict[str, torch.Tensor], windows: torch.Tensor, mask: torch.Tensor) -> Scores:
        rows = []
        for known, one in zip(arrays["known"], windows, strict=True):
            rows.append(np.asarray(self.judge(known.float().numpy(), one.contiguous().numpy()), np.float32))
        score = torch.from_numpy(np.stack(rows)) if rows else torch.zeros(mask.shape)
        expected = arrays["centre"][:, None].expand(mask.shape)
        half = 3.0 * arrays["unit"][:, None]
        return scores_of(mask & arrays["seen"][:, None], score, expected, half, {"model": score})
