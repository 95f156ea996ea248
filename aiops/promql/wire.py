"""Query results in the JSON form of Prometheus' HTTP API."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from aiops.core.series import HistogramPoint, QueryResult, ResultType
from aiops.promql.plan import number_text


def seconds(ms: int) -> int | float:
    return ms // 1000 if ms % 1000 == 0 else ms / 1000


def result_data(result: QueryResult, time_ms: int = 0) -> dict[str, Any]:
    """The ``data`` member of an answer. ``time_ms`` dates a string result."""
    block = result.block
    if result.type is ResultType.STRING:
        return {"resultType": "string", "result": [seconds(time_ms), result.text]}
    if result.type is ResultType.SCALAR:
        return {"resultType": "scalar", "result": [seconds(int(block.ts[0])), value_text(float(block.values[0]))]}
    whole = not bool((block.ts % 1000).any())
    times = (block.ts // 1000).tolist() if whole else [seconds(t) for t in block.ts.tolist()]
    texts = value_texts(block.values)
    if result.type is ResultType.VECTOR:
        rows = [
            {"metric": dict(labels), "value": [t, v]} for labels, t, v in zip(block.labels, times, texts, strict=True)
        ]
        native = [
            {"metric": dict(labels), "histogram": [seconds(p.ts), _histogram(p)]}
            for labels, points in result.histograms
            for p in points
        ]
        return {"resultType": "vector", "result": rows + native}
    offsets = block.offsets.tolist()
    matrix: list[dict[str, Any]] = [
        {"metric": dict(labels), "values": [[t, v] for t, v in zip(times[a:b], texts[a:b], strict=True)]}
        for labels, a, b in zip(block.labels, offsets, offsets[1:], strict=False)
    ]
    if result.histograms:
        place = {labels: i for i, labels in enumerate(block.labels)}
        for labels, points in result.histograms:
            own = [[seconds(p.ts), _histogram(p)] for p in points]
            if labels in place:
                matrix[place[labels]]["histograms"] = own
            else:
                matrix.append({"metric": dict(labels), "histograms": own})
    return {"resultType": "matrix", "result": matrix}


def _histogram(point: HistogramPoint) -> dict[str, Any]:
    told: dict[str, Any] = {"count": value_text(point.count), "sum": value_text(point.sum)}
    if point.buckets:
        told["buckets"] = [[rule, *map(value_text, numbers)] for rule, *numbers in point.buckets]
    return told


def value_texts(values: NDArray[np.float64]) -> list[str]:
    """:func:`value_text` of each; where JSON needs no exponent its digits are the same."""
    size = np.abs(values)
    alike = (size >= 1e-4) & (size < 1e15) | ((values == 0) & ~np.signbit(values))
    if not len(values) or not bool(alike.all()):
        return [value_text(v) for v in values.tolist()]
    texts = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY).decode()[1:-1].split(",")
    return [text[:-2] if text.endswith(".0") else text for text in texts]


def value_text(value: float) -> str:
    """A sample as Prometheus' API writes it: Go's ``'f', -1``, exponents only below 1e-6 and from 1e21 on."""
    size = abs(value)
    if size == 0 or size != size or 1e-6 <= size < 1e21 or size == float("inf"):
        return number_text(value)
    mantissa, exponent = repr(value).split("e") if "e" in repr(value) else f"{value:.17g}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+03d}"
