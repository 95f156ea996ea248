"""What is read part by part, on several threads, answers as what is read at once by NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.errors import QueryError
from aiops.core.ports import StreamedReader
from aiops.core.principal import LOCAL, Principal
from aiops.core.series import Labels, Matcher, SampleBlock, SeriesPart, labels_of
from aiops.promql import kernels, streaming
from aiops.promql.engine import PromqlEngine
from aiops.promql.windows import OPS, over_windows
from aiops.settings import PromqlSettings
from tests.unit.promql.memory import MemoryReader
from tests.unit.promql.test_kernels import QUERIES, VALUES, blocks, equal


@st.composite
def scraped_together(draw: st.DrawFn) -> SampleBlock:
    """Series of a few targets; those of one target have the same times."""
    rows = []
    for target in range(draw(st.integers(1, 3))):
        gaps = draw(st.lists(st.integers(1, 40_000), max_size=25))
        ts = np.cumsum(np.array([0, *gaps], np.int64))[1:] + draw(st.integers(0, 60_000))
        for i in range(draw(st.integers(1, 3))):
            values = np.array([draw(VALUES) for _ in ts], np.float64)
            rows.append((labels_of({"__name__": "x_total", "i": f"{target}{i}", "g": str(i % 2)}), ts, values))
    return SampleBlock.build(rows)


class Scan:
    """Over samples in memory; equal times become one clock."""

    def __init__(self, block: SampleBlock) -> None:
        self.block = block

    @property
    def labels(self) -> Sequence[Labels]:
        return self.block.labels

    @property
    def sample_count(self) -> int:
        return self.block.sample_count

    def part(self, first: int, last: int) -> SeriesPart:
        a, b = int(self.block.offsets[first]), int(self.block.offsets[last])
        clocks: dict[bytes, int] = {}
        times = []
        clock = []
        for i in range(first, last):
            ts, _ = self.block.series(i)
            if ts.tobytes() not in clocks:
                clocks[ts.tobytes()] = len(clocks)
                times.append(ts)
            clock.append(clocks[ts.tobytes()])
        offsets = np.concatenate([[0], np.cumsum([len(t) for t in times])]).astype(np.int64)
        ts = np.concatenate([*times, np.empty(0, np.int64)])
        own = self.block.offsets[first : last + 1] - a
        return SeriesPart(own, self.block.values[a:b], np.array(clock, np.int64), offsets, ts)


class PartReader(MemoryReader):
    def prepare(self) -> None:
        pass

    def version(self) -> int:
        return 0

    def changed_since(self, version: int) -> int:
        return version

    def open_scan(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal, most: int
    ) -> Scan:
        return Scan(self.scan(matchers, start_ms - 45_000, end_ms + 45_000, principal))


@pytest.fixture(autouse=True)
def small_parts() -> Iterator[None]:
    with patch.object(streaming, "PART_SAMPLES", 10):
        yield


@settings(max_examples=60, deadline=None)
@given(scraped_together(), st.sampled_from(OPS), st.integers(1, 200_000), st.floats(-0.5, 1.5))
def test_windows_of_a_part(block: SampleBlock, op: str, length: int, q: float) -> None:
    compiled = kernels.load()
    ends = np.arange(0, 600_000, 30_000, dtype=np.int64)
    p0, p1 = np.full(len(ends), np.clip(q, 0.01, 0.99) if op == "smoothing" else q), np.full(len(ends), 0.3)
    part = streaming.without_stale(Scan(block).part(0, len(block)), compiled)
    slow, slow_ok = over_windows(op, part.offsets, part.times(), part.values, ends, length, ends + 1000, p0, p1)
    fast, fast_ok = compiled.part_windows(op, part, ends, length, ends + 1000, p0, p1)
    assert np.array_equal(slow_ok, fast_ok)
    assert equal(slow[slow_ok], fast[fast_ok])


MORE = (
    "x_total @ 200", "rate(x_total[2m] @ end())", "rate(x_total[90s] offset 30s)", "timestamp(x_total)",
    "sum(x_total) / count(rate(x_total[2m]))", "absent_over_time(x_total[1m])", "changes(x_total[2m])",
    "increase(x_total[3m])", "delta(x_total[3m])", "sum(last_over_time(x_total[1m]))", "topk(2, x_total)",
    "bottomk by (g) (1, x_total)", "topk without (i) (1, rate(x_total[2m]))", "bottomk(2, changes(x_total[2m]))",
    "topk(scalar(count(x_total)) - 2, x_total)", "sum by (g) (x_total)", "topk(1, x_total @ 200)", "topk(0, x_total)",
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.one_of(blocks(), scraped_together()), st.sampled_from(QUERIES + MORE))
def test_whole_queries(block: SampleBlock, query: str) -> None:
    plain, streamed = PromqlEngine(MemoryReader(block)), PromqlEngine(PartReader(block))
    assert isinstance(streamed.reader, StreamedReader)
    streamed.warm(wait=True)
    a, b = (e.range(query, 0, 600_000, 30_000, LOCAL) for e in (plain, streamed))
    assert a.block.labels == b.block.labels
    assert np.array_equal(a.block.ts, b.block.ts)
    assert equal(a.block.values, b.block.values)
    assert a.infos == b.infos


def test_too_many_samples_are_refused() -> None:
    block = SampleBlock.build([(labels_of({"__name__": "x_total"}), list(range(100)), [0.0] * 100)])
    engine = PromqlEngine(PartReader(block), PromqlSettings(max_samples=50))
    engine.warm(wait=True)
    with pytest.raises(QueryError, match="too many samples"):
        engine.instant("rate(x_total[5m])", 1000, LOCAL)
