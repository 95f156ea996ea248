"""Functions over windows of samples, in NumPy: all windows at once, sample by sample.

Each does the same arithmetic in the same order as the compiled kernels (``kernels.py``), which replace it once
they are warm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from aiops.promql.frame import Bools, Floats, Ints

OPS = (
    "count", "sum", "avg", "min", "max", "last", "first", "present", "stddev", "stdvar", "quantile", "mad", "changes",
    "resets", "rate", "increase", "delta", "irate", "idelta", "deriv", "predict_linear", "smoothing",
    "ts_of_min", "ts_of_max", "ts_of_last", "ts_of_first",
)  # fmt: skip
OP = {name: code for code, name in enumerate(OPS)}
NEEDS_TWO = frozenset({"rate", "increase", "delta", "irate", "idelta", "deriv", "predict_linear", "smoothing"})
_SORT_CELLS = 2_000_000


def bounds(offsets: Ints, ts: Ints, ends: Ints, length_ms: int) -> tuple[Ints, Ints]:
    """First and one-past-last sample index of the left-open window ``(end - length, end]``; int64 [S, T] each."""
    series = len(offsets) - 1
    lo, hi = np.empty((series, len(ends)), np.int64), np.empty((series, len(ends)), np.int64)
    starts = ends - length_ms
    for i in range(series):
        a, b = int(offsets[i]), int(offsets[i + 1])
        own = ts[a:b]
        lo[i] = np.searchsorted(own, starts, "right") + a
        hi[i] = np.searchsorted(own, ends, "right") + a
    return lo, hi


def over_windows(
    op: str, offsets: Ints, ts: Ints, values: Floats, ends: Ints, length_ms: int, evals: Ints, p0: Floats, p1: Floats
) -> tuple[Floats, Bools]:
    """One function over all windows.

    Args:
        offsets, ts, values: samples in CSR form, no staleness markers among them.
        ends: int64 [T]; ``evals`` int64 [T] are the evaluation times (``predict_linear``).
        p0, p1: float64 [T], the function's parameters by step.

    Returns:
        values float64 [S, T] and where there is one, bool [S, T].
    """
    lo, hi = bounds(offsets, ts, ends, length_ms)
    shape = lo.shape
    count = (hi - lo).ravel()
    ok = count >= (2 if op in NEEDS_TWO else 1)
    out = np.zeros(len(count))
    picked = np.nonzero(ok)[0]
    if len(picked):
        step = picked % shape[1] if shape[1] else picked
        w = _Lanes(
            ts, values, lo.ravel()[picked], count[picked], ends[step], length_ms, evals[step], p0[step], p1[step]
        )
        with np.errstate(all="ignore"):
            out[picked] = _FUNCTIONS[op](w)
            if op in ("irate", "idelta"):
                last = w.lo + w.n - 1
                ok[picked] = ts[last] != ts[last - 1]
    return out.reshape(shape), ok.reshape(shape)


def neumaier(inc: Floats, total: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """One step of a compensated sum."""
    t = np.asarray(total + inc)
    more = np.where(np.abs(total) >= np.abs(inc), (total - t) + inc, (inc - t) + total)
    return t, np.where(np.isinf(t), 0.0, rest + more)


class _Lanes:
    """All windows side by side; ``each`` walks through them one sample at a time."""

    def __init__(
        self, ts: Ints, v: Floats, lo: Ints, n: Ints, end: Ints, length_ms: int, eval_ms: Ints, p0: Floats, p1: Floats
    ) -> None:
        self.ts, self.v, self.lo, self.n = ts, v, lo, n
        self.end, self.length_ms, self.eval_ms, self.p0, self.p1 = end, length_ms, eval_ms, p0, p1

    def each(self, start: int = 0) -> Iterator[tuple[Ints, Ints]]:
        """(windows that have a sample k, its index), for k from ``start``."""
        for k in range(start, int(self.n.max())):
            here = np.nonzero(self.n > k)[0]
            yield here, self.lo[here] + k

    @property
    def first(self) -> Floats:
        return np.asarray(self.v[self.lo])

    @property
    def last(self) -> Floats:
        return np.asarray(self.v[self.lo + self.n - 1])


def _sum(w: _Lanes) -> Floats:
    total, rest = np.zeros(len(w.n)), np.zeros(len(w.n))
    for here, at in w.each():
        total[here], rest[here] = neumaier(w.v[at], total[here], rest[here])
    return np.asarray(np.where(np.isinf(total), total, total + rest))


def avg_step(
    value: Floats, count: Floats, total: Floats, rest: Floats, mean: Floats, running: Bools
) -> tuple[Floats, Floats, Floats, Bools]:
    """One sample into an average that does not overflow: a sum until it would, a running mean from there on.

    ``count`` includes the new sample. Returns (total, rest, mean, running).
    """
    t, c = neumaier(value, total, rest)
    plain = ~running & ~np.isinf(t)
    switch = ~running & ~plain
    mean = np.where(switch, total / (count - 1), mean)
    rest = np.where(switch, rest / (count - 1), rest)
    keep = np.isinf(mean) & ((np.isinf(value) & ((mean > 0) == (value > 0))) | np.isfinite(value))
    share = (count - 1) / count
    m, mc = neumaier(value / count, mean * share, rest * share)
    step = ~plain & ~keep
    return (
        np.where(plain, t, total),
        np.where(plain, c, np.where(step, mc, rest)),
        np.where(step, m, mean),
        running | switch,
    )


def avg_result(count: Floats, total: Floats, rest: Floats, mean: Floats, running: Bools) -> Floats:
    return np.asarray(np.where(running, np.where(np.isinf(mean), mean, mean + rest), total / count + rest / count))


def _avg(w: _Lanes) -> Floats:
    size = len(w.n)
    total, rest, mean, running = w.first.copy(), np.zeros(size), np.zeros(size), np.zeros(size, bool)
    for k, (here, at) in enumerate(w.each(1), 2):
        total[here], rest[here], mean[here], running[here] = avg_step(
            w.v[at], np.full(len(here), float(k)), total[here], rest[here], mean[here], running[here]
        )
    return avg_result(w.n.astype(float), total, rest, mean, running)


def _extreme(sign: int, times: bool) -> Callable[[_Lanes], Floats]:
    def run(w: _Lanes) -> Floats:
        best, when = w.first.copy(), w.ts[w.lo].copy()
        for here, at in w.each(1):
            value, current = w.v[at], best[here]
            better = (value * sign >= current * sign) if times else (value * sign > current * sign)
            better |= np.isnan(current)
            best[here] = np.where(better, value, current)
            when[here] = np.where(better, w.ts[at], when[here])
        return when / 1000.0 if times else best

    return run


def _variance(w: _Lanes) -> Floats:
    size = len(w.n)
    mean, mean_c, aux, aux_c = np.zeros(size), np.zeros(size), np.zeros(size), np.zeros(size)
    for k, (here, at) in enumerate(w.each(), 1):
        value = w.v[at]
        delta = value - (mean[here] + mean_c[here])
        mean[here], mean_c[here] = neumaier(delta / k, mean[here], mean_c[here])
        more = delta * (value - (mean[here] + mean_c[here]))
        aux[here], aux_c[here] = neumaier(more, aux[here], aux_c[here])
    return (aux + aux_c) / w.n


def quantile_of(q: Floats, table: Floats, count: Ints) -> Floats:
    """Quantiles of the rows of ``table`` (unused cells hold NaN); ``count`` values a row. NaN sorts first."""
    missing = count - (~np.isnan(table)).sum(axis=1)
    ordered = np.sort(table, axis=1)
    rank = q * (count - 1)
    lower = np.maximum(0.0, np.floor(rank))
    upper = np.minimum(count - 1.0, lower + 1)
    weight = rank - np.floor(rank)
    rows = np.arange(len(table))

    def at(position: Floats) -> Floats:
        index = np.nan_to_num(position, nan=0.0, posinf=0.0, neginf=0.0).astype(np.int64) - missing
        inside = np.clip(index, 0, table.shape[1] - 1)
        return np.where(index < 0, np.nan, ordered[rows, inside])

    out = at(lower) * (1 - weight) + at(upper) * weight
    out = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, out))
    return np.where(np.isnan(q) | (count == 0), np.nan, out)


def _tables(w: _Lanes) -> Iterator[tuple[slice, Floats]]:
    longest = int(w.n.max())
    rows = max(1, _SORT_CELLS // longest)
    for a in range(0, len(w.n), rows):
        part = slice(a, a + rows)
        at = w.lo[part, None] + np.arange(longest)
        inside = np.arange(longest) < w.n[part, None]
        yield part, np.where(inside, w.v[np.minimum(at, len(w.v) - 1)], np.nan)


def _quantile(w: _Lanes) -> Floats:
    return np.concatenate([quantile_of(w.p0[part], table, w.n[part]) for part, table in _tables(w)])


def _mad(w: _Lanes) -> Floats:
    out = []
    for part, table in _tables(w):
        half = np.full(len(table), 0.5)
        median = quantile_of(half, table, w.n[part])
        out.append(quantile_of(half, np.abs(table - median[:, None]), w.n[part]))
    return np.concatenate(out)


def _changes(w: _Lanes) -> Floats:
    out = np.zeros(len(w.n))
    for here, at in w.each(1):
        now, before = w.v[at], w.v[at - 1]
        out[here] += (now != before) & ~(np.isnan(now) & np.isnan(before))
    return out


def _resets(w: _Lanes) -> Floats:
    out = np.zeros(len(w.n))
    for here, at in w.each(1):
        out[here] += w.v[at] < w.v[at - 1]
    return out


def _extrapolated(counter: bool, per_second: bool) -> Callable[[_Lanes], Floats]:
    def run(w: _Lanes) -> Floats:
        result = w.last - w.first
        if counter:
            for here, at in w.each(1):
                now, before = w.v[at], w.v[at - 1]
                result[here] = np.where(now < before, result[here] + before, result[here])
        begin, finish = w.ts[w.lo], w.ts[w.lo + w.n - 1]
        to_start = (begin - (w.end - w.length_ms)) / 1000.0
        to_end = (w.end - finish) / 1000.0
        sampled = (finish - begin) / 1000.0
        spacing = sampled / (w.n - 1)
        threshold = spacing * 1.1
        to_start = np.where(to_start >= threshold, spacing / 2, to_start)
        if counter:
            to_zero = np.where((result > 0) & (w.first >= 0), sampled * (w.first / result), to_start)
            to_start = np.where(to_zero < to_start, to_zero, to_start)
        to_end = np.where(to_end >= threshold, spacing / 2, to_end)
        factor = (sampled + to_start + to_end) / sampled
        if per_second:
            factor = factor / (w.length_ms / 1000.0)
        return np.asarray(result * factor)

    return run


def _instant(per_second: bool) -> Callable[[_Lanes], Floats]:
    def run(w: _Lanes) -> Floats:
        at = w.lo + w.n - 1
        now, before = w.v[at], w.v[at - 1]
        change = np.where(per_second & (now < before), now, now - before)
        return np.asarray(change / ((w.ts[at] - w.ts[at - 1]) / 1000.0) if per_second else change)

    return run


def _regression(w: _Lanes, origin: Ints) -> tuple[Floats, Floats]:
    size = len(w.n)
    sums = [np.zeros(size) for _ in range(8)]
    constant = np.ones(size, bool)
    initial = w.first
    for here, at in w.each():
        y = w.v[at]
        x = (w.ts[at] - origin[here]) / 1e3
        constant[here] &= (at == w.lo[here]) | (y == initial[here])
        for k, term in enumerate((x, y, x * y, x * x)):
            sums[2 * k][here], sums[2 * k + 1][here] = neumaier(term, sums[2 * k][here], sums[2 * k + 1][here])
    sx, sy, sxy, sxx = (sums[2 * k] + sums[2 * k + 1] for k in range(4))
    slope = (sxy - sx * sy / w.n) / (sxx - sx * sx / w.n)
    intercept = sy / w.n - slope * sx / w.n
    flat = np.where(np.isinf(initial), np.nan, 0.0)
    return np.where(constant, flat, slope), np.where(constant, initial + flat, intercept)


def _deriv(w: _Lanes) -> Floats:
    return _regression(w, w.ts[w.lo])[0]


def _predict(w: _Lanes) -> Floats:
    slope, intercept = _regression(w, w.eval_ms)
    return slope * w.p0 + intercept


def _smoothing(w: _Lanes) -> Floats:
    before, level = np.zeros(len(w.n)), w.first.copy()
    trend = w.v[w.lo + 1] - level
    for k, (here, at) in enumerate(w.each(1), 1):
        sf, tf = w.p0[here], w.p1[here]
        if k > 1:
            trend[here] = tf * (level[here] - before[here]) + (1 - tf) * trend[here]
        y = (1 - sf) * (level[here] + trend[here])
        before[here], level[here] = level[here], sf * w.v[at] + y
    return level


_FUNCTIONS: dict[str, Callable[[_Lanes], Floats]] = {
    "count": lambda w: w.n.astype(float),
    "sum": _sum,
    "avg": _avg,
    "min": _extreme(-1, times=False),
    "max": _extreme(1, times=False),
    "last": lambda w: w.last,
    "first": lambda w: w.first,
    "present": lambda w: np.ones(len(w.n)),
    "stddev": lambda w: np.sqrt(_variance(w)),
    "stdvar": _variance,
    "quantile": _quantile,
    "mad": _mad,
    "changes": _changes,
    "resets": _resets,
    "rate": _extrapolated(counter=True, per_second=True),
    "increase": _extrapolated(counter=True, per_second=False),
    "delta": _extrapolated(counter=False, per_second=False),
    "irate": _instant(per_second=True),
    "idelta": _instant(per_second=False),
    "deriv": _deriv,
    "predict_linear": _predict,
    "smoothing": _smoothing,
    "ts_of_min": _extreme(-1, times=True),
    "ts_of_max": _extreme(1, times=True),
    "ts_of_last": lambda w: w.ts[w.lo + w.n - 1] / 1000.0,
    "ts_of_first": lambda w: w.ts[w.lo] / 1000.0,
}
