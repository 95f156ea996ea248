"""What is kept at 5 minutes and at 1 hour answers as the samples do, where it is used at all."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from aiops.core.principal import LOCAL
from aiops.core.series import STALE_NAN, QueryResult, SampleBlock
from aiops.promql.engine import PromqlEngine
from aiops.settings import PromqlSettings
from aiops.store.telemetry.compaction import LATE_AGE_MS
from aiops.store.telemetry.rollups import FIVE_MINUTES, HOUR
from aiops.store.telemetry.schema import DAY_MS
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.promql.memory import MemoryReader
from tests.unit.store.telemetry.conftest import NOW, Hands
from tests.unit.store.telemetry.test_compaction import seen, settled
from tests.unit.store.telemetry.test_samples import block, metric

TODAY = NOW // DAY_MS * DAY_MS
KINDS = ("rollup5m", "rollup1h")


def rolled_up(store: TelemetryStore, days: int) -> None:
    settled(store, "samples")
    deadline = time.monotonic() + 60
    while any(len(store._partitions.numbers(kind)) < days for kind in KINDS) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [len(store._partitions.numbers(kind)) for kind in KINDS] == [days, days]


def samples() -> SampleBlock:
    """Seven series over three days and a half, with gaps, NaN, staleness markers, and samples at full hours."""
    rng = np.random.default_rng(8)
    rows = []
    for i in range(7):
        times = np.arange(TODAY - 3 * DAY_MS, NOW - 60_000, 120_000) + (i % 3) * 7_000
        values = np.round(rng.normal(20, 5, len(times)), 2)
        values[rng.random(len(times)) < 0.01] = STALE_NAN
        values[rng.random(len(times)) < 0.01] = np.nan
        keep = (rng.random(len(times)) < 0.97) & ~((times > TODAY - 2 * DAY_MS) & (times < TODAY - 40 * HOUR))
        rows.append((metric("m", i=str(i)), times[keep], values[keep]))
    return SampleBlock.build(rows)


@pytest.fixture(scope="module")
def held() -> SampleBlock:
    return samples()


def same(a: QueryResult, b: QueryResult) -> None:
    order = [b.block.labels.index(labels) for labels in a.block.labels]
    assert sorted(a.block.labels) == sorted(b.block.labels)
    for i, j in enumerate(order):
        assert np.array_equal(a.block.series(i)[0], b.block.series(j)[0])
        assert np.allclose(a.block.series(i)[1], b.block.series(j)[1], rtol=1e-12, atol=0, equal_nan=True)


def test_queries_over_rollups_equal_those_over_samples(
    opened: Callable[..., TelemetryStore], clock: Hands, held: SampleBlock
) -> None:
    store = opened(rollup_5m_days=10)
    rows = [(held.labels[i], *held.series(i)) for i in range(len(held))]
    store.append(block(*rows))  # type: ignore[arg-type]
    rolled_up(store, 3)
    settings = PromqlSettings(result_cache_bytes=0)
    ours, plain = PromqlEngine(store, settings), PromqlEngine(MemoryReader(held), settings)
    end = NOW // HOUR * HOUR
    for name in ("min", "max", "sum", "last", "present", "count", "avg"):
        asked = f"{name}_over_time(m[1h])", end - 80 * HOUR, end, HOUR, LOCAL
        same(ours.range(*asked), plain.range(*asked))
    assert not ours.warm_now
    ours.warm(wait=True)
    read = {}
    for window, step in (("1h", HOUR), ("6h", HOUR), ("5m", FIVE_MINUTES), ("10m", HOUR), ("7m", HOUR), ("2h", 90_000)):
        for name in ("min", "max", "sum", "count", "avg", "last", "present"):
            query = f"{name}_over_time(m[{window}])"
            start = end - (80 * HOUR if step >= HOUR else 70 * FIVE_MINUTES)
            got = ours.range(query, start, end, step, LOCAL)
            same(got, plain.range(query, start, end, step, LOCAL))
            read[name, window, step] = got.samples_read
        query = f"sum(avg_over_time(m[{window}] offset 1d)) + max(rate(m[{window}])) > 0"
        same(
            ours.range(query, end - 30 * HOUR, end, step, LOCAL), plain.range(query, end - 30 * HOUR, end, step, LOCAL)
        )
    assert read["max", "1h", HOUR] * 10 < held.sample_count
    assert read["max", "1h", HOUR] < read["max", "10m", HOUR] < read["max", "7m", HOUR]


def test_late_samples_are_in_and_the_rollups_are_made_again(
    opened: Callable[..., TelemetryStore], clock: Hands, held: SampleBlock
) -> None:
    store = opened(rollup_5m_days=10)
    store.append(block(*((held.labels[i], *held.series(i)) for i in range(len(held)))))  # type: ignore[arg-type]
    rolled_up(store, 3)
    engine = PromqlEngine(store)
    engine.warm(wait=True)
    midnight = TODAY - DAY_MS
    late = [(metric("m", i="1"), [midnight, midnight + 5 * HOUR + 1], [900.0, 1000.0])]
    assert store.append(block(*late)).accepted == 2

    def highest() -> list[float]:
        result = engine.range("max_over_time(m{i='1'}[1h])", midnight, midnight + 6 * HOUR, 6 * HOUR, LOCAL)
        return [float(value) for value in result.block.values]

    assert highest() == [900.0, 1000.0]
    store.database.write(store._spill.group, None)
    assert highest() == [900.0, 1000.0]
    assert [len(store._partitions.numbers(kind)) for kind in KINDS] == [1, 1]
    seen(store)
    clock.now += LATE_AGE_MS
    rolled_up(store, 3)
    assert highest() == [900.0, 1000.0]


def test_rollups_outlive_samples_and_go_at_their_own_age(
    opened: Callable[..., TelemetryStore], clock: Hands, held: SampleBlock
) -> None:
    store = opened(retention_days=4, rollup_5m_days=6, rollup_1h_days=9)
    store.append(block(*((held.labels[i], *held.series(i)) for i in range(len(held)))))  # type: ignore[arg-type]
    rolled_up(store, 3)
    engine = PromqlEngine(store)
    engine.warm(wait=True)
    query, start, end = "sum(count_over_time(m[1d]))", TODAY - 2 * DAY_MS, TODAY
    before = engine.range(query, start, end, DAY_MS, LOCAL).block.values.tolist()
    clock.now += 5 * DAY_MS
    store.apply_retention()
    assert not store.scan((), 0, TODAY - 1, LOCAL).sample_count
    assert [len(store._partitions.numbers(kind)) for kind in KINDS] == [1, 3]
    assert engine.range(query, start, end, DAY_MS, LOCAL).block.values.tolist() == before
    clock.now += 9 * DAY_MS
    store.apply_retention()
    assert [store._partitions.numbers(kind) for kind in KINDS] == [(), ()]


def test_plain_selectors_are_answered_from_buckets_once_samples_are_past_their_time(
    opened: Callable[..., TelemetryStore], clock: Hands, held: SampleBlock
) -> None:
    store = opened(retention_days=2, rollup_5m_days=0, rollup_1h_days=9)
    clock.now = TODAY - 2 * DAY_MS + HOUR
    parts = [(TODAY - 3 * DAY_MS, TODAY - 2 * DAY_MS), (TODAY - 2 * DAY_MS, TODAY - DAY_MS), (TODAY - DAY_MS, NOW)]
    for low, high in parts:
        clock.now = min(high + HOUR, NOW)
        rows = []
        for i in range(len(held)):
            ts, values = held.series(i)
            own = (ts >= low) & (ts < high)
            rows.append((held.labels[i], ts[own], values[own]))
        store.append(block(*rows))  # type: ignore[arg-type]
        store.flush()
    settled(store, "samples")
    deadline = time.monotonic() + 60
    while len(store._partitions.numbers("rollup1h")) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert store.raw_from_ms() < TODAY - 3 * DAY_MS
    clock.now = NOW + DAY_MS
    store.apply_retention()
    raw = store.raw_from_ms()
    assert raw == TODAY - DAY_MS
    ours, plain = PromqlEngine(store), PromqlEngine(MemoryReader(held))
    start = TODAY - 3 * DAY_MS + 2 * HOUR

    def answer(engine: PromqlEngine, query: str, low: int, high: int, step: int = HOUR) -> QueryResult:
        return engine.range(query, low, high, step, LOCAL)

    for kernels in (False, True):
        if kernels:
            ours.warm(wait=True)
        for query in ("{}", "sum({})", "topk(2, {})", "{} > 20", "avg by (i) ({})"):
            got = answer(ours, query.format("m"), start, raw)
            same(got, answer(plain, query.format("last_over_time(m[1h])"), start, raw))
            assert "past their time" in " ".join(got.infos)
        same(answer(ours, "m", raw + HOUR, NOW - HOUR), answer(plain, "m", raw + HOUR, NOW - HOUR))
        assert not answer(ours, "m", raw + HOUR, NOW - HOUR).infos
        both = answer(ours, "count(m)", raw - 6 * HOUR, raw + 6 * HOUR)
        assert len(both.block.ts) == 13
        assert not answer(ours, "rate(m[5m])", start, raw - HOUR).block.sample_count
        off = answer(ours, "m", start + 1000, raw - HOUR, HOUR // 3)
        assert len(off.block), "off the full hour it is the hour before"
