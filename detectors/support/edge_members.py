"""The scores of a stretch of the closed-form detectors as ONNX graphs, the same sums as their ``score`` methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.support.edge_graph import EdgeGraph, EdgeScores
from detectors.support.seasons import SLOTS

Arrays = Mapping[str, NDArray[Any]]


def seasonal_residual(
    graph: EdgeGraph, arrays: Arrays, *, shift_steps: int, energy_steps: tuple[int, ...], band: float, clip: float
) -> EdgeScores:
    """As ``detectors.seasonal_residual``."""
    centre, unit, sigma = (graph.column(arrays[name]) for name in ("centre", "unit", "sigma"))
    profile = graph.op("Add", _seasons(graph, arrays), graph.column(arrays["bias"]))
    scaled = graph.op("Div", graph.op("Sub", graph.seen, centre), unit)
    away = graph.op("Div", graph.op("Sub", scaled, profile), sigma)
    z = graph.op("Where", graph.observed, away, graph.number(0.0))
    clipped = graph.clip(z, -clip, clip)
    square = graph.op("Mul", clipped, clipped)
    mean = graph.trailing_mean(clipped, graph.observed, shift_steps)
    lasting = graph.op("Div", graph.op("Abs", mean), graph.column(arrays["shift_scale"]))
    parts = [graph.op("Add", graph.op("Abs", z), lasting)]
    parts += [graph.trailing_mean(square, graph.observed, steps) for steps in energy_steps]
    score = graph.combined(parts, arrays["part_median"], arrays["part_gap"])
    half = graph.column((np.float32(band) * (arrays["sigma"] * arrays["unit"])).astype(np.float32))
    expected = graph.op("Add", centre, graph.op("Mul", unit, profile))
    return EdgeScores(graph.where_seen(score, arrays["seen"]), expected, half)


def _seasons(graph: EdgeGraph, arrays: Arrays) -> str:
    """Sum of the profiles at the times, [S, T]."""
    total = graph.op("Mul", graph.seen, graph.number(0.0))
    times = graph.op("Unsqueeze", graph.timestamps, graph.whole(0))
    for slot in SLOTS:
        period = arrays[f"period.{slot.name}"]
        if not period.any():
            continue
        length = graph.column(np.maximum(period, 1).astype(np.int64))
        phase = graph.op("Mul", graph.op("Mod", times, length), graph.whole(slot.bins))
        bins = graph.op("Div", phase, length)
        part = graph.op("GatherElements", graph.learnt(arrays[f"profile.{slot.name}"]), bins, axis=1)
        total = graph.op("Add", total, part)
    return total


def ridge_ar(
    graph: EdgeGraph,
    arrays: Arrays,
    *,
    lags: int,
    burst_steps: int,
    energy_steps: tuple[int, ...],
    band: float,
    clip: float,
    early: float,
) -> EdgeScores:
    """As ``detectors.ridge_ar``. ``early`` caps the surprise of steps that lack some of their lags."""
    centre, unit, sigma = (graph.column(arrays[name]) for name in ("centre", "unit", "sigma"))
    scaled = graph.op("Div", graph.op("Sub", graph.seen, centre), unit)
    raw = graph.op("Where", graph.observed, scaled, graph.number(0.0))
    nothing = graph.op("Mul", graph.learnt(arrays["centre"]), graph.number(0.0))
    x = graph.forward_filled(raw, graph.observed, nothing)
    weights = arrays["weights"]
    line = graph.clip(graph.op("Pad", x, graph.whole(0, lags, 0, 0)), -4 * clip, 4 * clip)
    past = graph.shifted(line, lags, 1)
    row = graph.op("Unsqueeze", graph.learnt(weights[:, :lags]), graph.whole(1))
    weighted = graph.op("Squeeze", graph.op("MatMul", row, past), graph.whole(1))
    forecast = graph.op("Add", weighted, graph.column(weights[:, lags]))
    distance = graph.op("Div", graph.op("Abs", graph.op("Sub", x, forecast)), sigma)
    zero, one = (graph.constant(np.array(n, np.int64)) for n in (0, 1))
    place = graph.op("Range", zero, graph.op("Squeeze", graph.steps, graph.whole(0)), one)
    warm = graph.op("Less", place, graph.constant(np.array(lags, np.int64)))
    cap = graph.op("Where", warm, graph.number(early), graph.number(4 * clip))
    surprise = graph.op("Min", distance, cap)
    burst = graph.trailing_mean(surprise, graph.observed, burst_steps)
    square = graph.op("Mul", surprise, surprise)
    parts = [graph.op("Add", surprise, graph.op("Div", burst, graph.column(arrays["burst_scale"])))]
    parts += [graph.trailing_mean(square, graph.observed, steps) for steps in energy_steps]
    score = graph.combined(parts, arrays["part_median"], arrays["part_gap"])
    half = graph.column((np.float32(band) * arrays["sigma"] * arrays["unit"]).astype(np.float32))
    expected = graph.op("Add", centre, graph.op("Mul", unit, forecast))
    return EdgeScores(graph.where_seen(score, arrays["seen"]), expected, half)


def window_covariance(
    graph: EdgeGraph, arrays: Arrays, *, scales: tuple[tuple[int, int], ...], band: float, clip: float
) -> EdgeScores:
    """As ``detectors.window_covariance``."""
    centre, unit = graph.column(arrays["centre"]), graph.column(arrays["unit"])
    scaled = graph.op("Div", graph.op("Sub", graph.seen, centre), unit)
    raw = graph.clip(graph.op("Where", graph.observed, scaled, graph.number(0.0)), -4 * clip, 4 * clip)
    first = _first(graph, raw)
    x = graph.forward_filled(raw, graph.observed, graph.op("Squeeze", first, graph.whole(1)))
    parts = [
        _energies(graph, x, first, graph.learnt(arrays[f"factor.window_{width * step}"]), width, step)
        for width, step in scales
    ]
    score = graph.combined(parts, arrays["part_median"], arrays["part_gap"])
    half = graph.column((np.float32(band) * (arrays["spread"] * arrays["unit"])).astype(np.float32))
    expected = graph.op("Add", centre, graph.op("Mul", graph.seen, graph.number(0.0)))
    return EdgeScores(graph.where_seen(score, arrays["seen"]), expected, half)


def _first(graph: EdgeGraph, x: str) -> str:
    """The first observed value, [S, 1]; 0 where there is none, as unobserved steps are 0."""
    place = graph.op("ArgMax", graph.single(graph.observed), axis=1, keepdims=1)
    return graph.op("GatherElements", x, place, axis=1)


def _energies(graph: EdgeGraph, x: str, first: str, factor: str, width: int, step: int) -> str:
    """Mean square of the whitened window that ends at each step."""
    ahead = graph.op("Tile", first, graph.whole(1, width * step - 1))
    line = graph.op("Concat", ahead, x, axis=1)
    if step > 1:
        total = graph.op("CumSum", graph.double(line), graph.constant(np.array(1, np.int64)))
        total = graph.op("Pad", total, graph.whole(0, 1, 0, 0))
        size = graph.op("Add", graph.steps, graph.whole(width * step))
        late = graph.cut(total, graph.whole(step), size)
        early = graph.cut(total, graph.whole(0), graph.op("Sub", size, graph.whole(step)))
        mean = graph.op("Div", graph.op("Sub", late, early), graph.constant(np.array(step, np.float64)))
        line = graph.single(mean)
    white = graph.op("MatMul", factor, graph.shifted(line, width, step))
    return graph.op("ReduceMean", graph.op("Mul", white, white), graph.whole(1), keepdims=0)
