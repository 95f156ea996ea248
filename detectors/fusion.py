"""Several detectors as one: each member's score as the log of its excess over its own median, then the mean.

The unit is the distance from the median to the 90 % quantile of the training scores, per series, so that a
member with long tails does not drown the others. Members are named in the options; expected value and band
are those of the first. Terms are named ``member.term``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support.calibration import excess, scale_of
from detectors.support.device import Choice


class FusionOptions(PluginOptions):
    device: Choice = "auto"
    members: tuple[str, ...] = Field(("seasonal_residual", "ridge_ar"), min_length=1)
    member_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of members by name."""


class Fusion(Detector[FusionOptions]):
    """Calibrated mean of its members' scores."""

    Options = FusionOptions
    family = "fusion"

    def __init__(self, options: FusionOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._members: dict[str, Detector[Any]] = {}
        for name in options.members:
            chosen = {"device": options.device, **options.member_options.get(name, {})}
            inner = PluginContext(f"{context.name}.{name}", context.clock)
            self._members[name] = cast(Detector[Any], build("detectors", name, chosen, inner))

    def fit(self, batch: Batch) -> State:
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, member in self._members.items():
            state = member.fit(batch)
            arrays |= {f"{name}:{key}": value for key, value in state.arrays.items()}
            median, high = scale_of(torch.from_numpy(member.score(state, batch).score))
            arrays |= {f"{name}:fusion.median": median.numpy(), f"{name}:fusion.high": high.numpy()}
        return State(batch.series_ids, batch.step_ms, arrays)

    def score(self, state: State, batch: Batch) -> Scores:
        return self._join(state, {n: m.score(self._inner(state, n), batch) for n, m in self._members.items()})

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        arrays = dict(state.arrays)
        scores: dict[str, Scores] = {}
        for name, member in self._members.items():
            inner, scores[name] = member.update(self._inner(state, name), tick)
            arrays |= {f"{name}:{key}": value for key, value in inner.arrays.items()}
        return State(state.series_ids, state.step_ms, arrays, state.shared), self._join(state, scores)

    def close(self) -> None:
        for member in self._members.values():
            member.close()

    def _inner(self, state: State, name: str) -> State:
        start = f"{name}:"
        arrays = {k[len(start) :]: v for k, v in state.arrays.items() if k.startswith(start)}
        return State(state.series_ids, state.step_ms, arrays, state.shared)

    def _join(self, state: State, scores: Mapping[str, Scores]) -> Scores:
        parts: dict[str, NDArray[np.float32]] = {}
        terms: dict[str, NDArray[np.float32]] = {}
        for name, one in scores.items():
            median = torch.from_numpy(np.array(state.arrays[f"{name}:fusion.median"]))
            high = torch.from_numpy(np.array(state.arrays[f"{name}:fusion.high"]))
            parts[name] = excess(torch.from_numpy(one.score), median, high).numpy()
            terms |= {f"{name}.{term}": value for term, value in one.terms.items()}
        first = scores[self.options.members[0]]
        mean: NDArray[np.float32] = np.stack(list(parts.values())).mean(axis=0, dtype=np.float32)
        return Scores(mean, first.expected, first.lower, first.upper, terms)
