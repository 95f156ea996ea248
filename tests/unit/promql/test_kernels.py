"""The compiled kernels give what NumPy gives, bit for bit where the arithmetic is the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.principal import LOCAL
from aiops.core.series import STALE_NAN, QueryResult, SampleBlock, labels_of
from aiops.promql import kernels
from aiops.promql.aggregate import STREAMED, Accumulator
from aiops.promql.engine import PromqlEngine
from aiops.promql.windows import OPS, bounds, over_windows
from aiops.settings import PromqlSettings
from tests.unit.promql.memory import MemoryReader

VALUES = st.one_of(
    st.floats(0, 1e6),
    st.floats(allow_nan=True, allow_infinity=True, width=64),
    st.sampled_from([0.0, 1.0, 2.0, float("nan"), float("inf"), float("-inf"), STALE_NAN, 1.7e308]),
)


@st.composite
def blocks(draw: st.DrawFn, stale: bool = True) -> SampleBlock:
    rows = []
    for i in range(draw(st.integers(0, 4))):
        gaps = draw(st.lists(st.integers(1, 40_000), max_size=25))
        ts = np.cumsum(np.array([0, *gaps], np.int64))[1:] + draw(st.integers(0, 60_000))
        counter = draw(st.booleans())
        values = np.array([draw(VALUES) for _ in ts], np.float64)
        if counter:
            with np.errstate(all="ignore"):
                values = np.abs(np.cumsum(np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=1.0) % 100) % 500)
        if not stale:
            values = values[values.view(np.uint64) != np.float64(STALE_NAN).view(np.uint64)]
            ts = ts[: len(values)]
        rows.append((labels_of({"__name__": "x_total", "i": str(i), "g": str(i % 2)}), ts, values))
    return SampleBlock.build(rows)


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-12, atol=0, equal_nan=True))


@settings(max_examples=60, deadline=None)
@given(blocks(stale=False), st.sampled_from(OPS), st.integers(1, 200_000), st.floats(-0.5, 1.5))
def test_windows(block: SampleBlock, op: str, length: int, q: float) -> None:
    ends = np.arange(0, 600_000, 30_000, dtype=np.int64)
    p0 = np.full(len(ends), np.clip(q, 0.01, 0.99) if op == "smoothing" else q)
    args = (block.offsets, block.ts, block.values, ends, length, ends + 1000, p0, np.full(len(ends), 0.3))
    slow, slow_ok = over_windows(op, *args)
    fast, fast_ok = kernels.over_windows(op, *args)
    assert np.array_equal(slow_ok, fast_ok)
    assert equal(slow[slow_ok], fast[fast_ok])
    for ours, theirs in zip(bounds(*args[:2], ends, length), kernels.bounds(*args[:2], ends, length), strict=True):
        assert np.array_equal(ours, theirs)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_aggregation(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(STREAMED))
    rows, steps, groups = data.draw(st.integers(1, 6)), 4, 3
    values = np.array(data.draw(st.lists(VALUES, min_size=rows * steps, max_size=rows * steps))).reshape(rows, steps)
    flags = data.draw(st.lists(st.booleans(), min_size=rows * steps, max_size=rows * steps))
    ids = np.array(data.draw(st.lists(st.integers(0, groups - 1), min_size=rows, max_size=rows)), np.int64)
    slow = Accumulator.start(op, groups, steps)
    fast = Accumulator.start(op, groups, steps, kernels.accumulate)
    for state in (slow, fast):
        for a in range(0, rows, 2):
            state.add(values[a : a + 2], np.array(flags).reshape(rows, steps)[a : a + 2], ids[a : a + 2])
    (x, x_ok), (y, y_ok) = slow.result(), fast.result()
    assert np.array_equal(x_ok, y_ok)
    assert equal(x[x_ok], y[y_ok])


QUERIES = (
    "sum by (g) (rate(x_total[2m]))", "x_total", "max_over_time(x_total[1m:20s])", "avg(x_total)", "topk(1, x_total)",
    "x_total offset 30s > 5", "stddev without (i) (x_total)", "quantile_over_time(0.3, x_total[3m])",
    "count by (g) (x_total) + on (g) sum by (g) (x_total)", "min_over_time(x_total[2m] @ 200)",
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(blocks(), st.sampled_from(QUERIES))
def test_whole_queries(block: SampleBlock, query: str) -> None:
    engines = [PromqlEngine(MemoryReader(block), PromqlSettings()) for _ in range(2)]
    engines[1].warm(wait=True)
    assert engines[1].warm_now
    results: list[QueryResult] = [e.range(query, 0, 600_000, 30_000, LOCAL) for e in engines]
    assert results[0].block.labels == results[1].block.labels
    assert np.array_equal(results[0].block.ts, results[1].block.ts)
    assert equal(results[0].block.values, results[1].block.values)
