"""Compiled kernels (Numba): the same arithmetic as ``windows.py`` and ``aggregate.py``, one window at a time.

Importing this module imports Numba; the engine does so in the background only.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from aiops.core.series import STALE_BITS, SeriesPart
from aiops.promql.context import Kernels
from aiops.promql.frame import Bools, Floats, Ints
from aiops.promql.windows import NEEDS_TWO, OP

_jit = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)

COUNT, SUM, AVG, MIN, MAX, LAST, FIRST, PRESENT, STDDEV, STDVAR, QUANTILE, MAD, CHANGES, RESETS = range(14)
RATE, INCREASE, DELTA, IRATE, IDELTA, DERIV, PREDICT, SMOOTHING, TS_MIN, TS_MAX, TS_LAST, TS_FIRST = range(14, 26)


@_jit
def _neumaier(inc: float, total: float, rest: float) -> Any:
    t = total + inc
    if math.isinf(t):
        return t, 0.0
    if abs(total) >= abs(inc):
        return t, rest + ((total - t) + inc)
    return t, rest + ((inc - t) + total)


@_jit
def _bounds(offsets: Ints, ts: Ints, ends: Ints, length: int, lo: Ints, hi: Ints) -> None:
    steps = len(ends)
    for s in range(len(offsets) - 1):
        stop = offsets[s + 1]
        a = b = offsets[s]
        for t in range(steps):
            end = ends[t]
            while a < stop and ts[a] <= end - length:
                a += 1
            if b < a:
                b = a
            while b < stop and ts[b] <= end:
                b += 1
            lo[s, t] = a
            hi[s, t] = b


@_jit
def _sorted_quantile(q: float, v: Floats) -> Any:
    """``v`` is sorted in place; NaN counts as smallest."""
    n = len(v)
    if n == 0 or math.isnan(q):
        return math.nan
    if q < 0:
        return -math.inf
    if q > 1:
        return math.inf
    missing = 0
    for x in v:
        if math.isnan(x):
            missing += 1
    v.sort()
    rank = q * (n - 1)
    lower = max(0.0, math.floor(rank))
    upper = min(n - 1.0, lower + 1)
    weight = rank - math.floor(rank)
    i, j = int(lower) - missing, int(upper) - missing
    low = math.nan if i < 0 else v[i]
    high = math.nan if j < 0 else v[j]
    return low * (1 - weight) + high * weight


@_jit
def _sum(v: Floats) -> Any:
    total, rest = 0.0, 0.0
    for x in v:
        total, rest = _neumaier(x, total, rest)
    return total if math.isinf(total) else total + rest


@_jit
def _avg_step(x: float, n: float, total: float, rest: float, mean: float, running: bool) -> Any:
    if not running:
        t, c = _neumaier(x, total, rest)
        if not math.isinf(t):
            return t, c, mean, False
        mean = total / (n - 1)
        rest = rest / (n - 1)
    if math.isinf(mean) and ((math.isinf(x) and ((mean > 0) == (x > 0))) or math.isfinite(x)):
        return total, rest, mean, True
    share = (n - 1) / n
    mean, rest = _neumaier(x / n, mean * share, rest * share)
    return total, rest, mean, True


@_jit
def _avg_result(n: float, total: float, rest: float, mean: float, running: bool) -> Any:
    if running:
        return mean if math.isinf(mean) else mean + rest
    return total / n + rest / n


@_jit
def _avg(v: Floats) -> Any:
    total, rest, mean, running = v[0], 0.0, 0.0, False
    for i in range(1, len(v)):
        total, rest, mean, running = _avg_step(v[i], i + 1.0, total, rest, mean, running)
    return _avg_result(float(len(v)), total, rest, mean, running)


@_jit
def _variance(v: Floats) -> Any:
    mean, mean_c, aux, aux_c = 0.0, 0.0, 0.0, 0.0
    for i in range(len(v)):
        x = v[i]
        delta = x - (mean + mean_c)
        mean, mean_c = _neumaier(delta / (i + 1), mean, mean_c)
        aux, aux_c = _neumaier(delta * (x - (mean + mean_c)), aux, aux_c)
    return (aux + aux_c) / len(v)


@_jit
def _extrapolated(
    result: float, ts: Ints, first: float, n: int, end: int, length: int, counter: bool, per_second: bool
) -> Any:
    """``result`` is the change from the first sample, whose value is ``first``, to the last."""
    to_start = (ts[0] - (end - length)) / 1000.0
    to_end = (end - ts[n - 1]) / 1000.0
    sampled = (ts[n - 1] - ts[0]) / 1000.0
    spacing = sampled / (n - 1)
    threshold = spacing * 1.1
    if to_start >= threshold:
        to_start = spacing / 2
    if counter and result > 0 and first >= 0:
        to_zero = sampled * (first / result)
        if to_zero < to_start:
            to_start = to_zero
    if to_end >= threshold:
        to_end = spacing / 2
    factor = (sampled + to_start + to_end) / sampled
    if per_second:
        factor = factor / (length / 1000.0)
    return result * factor


@_jit
def _rates(
    op: int, ts: Ints, values: Floats, lo: Ints, hi: Ints, ends: Ints, length: int, out: Floats, ok: Bools
) -> None:
    """``rate``, ``increase``, ``delta``. Only windows that hold a counter reset are walked through."""
    counter = op != DELTA
    resets = np.zeros(len(values) + 1, np.int32)
    if counter:
        for i in range(1, len(values)):
            resets[i] = resets[i - 1] + (1 if values[i] < values[i - 1] else 0)
    for s in range(lo.shape[0]):
        for t in range(lo.shape[1]):
            a, b = lo[s, t], hi[s, t]
            if b - a < 2:
                continue
            result = values[b - 1] - values[a]
            if resets[b - 1] != resets[a]:
                for i in range(a + 1, b):
                    if values[i] < values[i - 1]:
                        result += values[i - 1]
            out[s, t] = _extrapolated(result, ts[a:b], values[a], b - a, ends[t], length, counter, op == RATE)
            ok[s, t] = True


@_jit
def _regression(ts: Ints, v: Floats, origin: int) -> Any:
    n = len(v)
    sx, cx, sy, cy, sxy, cxy, sxx, cxx = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    constant = True
    for i in range(n):
        y = v[i]
        if i > 0 and y != v[0]:
            constant = False
        x = (ts[i] - origin) / 1e3
        sx, cx = _neumaier(x, sx, cx)
        sy, cy = _neumaier(y, sy, cy)
        sxy, cxy = _neumaier(x * y, sxy, cxy)
        sxx, cxx = _neumaier(x * x, sxx, cxx)
    if constant:
        if math.isinf(v[0]):
            return math.nan, math.nan
        return 0.0, v[0]
    sx += cx
    sy += cy
    sxy += cxy
    sxx += cxx
    slope = (sxy - sx * sy / n) / (sxx - sx * sx / n)
    return slope, sy / n - slope * sx / n


@_jit
def _smoothing(v: Floats, sf: float, tf: float) -> Any:
    before, level = 0.0, v[0]
    trend = v[1] - v[0]
    for i in range(1, len(v)):
        if i > 1:
            trend = tf * (level - before) + (1 - tf) * trend
        y = (1 - sf) * (level + trend)
        before, level = level, sf * v[i] + y
    return level


@_jit
def _extreme(ts: Ints, v: Floats, sign: float, times: bool) -> Any:
    best, when = v[0], ts[0]
    for i in range(1, len(v)):
        x = v[i]
        if math.isnan(best) or x * sign > best * sign or (times and x == best):
            best, when = x, ts[i]
    return when / 1000.0 if times else best


@_jit
def _count_pairs(v: Floats, drops: bool) -> Any:
    out = 0.0
    for i in range(1, len(v)):
        now, before = v[i], v[i - 1]
        if drops:
            if now < before:
                out += 1
        elif now != before and not (math.isnan(now) and math.isnan(before)):
            out += 1
    return out


@_jit
def _mad(v: Floats) -> Any:
    copy = v.copy()
    median = _sorted_quantile(0.5, copy)
    return _sorted_quantile(0.5, np.abs(v - median))


@_jit
def _one(op: int, ts: Ints, v: Floats, evaluated: int, p0: float, p1: float) -> Any:
    n = len(v)
    if op == COUNT:
        return float(n)
    if op == SUM:
        return _sum(v)
    if op == AVG:
        return _avg(v)
    if op == MIN:
        return _extreme(ts, v, -1.0, False)
    if op == MAX:
        return _extreme(ts, v, 1.0, False)
    if op == LAST:
        return v[n - 1]
    if op == FIRST:
        return v[0]
    if op == PRESENT:
        return 1.0
    if op == STDDEV:
        return math.sqrt(_variance(v))
    if op == STDVAR:
        return _variance(v)
    if op == QUANTILE:
        return _sorted_quantile(p0, v.copy())
    if op == MAD:
        return _mad(v)
    if op in (CHANGES, RESETS):
        return _count_pairs(v, op == RESETS)
    if op in (IRATE, IDELTA):
        now, before = v[n - 1], v[n - 2]
        if op == IDELTA:
            return now - before
        change = now if now < before else now - before
        return change / ((ts[n - 1] - ts[n - 2]) / 1000.0)
    if op == DERIV:
        return _regression(ts, v, ts[0])[0]
    if op == PREDICT:
        slope, intercept = _regression(ts, v, evaluated)
        return slope * p0 + intercept
    if op == SMOOTHING:
        return _smoothing(v, p0, p1)
    if op == TS_MIN:
        return _extreme(ts, v, -1.0, True)
    if op == TS_MAX:
        return _extreme(ts, v, 1.0, True)
    if op == TS_LAST:
        return ts[n - 1] / 1000.0
    return ts[0] / 1000.0


@_jit
def _over_windows(
    op: int, least: int, ts: Ints, values: Floats, lo: Ints, hi: Ints, evals: Ints, p0: Floats, p1: Floats,
    out: Floats, ok: Bools,
) -> None:  # fmt: skip
    for s in range(lo.shape[0]):
        for t in range(lo.shape[1]):
            a, b = lo[s, t], hi[s, t]
            if b - a < least:
                continue
            if (op in (IRATE, IDELTA)) and ts[b - 1] == ts[b - 2]:
                continue
            out[s, t] = _one(op, ts[a:b], values[a:b], evals[t], p0[t], p1[t])
            ok[s, t] = True


@_jit
def _part_rates(
    op: int, ts: Ints, clock: Ints, clock_offsets: Ints, offsets: Ints, values: Floats, lo: Ints, hi: Ints, ends: Ints,
    length: int, out: Floats, ok: Bools,
) -> None:  # fmt: skip
    """As :func:`_rates`; what depends on times alone is worked out once a clock."""
    counter, per_second = op != DELTA, op == RATE
    shape = lo.shape
    starts, stops, spans, factors = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for c in range(shape[0]):
        for t in range(shape[1]):
            a, b = lo[c, t], hi[c, t]
            if b - a < 2:
                continue
            to_start = (ts[a] - (ends[t] - length)) / 1000.0
            to_end = (ends[t] - ts[b - 1]) / 1000.0
            sampled = (ts[b - 1] - ts[a]) / 1000.0
            spacing = sampled / (b - a - 1)
            threshold = spacing * 1.1
            if to_start >= threshold:
                to_start = spacing / 2
            if to_end >= threshold:
                to_end = spacing / 2
            factor = (sampled + to_start + to_end) / sampled
            if per_second:
                factor = factor / (length / 1000.0)
            starts[c, t], stops[c, t], spans[c, t], factors[c, t] = to_start, to_end, sampled, factor
    longest = 0
    for s in range(len(clock)):
        longest = max(longest, offsets[s + 1] - offsets[s])
    resets = np.zeros(longest + 1, np.int32)
    for s in range(len(clock)):
        c = clock[s]
        v = values[offsets[s] : offsets[s + 1]]
        drops = 0
        if counter:
            for i in range(1, len(v)):
                drops += v[i] < v[i - 1]
            if drops:
                resets[0] = 0
                for i in range(1, len(v)):
                    resets[i] = resets[i - 1] + (1 if v[i] < v[i - 1] else 0)
        base = clock_offsets[c]
        for t in range(shape[1]):
            a, b = lo[c, t] - base, hi[c, t] - base
            if b - a < 2:
                continue
            first = v[a]
            result = v[b - 1] - first
            if drops and resets[b - 1] != resets[a]:
                for i in range(a + 1, b):
                    if v[i] < v[i - 1]:
                        result += v[i - 1]
            factor = factors[c, t]
            if counter and result > 0 and first >= 0:
                sampled = spans[c, t]
                to_zero = sampled * (first / result)
                if to_zero < starts[c, t]:
                    factor = (sampled + to_zero + stops[c, t]) / sampled
                    if per_second:
                        factor = factor / (length / 1000.0)
            out[s, t] = result * factor
            ok[s, t] = True


@_jit
def _part_windows(
    op: int, least: int, ts: Ints, clock: Ints, clock_offsets: Ints, offsets: Ints, values: Floats, lo: Ints, hi: Ints,
    evals: Ints, p0: Floats, p1: Floats, out: Floats, ok: Bools,
) -> None:  # fmt: skip
    for s in range(len(clock)):
        c = clock[s]
        shift = offsets[s] - clock_offsets[c]
        for t in range(lo.shape[1]):
            a, b = lo[c, t], hi[c, t]
            if b - a < least:
                continue
            if (op in (IRATE, IDELTA)) and ts[b - 1] == ts[b - 2]:
                continue
            out[s, t] = _one(op, ts[a:b], values[a + shift : b + shift], evals[t], p0[t], p1[t])
            ok[s, t] = True


@_jit
def _part_newest(
    clock: Ints, clock_offsets: Ints, offsets: Ints, values: Floats, bits: Ints, lo: Ints, hi: Ints, stale: int,
    out: Floats, ok: Bools,
) -> None:  # fmt: skip
    for s in range(len(clock)):
        c = clock[s]
        shift = offsets[s] - clock_offsets[c]
        for t in range(lo.shape[1]):
            b = hi[c, t]
            if b > lo[c, t]:
                i = b - 1 + shift
                if bits[i] != stale:
                    out[s, t] = values[i]
                    ok[s, t] = True


@_jit
def _any_equal(bits: Ints, wanted: int) -> Any:
    found = 0
    for i in range(len(bits)):
        found += bits[i] == wanted
    return found > 0


@_jit
def _accumulate(
    op: int, values: Floats, ok: Bools, ids: Ints, count: Floats, total: Floats, rest: Floats, mean: Floats,
    running: Bools,
) -> None:  # fmt: skip
    for s in range(values.shape[0]):
        g = ids[s]
        for t in range(values.shape[1]):
            if not ok[s, t]:
                continue
            x = values[s, t]
            count[g, t] += 1
            n = count[g, t]
            if op == 0:
                total[g, t], rest[g, t] = _neumaier(x, total[g, t], rest[g, t])
            elif op == 1:
                if n == 1:
                    total[g, t] = x
                else:
                    total[g, t], rest[g, t], mean[g, t], running[g, t] = _avg_step(
                        x, n, total[g, t], rest[g, t], mean[g, t], running[g, t]
                    )
            elif op == 3 or op == 4:
                best = total[g, t]
                if n == 1 or math.isnan(best) or (x < best if op == 3 else x > best):
                    total[g, t] = x
            elif op == 6 or op == 7:
                delta = x - mean[g, t]
                mean[g, t] += delta / n
                if n > 1 or not math.isfinite(x):
                    total[g, t] += delta * (x - mean[g, t])


def bounds(offsets: Ints, ts: Ints, ends: Ints, length_ms: int) -> tuple[Ints, Ints]:
    shape = (len(offsets) - 1, len(ends))
    lo, hi = np.empty(shape, np.int64), np.empty(shape, np.int64)
    _bounds(_ints(offsets), _ints(ts), _ints(ends), int(length_ms), lo, hi)
    return lo, hi


def over_windows(
    op: str, offsets: Ints, ts: Ints, values: Floats, ends: Ints, length_ms: int, evals: Ints, p0: Floats, p1: Floats
) -> tuple[Floats, Bools]:
    lo, hi = bounds(offsets, ts, ends, length_ms)
    out, ok = np.zeros(lo.shape), np.zeros(lo.shape, np.bool_)
    if OP[op] in (RATE, INCREASE, DELTA):
        _rates(OP[op], _ints(ts), _floats(values), lo, hi, _ints(ends), int(length_ms), out, ok)
        return out, ok
    _over_windows(
        OP[op], 2 if op in NEEDS_TWO else 1, _ints(ts), _floats(values), lo, hi, _ints(evals), _floats(p0),
        _floats(p1), out, ok,
    )  # fmt: skip
    return out, ok


def part_windows(
    op: str, part: SeriesPart, ends: Ints, length_ms: int, evals: Ints, p0: Floats, p1: Floats
) -> tuple[Floats, Bools]:
    """One function over all windows of a part: values float64 [S, T] and where there is one, bool [S, T]."""
    lo, hi = bounds(part.clock_offsets, part.ts, ends, length_ms)
    shape = (len(part.clock), len(ends))
    out, ok = np.zeros(shape), np.zeros(shape, np.bool_)
    ts, clock, clock_offsets = _ints(part.ts), _ints(part.clock), _ints(part.clock_offsets)
    offsets, values = _ints(part.offsets), _floats(part.values)
    if OP[op] in (RATE, INCREASE, DELTA):
        _part_rates(OP[op], ts, clock, clock_offsets, offsets, values, lo, hi, _ints(ends), int(length_ms), out, ok)
    else:
        _part_windows(
            OP[op], 2 if op in NEEDS_TWO else 1, ts, clock, clock_offsets, offsets, values, lo, hi, _ints(evals),
            _floats(p0), _floats(p1), out, ok,
        )  # fmt: skip
    return out, ok


def part_newest(part: SeriesPart, ends: Ints, lookback_ms: int, out: Floats, ok: Bools) -> None:
    """Into ``out`` and ``ok`` [S, T] the newest sample within the lookback, unless it is a staleness marker."""
    lo, hi = bounds(part.clock_offsets, part.ts, ends, lookback_ms)
    values = _floats(part.values)
    _part_newest(
        _ints(part.clock), _ints(part.clock_offsets), _ints(part.offsets), values, values.view(np.int64), lo, hi,
        STALE_BITS, out, ok,
    )  # fmt: skip


def any_stale(values: Floats) -> bool:
    return bool(_any_equal(_floats(values).view(np.int64), STALE_BITS))


def accumulate(
    op: int, values: Floats, ok: Bools, ids: Ints, count: Floats, total: Floats, rest: Floats, mean: Floats,
    running: Bools,
) -> None:  # fmt: skip
    _accumulate(op, _floats(values), np.ascontiguousarray(ok), _ints(ids), count, total, rest, mean, running)


def _own(array: Any, dtype: Any) -> Any:
    """Contiguous and writable, so that only one signature is ever compiled."""
    out = np.ascontiguousarray(array, dtype)
    return out if out.flags.writeable else out.copy()


def _ints(array: Any) -> Any:
    return _own(array, np.int64)


def _floats(array: Any) -> Any:
    return _own(array, np.float64)


def load() -> Kernels:
    """Compile everything for the types in use, or read it from Numba's cache on disk."""
    offsets, ts = np.array([0, 3], np.int64), np.array([1000, 2000, 3000], np.int64)
    values, ends = np.array([1.0, 2.0, 3.0]), np.array([3000], np.int64)
    one = np.array([0.5])
    for op in ("count", "rate"):
        over_windows(op, offsets, ts, values, ends, 5000, ends, one, one)
    count, total, rest, mean = (np.zeros((1, 1)) for _ in range(4))
    here, group = np.ones((1, 1), np.bool_), np.zeros(1, np.int64)
    accumulate(0, np.ones((1, 1)), here, group, count, total, rest, mean, np.zeros((1, 1), np.bool_))
    part = SeriesPart.of(offsets, ts, values)
    for op in ("count", "rate"):
        part_windows(op, part, ends, 5000, ends, one, one)
    part_newest(part, ends, 5000, np.zeros((1, 1)), np.zeros((1, 1), np.bool_))
    any_stale(values)
    return Kernels(bounds, over_windows, accumulate, part_windows, part_newest, any_stale)
