"""Several detectors as one: the root mean square of their scores on the common scale.

A member that is calibrated (``detectors/support/calibration.py``) counts as it is; the score of any other is put on
the same scale first: log of the excess over the median of its training scores, in units of the distance from there to
the 90 % quantile, per series, so that a member with long tails does not drown the others. Members are named in
the options; expected value and band are those of the first. Terms are named ``member.term``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.errors import PermanentError
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support.calibration import combine, scale_of
from detectors.support.device import Choice
from detectors.support.edge_graph import EdgeGraph, EdgeMember, EdgeScores, onnx_of


class FusionOptions(PluginOptions):
    device: Choice = "auto"
    members: tuple[str, ...] = Field(("seasonal_residual", "ridge_ar", "window_covariance"), min_length=1)
    member_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of members by name."""


class Fusion(Detector[FusionOptions]):
    """Calibrated mean of its members' scores."""

    Options = FusionOptions
    family = "fusion"
    calibrated = True

    def __init__(self, options: FusionOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._members: dict[str, Detector[Any]] = {}
        for name in options.members:
            chosen = {"device": options.device, **options.member_options.get(name, {})}
            inner = PluginContext(f"{context.name}.{name}", context.clock)
            self._members[name] = cast(Detector[Any], build("detectors", name, chosen, inner))
        self.joint = any(member.joint for member in self._members.values())
        self.spans = {f"{n}.{term}": span for n, member in self._members.items() for term, span in member.spans.items()}

    def fit(self, batch: Batch) -> State:
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, member in self._members.items():
            state = member.fit(batch)
            arrays |= {f"{name}:{key}": value for key, value in state.arrays.items()}
            if not member.calibrated:
                score = torch.from_numpy(member.score(state, batch).score)
                mask = score.isfinite()
                median, gap = scale_of({name: torch.where(mask, score, 0.0)}, mask, {})
                arrays |= {f"{name}:fusion.median": median.numpy(), f"{name}:fusion.gap": gap.numpy()}
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

    def to_onnx(self, state: State) -> bytes:
        return onnx_of(self, self.family, state)

    def edge(self, graph: EdgeGraph, state: State) -> EdgeScores:
        """The scores of a stretch as a graph. Raises ``PermanentError`` naming a member that has none."""
        squares, first = [], None
        for name, member in self._members.items():
            if not (hasattr(member, "edge") and member.calibrated):
                raise PermanentError(f"The member '{name}' of this model cannot be exported.")
            scores = cast(EdgeMember, member).edge(graph, self._inner(state, name))
            first = first or scores
            squares.append(graph.op("Mul", scores.score, scores.score))
        mean = graph.op("Div", graph.op("Sum", *squares), graph.number(len(squares)))
        assert first is not None
        return EdgeScores(graph.op("Sqrt", mean), first.expected, first.half)

    def close(self) -> None:
        for member in self._members.values():
            member.close()

    def _inner(self, state: State, name: str) -> State:
        start = f"{name}:"
        arrays = {k[len(start) :]: v for k, v in state.arrays.items() if k.startswith(start)}
        return State(state.series_ids, state.step_ms, arrays, state.shared)

    def _join(self, state: State, scores: Mapping[str, Scores]) -> Scores:
        own = {name: self._on_scale(state, name, one) for name, one in scores.items()}
        squares = [np.square(score) for score in own.values()]
        joined: NDArray[np.float32] = np.sqrt(sum(squares[1:], squares[0]) / np.float32(len(squares)))
        whole = np.maximum(joined, np.float32(1e-6)) * np.float32(len(squares))
        terms: dict[str, NDArray[np.float32]] = {}
        for name, one in scores.items():
            if not self._members[name].calibrated:
                terms[f"{name}.score"] = (np.square(own[name]) / whole).astype(np.float32, copy=False)
                continue
            # A member's share of the square, split as the member splits its own score.
            factor = np.square(own[name]) / np.maximum(one.score, np.float32(1e-6)) / whole
            for term, value in one.terms.items():
                terms[f"{name}.{term}"] = np.multiply(value, factor, out=value)
        first = scores[self.options.members[0]]
        return Scores(joined, first.expected, first.lower, first.upper, terms)

    def _on_scale(self, state: State, name: str, one: Scores) -> NDArray[np.float32]:
        if self._members[name].calibrated:
            return one.score
        median = torch.from_numpy(np.array(state.arrays[f"{name}:fusion.median"]))
        gap = torch.from_numpy(np.array(state.arrays[f"{name}:fusion.gap"]))
        out: NDArray[np.float32] = combine({name: torch.from_numpy(one.score)}, median, gap)[0].numpy()
        return out
