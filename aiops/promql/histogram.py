"""Classic histograms: ``histogram_quantile`` and ``histogram_fraction`` over buckets named by the label ``le``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from aiops.core.series import METRIC_NAME, Labels
from aiops.promql.context import Notes
from aiops.promql.frame import Bools, Floats, Frame, Ints, label_value
from aiops.promql.plan import number_text, quote

BUCKET = "le"
_TOLERANCE = 1e-12
_MIN_NORMAL = 2.2250738585072014e-308


def bound(text: str) -> float | None:
    """An ``le`` value as a number, as Go's ParseFloat reads it; ``None`` where it is none."""
    try:
        if text.strip() != text or "_" in text:
            return None
        return float.fromhex(text) if text.lower().lstrip("+-").startswith("0x") else float(text)
    except ValueError:
        return None


@dataclass(slots=True)
class Noted:
    """Where notes on the quantile and on the buckets belong, and what was mended so far."""

    notes: Notes
    quantile_start: int
    buckets_start: int
    mended: dict[str, Mended] = field(default_factory=dict)

    def bad_bucket(self, labels: Labels) -> None:
        text, name = label_value(labels, BUCKET), label_value(labels, METRIC_NAME)
        message = f"bucket label {quote(BUCKET)} is missing or has a malformed value of {quote(text)}{_of(name)}"
        self.notes.add("warning", message, self.buckets_start)

    def tell(self, times: Ints) -> None:
        """One info a metric on all counts that had to be made monotonic."""
        for name, found in sorted(self.mended.items()):
            at = times[np.array(sorted(found.steps), np.int64)]
            first, last = (f"{datetime.fromtimestamp(int(t) // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" for t in (at[0], at[-1]))
            self.notes.add(
                "info",
                "input to histogram_quantile needed to be fixed for monotonicity (see "
                f"https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){_of(name)}, "
                f"from buckets {short(found.low)} to {short(found.high)}, with a max diff of {found.most:.2g}, "
                f"over {found.count} samples from {first} to {last}",
                self.buckets_start,
            )


@dataclass(slots=True)
class Mended:
    """Decreases between buckets of one metric: over how many samples, from and to which bound, the largest."""

    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    most: float = 0.0
    steps: set[int] = field(default_factory=set)


def _of(name: str) -> str:
    return f" for metric name {quote(name)}" if name else ""


def no_quantiles(q: Floats) -> list[str]:
    """Those of the values, each once, that are no quantile, as Go prints them."""
    bad = q[np.isnan(q) | (q < 0) | (q > 1)]
    return [short(value) for value in np.unique(bad).tolist()]


def quantile(frame: Frame, q: Floats, times: Ints, noted: Noted) -> Frame:
    """``histogram_quantile`` at each step; ``times`` are the steps (ms)."""
    for value in no_quantiles(q):
        noted.notes.add("warning", f"quantile value should be between 0 and 1, got {value}", noted.quantile_start)

    def one(bounds: Floats, counts: Floats, ok: Bools, name: str) -> Floats:
        return _quantiles(q, bounds, counts, ok, lambda: noted.mended.setdefault(name, Mended()))

    result = _per_histogram(frame, one, noted)
    noted.tell(times)
    return result


def fraction(frame: Frame, lower: Floats, upper: Floats, noted: Noted) -> Frame:
    """``histogram_fraction`` at each step."""

    def one(bounds: Floats, counts: Floats, ok: Bools, _name: str) -> Floats:
        out = np.full(len(lower), np.nan)
        for t in np.nonzero(ok.any(axis=0))[0].tolist():
            here = ok[:, t]
            out[t] = _fraction(float(lower[t]), float(upper[t]), *_coalesce(bounds[here], counts[here, t]))
        return out

    return _per_histogram(frame, one, noted)


def _per_histogram(frame: Frame, one: Callable[[Floats, Floats, Bools, str], Floats], noted: Noted) -> Frame:
    groups: dict[Labels, list[tuple[float, int]]] = {}
    for row, labels in enumerate(frame.labels):
        le = bound(label_value(labels, BUCKET))
        if le is None:
            noted.bad_bucket(labels)
            continue
        groups.setdefault(tuple(p for p in labels if p[0] != BUCKET), []).append((le, row))
    steps = frame.ok.shape[1]
    if not groups:
        return Frame.empty(steps)
    values, ok = np.zeros((len(groups), steps)), np.zeros((len(groups), steps), bool)
    for i, (labels, members) in enumerate(groups.items()):
        members.sort(key=lambda pair: pair[0])
        rows = [row for _, row in members]
        bounds = np.array([le for le, _ in members])
        values[i] = one(bounds, frame.values[rows], frame.ok[rows], label_value(labels, METRIC_NAME))
        ok[i] = frame.ok[rows].any(axis=0)
    return Frame(list(groups), values, ok, np.ones(len(groups), bool)).compact()


def _coalesce(bounds: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Buckets of equal bounds summed; ``bounds`` are sorted."""
    edges, where = np.unique(bounds, return_inverse=True)
    if len(edges) == len(bounds):
        return bounds, counts.copy()
    total = np.zeros(len(edges))
    for to, count in zip(where.tolist(), counts.tolist(), strict=True):
        total[to] += count
    return edges, total


def _quantiles(q: Floats, bounds: Floats, counts: Floats, ok: Bools, mended: Callable[[], Mended]) -> Floats:
    """Quantiles of one histogram at each step: counts and ok [buckets, T]. Decreases are noted in ``mended()``."""
    steps = len(q)
    out = np.full(steps, np.nan)
    for pattern, at in _patterns(ok):
        edges, _ = _coalesce(bounds[pattern], np.zeros(int(pattern.sum())))
        table = (
            np.stack([_coalesce(bounds[pattern], counts[pattern, t])[1] for t in at.tolist()], axis=1)
            if len(edges) != int(pattern.sum())
            else counts[pattern][:, at]
        )
        if len(edges) < 2 or not math.isinf(edges[-1]) or edges[-1] < 0:
            out[at] = _edge_case(q[at])
            continue
        table, lower = _monotonic(table)
        if len(decreased := np.nonzero(lower.any(axis=1))[0]):
            found = mended()
            found.low = min(found.low, float(edges[decreased[0]]))
            found.high = max(found.high, float(edges[decreased[-1]]))
            found.most = max(found.most, float(lower.max()))
            found.steps.update(at[lower.any(axis=0)].tolist())
            found.count += int(lower.any(axis=0).sum())
        out[at] = _interpolate(q[at], edges, table)
    return out


def _patterns(ok: Bools) -> list[tuple[Bools, Ints]]:
    """Steps grouped by which buckets are present."""
    if bool(ok.all()):
        return [(ok[:, 0], np.arange(ok.shape[1]))]
    columns, where = np.unique(ok.T, axis=0, return_inverse=True)
    where = where.reshape(-1)
    return [(columns[k], np.nonzero(where == k)[0]) for k in range(len(columns)) if columns[k].any()]


def _edge_case(q: Floats) -> Floats:
    return np.where(np.isnan(q), np.nan, np.where(q < 0, -np.inf, np.where(q > 1, np.inf, np.nan)))


def _monotonic(table: Floats) -> tuple[Floats, Floats]:
    """Counts made non-decreasing, [buckets, T], and by how much each was raised; tiny differences are not told."""
    out, raised = table.copy(), np.zeros_like(table)
    previous = out[0].copy()
    with np.errstate(all="ignore"):
        for i in range(1, len(out)):
            current = out[i]
            size = np.abs(previous) + np.abs(current)
            gap = np.abs(previous - current)
            tiny = (previous == 0) | (current == 0) | (size < _MIN_NORMAL)
            near = np.where(
                tiny, gap < _TOLERANCE * _MIN_NORMAL, gap / np.minimum(size, np.finfo(float).max) < _TOLERANCE
            )
            lower = ~near & (current < previous)
            raised[i] = np.where(lower, previous - current, 0.0)
            out[i] = np.where(near | lower, previous, current)
            previous = np.where(near | lower, previous, current)
    return out, raised


def _interpolate(q: Floats, edges: Floats, table: Floats) -> Floats:
    steps = np.arange(table.shape[1])
    with np.errstate(all="ignore"):
        observations = table[-1]
        rank = q * observations
        reached = table[:-1] >= rank
        b = np.where(reached.any(axis=0), np.argmax(reached, axis=0), len(edges) - 1)
        start = np.where(b > 0, edges[np.maximum(b - 1, 0)], 0.0)
        below = np.where(b > 0, table[np.maximum(b - 1, 0), steps], 0.0)
        width = edges[b] - start
        inside = start + width * ((rank - below) / (table[b, steps] - below))
        out = np.where(b == len(edges) - 1, edges[-2], np.where((b == 0) & (edges[0] <= 0), edges[0], inside))
    out = np.where(observations == 0, np.nan, out)
    edge = np.isnan(q) | (q < 0) | (q > 1)
    return np.where(edge, _edge_case(q), out)


def _fraction(lower: float, upper: float, edges: Floats, counts: Floats) -> float:
    if not math.isinf(edges[-1]) or edges[-1] < 0:
        return math.nan
    total = float(counts[-1])
    if total == 0 or math.isnan(total) or math.isnan(lower) or math.isnan(upper):
        return math.nan
    if lower >= upper:
        return 0.0

    def rank_at(value: float) -> float:
        rank = 0.0
        for i, (edge, count) in enumerate(zip(edges.tolist(), counts.tolist(), strict=True)):
            begin = float(edges[i - 1]) if i else (0.0 if edge > 0 else -math.inf)
            if begin >= value:
                return rank
            if edge > value:
                if math.isinf(begin):
                    return float(count)
                return float(rank + (count - rank) * (value - begin) / (edge - begin))
            rank = count
        return total

    return (min(rank_at(upper), total) - min(rank_at(lower), total)) / total


def open_metrics(value: float) -> str:
    """A number as OpenMetrics has labels of bounds and quantiles: never without a point or an exponent.

    >>> open_metrics(1.0), open_metrics(0.99), open_metrics(5e6), open_metrics(math.inf)
    ('1.0', '0.99', '5e+06', '+Inf')
    """
    text = short(value)
    return text if not math.isfinite(value) or "." in text or "e" in text else f"{text}.0"


def short(value: float) -> str:
    """As Go prints with ``%g``: the fewest digits that read back the same, an exponent from a million on.

    >>> short(1.0), short(0.1234567), short(1234567.5), short(1e-5)
    ('1', '0.1234567', '1.2345675e+06', '1e-05')
    """
    if not math.isfinite(value) or value == 0:
        return number_text(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    power = len(digits) + exponent - 1
    if -4 <= power < 6:
        return number_text(value)
    mantissa = "".join(map(str, digits))
    fraction = f".{mantissa[1:]}" if len(mantissa) > 1 else ""
    return f"{'-' * sign}{mantissa[0]}{fraction}e{power:+03d}"
