"""Scores of a stretch as an ONNX graph, for machines that have onnxruntime and nothing else.

Built operator by operator with ``onnx.helper``: the learnt arrays are constants of the graph, of which ``rows`` picks
those of the series that are scored. Inputs: ``values`` float32 [S, T], ``mask`` bool [S, T], ``timestamps`` int64 [T]
(ms UTC), ``rows`` int64 [S]. Outputs: ``score``, ``expected``, ``lower``, ``upper``, float32 [S, T]. Only what looks at
a whole stretch is exported; the step-by-step form, whose state moves on, is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import State
from aiops.core.errors import ConfigError, PermanentError

OPSET, IR_VERSION = 18, 9
MAX_BYTES = 1_800_000_000
"""A protobuf message holds less than 2 GiB."""


@dataclass(frozen=True, slots=True)
class EdgeScores:
    """Names of values [S, T] in a graph: NaN in ``score`` where nothing was observed; ``half`` of the band."""

    score: str
    expected: str
    half: str


class EdgeMember(Protocol):
    """A detector whose scores of a stretch can be told as a graph."""

    def edge(self, graph: EdgeGraph, state: State) -> EdgeScores: ...


class EdgeGraph:
    """Nodes and constants under construction. Values are named; every method gives the name of its result."""

    values, mask, timestamps, rows = "values", "mask", "timestamps", "rows"

    def __init__(self) -> None:
        try:
            import onnx
            from onnx import helper, numpy_helper
        except ImportError as error:
            raise ConfigError("An export needs the package onnx.", hint="Install the extra 'onnx'.") from error
        self._onnx, self._helper, self._numpy = onnx, helper, numpy_helper
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._known: dict[bytes, str] = {}
        self._count = 0
        raw = self.op("Not", self.op("Or", self.op("IsNaN", self.values), self.op("IsInf", self.values)))
        self.observed = self.op("And", self.mask, raw)
        self.seen = self.op("Where", self.observed, self.values, self.number(0.0))
        self.steps = self.op("Shape", self.timestamps)

    # ------------------------------------------------------------------ building

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One operator with one result."""
        self._count += 1
        name = f"{kind.lower()}_{self._count}"
        self._nodes.append(self._helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        """An array of the graph; the same again is the same."""
        content = np.ascontiguousarray(array)
        key = str((content.dtype, content.shape)).encode() + content.tobytes() if content.size <= 64 else b""
        if key and key in self._known:
            return self._known[key]
        self._count += 1
        name = f"constant_{self._count}"
        self._constants.append(self._numpy.from_array(content, name))
        if key:
            self._known[key] = name
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def whole(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def learnt(self, array: NDArray[Any]) -> str:
        """What was learnt, [all series, ...], of the series that are scored; halves become single precision."""
        found = self.op("Gather", self.constant(array), self.rows, axis=0)
        return self.single(found) if array.dtype == np.float16 else found

    def column(self, array: NDArray[Any]) -> str:
        """The same of one number a series, [S, 1]."""
        return self.op("Unsqueeze", self.learnt(array), self.whole(1))

    def single(self, value: str) -> str:
        return self.op("Cast", value, to=self._onnx.TensorProto.FLOAT)

    def double(self, value: str) -> str:
        return self.op("Cast", value, to=self._onnx.TensorProto.DOUBLE)

    def clip(self, value: str, low: float, high: float) -> str:
        return self.op("Clip", value, self.number(low), self.number(high))

    def cut(self, value: str, start: str, end: str) -> str:
        """Steps ``[start, end)``, both int64 [1]."""
        return self.op("Slice", value, start, end, self.whole(1))

    # ------------------------------------------------------------------ what detectors share

    def trailing_mean(self, values: str, mask: str, width: int) -> str:
        """Mean of the observed values among the last ``width`` steps; 0 where there is none."""
        zero = self.op("Where", mask, values, self.number(0.0))
        total = self._trailing_sum(self.double(zero), width)
        count = self._trailing_sum(self.double(self.single(mask)), width)
        least = self.constant(np.array(1.0, np.float64))
        return self.single(self.op("Div", total, self.op("Max", count, least)))

    def _trailing_sum(self, values: str, width: int) -> str:
        line = self.op("Pad", values, self.whole(0, width, 0, 0))
        total = self.op("CumSum", line, self.constant(np.array(1, np.int64)))
        late = self.cut(total, self.whole(width), self.op("Add", self.steps, self.whole(width)))
        return self.op("Sub", late, self.cut(total, self.whole(0), self.steps))

    def forward_filled(self, values: str, mask: str, before: str) -> str:
        """Gaps take the last observed value, or ``before`` [S] where there is none yet."""
        helper, kinds = self._helper, self._onnx.TensorProto
        body = helper.make_graph(
            [
                helper.make_node("Where", ["fill_mask", "fill_value", "fill_last"], ["fill_now"]),
                helper.make_node("Identity", ["fill_now"], ["fill_out"]),
            ],
            "fill",
            [
                helper.make_tensor_value_info("fill_last", kinds.FLOAT, ["S"]),
                helper.make_tensor_value_info("fill_value", kinds.FLOAT, ["S"]),
                helper.make_tensor_value_info("fill_mask", kinds.BOOL, ["S"]),
            ],
            [
                helper.make_tensor_value_info("fill_now", kinds.FLOAT, ["S"]),
                helper.make_tensor_value_info("fill_out", kinds.FLOAT, ["S"]),
            ],
        )
        self._count += 1
        last, out = f"scan_last_{self._count}", f"scan_{self._count}"
        node = helper.make_node(
            "Scan",
            [before, values, mask],
            [last, out],
            body=body,
            num_scan_inputs=2,
            scan_input_axes=[1, 1],
            scan_output_axes=[1],
        )
        self._nodes.append(node)
        return out

    def shifted(self, line: str, width: int, step: int) -> str:
        """``width`` stretches of T steps, each ``step`` later, as [S, width, T]."""
        parts = []
        for place in range(width):
            start = self.whole(place * step)
            part = self.cut(line, start, self.op("Add", self.steps, start))
            parts.append(self.op("Unsqueeze", part, self.whole(1)))
        return self.op("Concat", *parts, axis=1)

    def combined(self, parts: Sequence[str], median: NDArray[Any], gap: NDArray[Any]) -> str:
        """The score of parts on their common scale (``calibration.combine``)."""
        squares = []
        for number, part in enumerate(parts):
            above = self.op("Div", self.op("Sub", part, self.column(median[:, number])), self.column(gap[:, number]))
            excess = self.op("Log", self.op("Add", self.op("Relu", above), self.number(1.0)))
            squares.append(self.op("Div", self.op("Mul", excess, excess), self.number(len(parts))))
        return self.op("Sqrt", self.op("Sum", *squares))

    def where_seen(self, score: str, seen: NDArray[np.bool_]) -> str:
        """NaN where nothing was observed, now or in the training."""
        usable = self.op("And", self.observed, self.column(seen))
        return self.op("Where", usable, score, self.number(float("nan")))

    # ------------------------------------------------------------------ the model

    def model(self, scores: EdgeScores, about: Mapping[str, str]) -> bytes:
        """The finished model, checked. Raises ``PermanentError`` where it is too large for one file."""
        helper, kinds = self._helper, self._onnx.TensorProto
        for name, value in (
            ("score", scores.score),
            ("expected", scores.expected),
            ("lower", self.op("Sub", scores.expected, scores.half)),
            ("upper", self.op("Add", scores.expected, scores.half)),
        ):
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        size = sum(constant.ByteSize() for constant in self._constants)
        if size > MAX_BYTES:
            raise PermanentError(f"The model has {size / 1e9:.1f} GB, more than one ONNX file may hold.")
        inputs = (
            helper.make_tensor_value_info("values", kinds.FLOAT, ["S", "T"]),
            helper.make_tensor_value_info("mask", kinds.BOOL, ["S", "T"]),
            helper.make_tensor_value_info("timestamps", kinds.INT64, ["T"]),
            helper.make_tensor_value_info("rows", kinds.INT64, ["S"]),
        )
        outputs = [
            helper.make_tensor_value_info(n, kinds.FLOAT, ["S", "T"]) for n in ("score", "expected", "lower", "upper")
        ]
        graph = helper.make_graph(self._nodes, "scores", inputs, outputs, self._constants)
        made = helper.make_model(
            graph,
            producer_name="aiops",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        helper.set_model_props(made, dict(about))
        self._onnx.checker.check_model(made)
        return bytes(made.SerializeToString())


def onnx_of(member: EdgeMember, family: str, state: State) -> bytes:
    """The model of one detector."""
    graph = EdgeGraph()
    return graph.model(member.edge(graph, state), {"family": family, "step_ms": str(state.step_ms)})
