"""Native histograms as values, and the queries that make numbers of them."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.core.errors import QueryError
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import STALE_BITS, STALE_NAN, Matcher, MatchOp, NativeHistogram, SampleBlock, labels_of
from aiops.ingest.exponential import Exponential, Side
from aiops.promql.engine import PromqlEngine
from aiops.promql.native_histogram import CUSTOM, Buckets, FloatHistogram, Hint, Incompatible
from aiops.promql.native_message import decode
from aiops.promql.wire import result_data
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_764_000_000_000


def buckets(first: int, *counts: float) -> Buckets:
    return Buckets(np.arange(first, first + len(counts)), np.array(counts, float))


EVEN = FloatHistogram(0, 8, 20.0, positive=buckets(1, 4, 4))
"""4 in (1, 2] and 4 in (2, 4]."""
BOTH = FloatHistogram(0, 8, 0.0, 0.5, 2, buckets(1, 3), buckets(1, 3))
"""3 in [-2, -1), 2 in [-0.5, 0.5], 3 in (1, 2]."""
NHCB = FloatHistogram(CUSTOM, 10, 30.0, positive=buckets(0, 4, 4, 2), bounds=(1.0, 5.0))

# ---------------------------------------------------------------- the message

counts = st.lists(st.integers(0, 1 << 40), max_size=12)
sides = st.builds(lambda at, own: Side(at, np.array(own, np.int64)), st.integers(-500, 500), counts)


@given(st.integers(-4, 8), st.floats(allow_nan=False), st.integers(0, 1 << 40), sides, sides)
def test_what_was_written_is_read(scale: int, total: float, zero: int, plus: Side, minus: Side) -> None:
    count = int(plus.counts.sum() + minus.counts.sum()) + zero
    found = decode(Exponential(scale, count, total, zero, 0.25, plus, minus).native(NOW))
    assert found is not None
    assert (found.schema, found.count, found.sum, found.zero_count) == (scale, count, total, zero)
    assert found.zero_threshold == 0.25
    for side, own in ((plus, found.positive), (minus, found.negative)):
        some = own.counts != 0
        filled = np.flatnonzero(side.counts)
        assert own.index[some].tolist() == (side.offset + filled + 1).tolist()
        assert own.counts[some].tolist() == side.counts[filled].tolist()


def test_counts_that_are_floats_and_custom_bounds() -> None:
    doubles = lambda *values: struct.pack(f"<{len(values)}d", *values)  # noqa: E731
    body = b"\x11" + doubles(3.5) + b"\x19" + doubles(9.0) + b"\x20\x69"  # count, sum, schema -53
    body += b"\x5a\x02\x10\x02" + b"\x6a\x10" + doubles(1.5, 2.0) + b"\x82\x01\x10" + doubles(1.0, 5.0) + b"\x70\x03"
    found = decode(body)
    assert found is not None
    assert (found.schema, found.count, found.sum, found.bounds, found.hint) == (
        CUSTOM,
        3.5,
        9.0,
        (1.0, 5.0),
        Hint.GAUGE,
    )
    assert (found.positive.index.tolist(), found.positive.counts.tolist()) == ([0, 1], [1.5, 2.0])
    assert decode(Exponential(0, 0, 0.0).native(NOW, STALE_BITS)) is None


@pytest.mark.parametrize("body", [b"\x08", b"\x19\x01", b"\x5a\x02\x10\x02", b"\x6a\x08" + bytes(8), b"\x0b"])
def test_what_is_no_histogram_is_said(body: bytes) -> None:
    with pytest.raises(ValueError, match="a native histogram"):
        decode(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(body)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0, 1.0), (0.25, math.sqrt(2)), (0.5, 2.0), (0.75, 2 * math.sqrt(2)), (1, 4.0), (-1, -math.inf), (2, math.inf)],
)
def test_quantiles_lie_on_a_logarithmic_scale(q: float, expected: float) -> None:
    assert EVEN.quantile(q) == pytest.approx(expected)


@pytest.mark.parametrize(("q", "expected"), [(0.1875, -math.sqrt(2)), (0.4375, -0.25), (0.5, 0.0), (1, 2.0)])
def test_the_zero_bucket_is_linear_and_negative_ones_mirrored(q: float, expected: float) -> None:
    assert BOTH.quantile(q) == pytest.approx(expected)


@pytest.mark.parametrize(("q", "expected"), [(0.2, 0.5), (0.6, 3.0), (0.9, 5.0)])
def test_custom_buckets_are_linear_as_classic_ones(q: float, expected: float) -> None:
    assert NHCB.quantile(q) == pytest.approx(expected)


def test_quantiles_that_there_are_none_of() -> None:
    assert math.isnan(FloatHistogram(0, 0, 0.0).quantile(0.5))
    assert math.isnan(EVEN.quantile(math.nan))
    assert math.isnan(FloatHistogram(0, 9, math.nan, positive=buckets(1, 4)).quantile(0.9)), "5 are not numbers"


@pytest.mark.parametrize(
    ("one", "low", "high", "expected"),
    [
        (EVEN, 1, 2, 0.5), (EVEN, -math.inf, math.inf, 1.0), (EVEN, math.sqrt(2), 4, 0.75), (EVEN, 3, 1, 0.0),
        (BOTH, -0.25, 0.25, 0.125), (BOTH, -2, -math.sqrt(2), 0.1875), (NHCB, 0, 0.5, 0.2), (NHCB, 5, math.inf, 0.2),
    ],
)  # fmt: skip
def test_shares(one: FloatHistogram, low: float, high: float, expected: float) -> None:
    assert one.fraction(low, high) == pytest.approx(expected)


@given(st.floats(0.01, 0.99))
def test_a_share_is_the_inverse_of_a_quantile(q: float) -> None:
    for one in (EVEN, BOTH):
        assert one.fraction(-math.inf, one.quantile(q)) == pytest.approx(q, rel=1e-6)


def test_sums_take_the_wider_buckets() -> None:
    fine = FloatHistogram(1, 6, 9.0, positive=buckets(1, 1, 2, 3))
    both = EVEN.plus(fine)
    assert (both.schema, both.count, both.sum) == (0, 14, 29.0)
    assert (both.positive.index.tolist(), both.positive.counts.tolist()) == ([1, 2], [7, 7])
    less = both.plus(fine, -1.0)
    assert less.positive.counts.tolist() == [4, 4]
    wide = FloatHistogram(0, 1, 0.0, 1.5, 1)
    swallowed = EVEN.plus(wide)
    assert (swallowed.zero_threshold, swallowed.zero_count) == (2.0, 5.0), "no bucket with counts is cut"
    with pytest.raises(Incompatible):
        EVEN.plus(NHCB)


def test_variance() -> None:
    assert EVEN.variance() == pytest.approx((4 * (math.sqrt(2) - 2.5) ** 2 + 4 * (math.sqrt(8) - 2.5) ** 2) / 8)
    assert NHCB.variance() == math.inf, "its first bucket has no lower bound"


@pytest.mark.parametrize(
    ("before", "now", "resets"),
    [
        (EVEN, EVEN, False),
        (EVEN, FloatHistogram(0, 9, 20.0, positive=buckets(1, 5, 4)), False),
        (EVEN, FloatHistogram(0, 9, 20.0, positive=buckets(1, 3, 6)), True),
        (EVEN, FloatHistogram(0, 7, 20.0, positive=buckets(1, 4, 3)), True),
        (EVEN, FloatHistogram(-1, 8, 20.0, positive=buckets(1, 8)), False),
        (FloatHistogram(-1, 8, 20.0, positive=buckets(1, 8)), EVEN, True),
        (EVEN, FloatHistogram(0, 9, 20.0, positive=buckets(2, 9)), True),
        (EVEN, FloatHistogram(0, 8, 20.0, positive=buckets(1, 4, 4), hint=Hint.RESET), True),
        (NHCB, FloatHistogram(CUSTOM, 99, 30.0, positive=buckets(0, 50, 49), bounds=(1.0, 6.0)), True),
    ],
)
def test_when_a_counter_began_anew(before: FloatHistogram, now: FloatHistogram, resets: bool) -> None:
    assert now.resets_after(before) is resets


# ---------------------------------------------------------------- queries

A, B = (labels_of({"__name__": "lat", "job": "shop", "zone": zone}) for zone in "ab")


def native(labels: tuple[tuple[str, str], ...], ts: int, k: int) -> NativeHistogram:
    own = Exponential(0, 8 * k, 20.0 * k, positive=Side(0, np.array([4 * k, 4 * k])))
    return NativeHistogram(labels, ts, own.native(ts))


@pytest.fixture
def engine() -> Iterator[PromqlEngine]:
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW + 3_600_000))
    held = [native(labels, NOW - 60_000 * i, 10 - i) for labels in (A, B) for i in range(10)]
    classic = [(labels_of({"__name__": "lat_bucket", "le": le}), 8.0) for le in ("2", "+Inf")]
    store.append(Collected(samples=SampleBlock.at(NOW, classic), histograms=tuple(held)))
    yield PromqlEngine(store, PromqlSettings(experimental_functions=True))
    store.close()


def ask(engine: PromqlEngine, query: str, at: int = NOW) -> dict[str, float]:
    block = engine.instant(query, at, LOCAL).block
    ranged = engine.range(query, at - 60_000, at, 60_000, LOCAL).block
    last = {labels: ranged.series(i)[1][-1] for i, labels in enumerate(ranged.labels) if ranged.series(i)[0][-1] == at}
    assert last == pytest.approx(dict(zip(block.labels, block.values, strict=True)), nan_ok=True)
    return {dict(x).get("zone", dict(x).get("q", "")): v for x, v in zip(block.labels, block.values, strict=True)}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("histogram_count(lat)", {"a": 80, "b": 80}),
        ("histogram_sum(sum(lat))", {"": 400}),
        ("histogram_avg(lat{zone='a'})", {"a": 2.5}),
        ("histogram_count(rate(lat[5m]))", {"a": 8 / 60, "b": 8 / 60}),
        ("histogram_count(increase(lat{zone='a'}[5m]))", {"a": 40}),
        ("histogram_count(irate(lat{zone='a'}[5m]))", {"a": 8 / 60}),
        ("histogram_count(sum without (zone) (rate(lat[5m])) * 60)", {"": 16}),
        ("histogram_quantile(0.25, sum(rate(lat[5m])))", {"": math.sqrt(2)}),
        ("histogram_quantile(0.5, lat)", {"a": 2, "b": 2}),
        ("histogram_quantiles(lat{zone='a'}, 'q', 0, 1)", {"a": 1}),
        ("histogram_fraction(0, 2, avg(lat))", {"": 0.5}),
        ("histogram_count(sum_over_time(lat{zone='a'}[2m]))", {"a": 152}),
        ("histogram_count(avg_over_time(lat{zone='a'}[2m]))", {"a": 76}),
        ("histogram_sum(last_over_time(lat{zone='a'}[2m] offset 1m))", {"a": 180}),
        ("histogram_count(lat{zone='a'} / 2)", {"a": 40}),
        ("histogram_count(-lat{zone='a'})", {"a": -80}),
        ("histogram_stddev(lat{zone='a'})", {"a": math.sqrt(EVEN.variance())}),
        ("histogram_count(lat) > 100", {}),
        ("max_over_time(histogram_count(lat{zone='a'})[3m:1m])", {"a": 80}),
    ],
)
def test_numbers_of_native_histograms(engine: PromqlEngine, query: str, expected: dict[str, float]) -> None:
    if "quantiles" in query:
        block = engine.instant(query, NOW, LOCAL).block
        assert {dict(x)["q"]: v for x, v in zip(block.labels, block.values, strict=True)} == {"0.0": 1.0, "1.0": 4.0}
        return
    assert ask(engine, query) == pytest.approx(expected)


def test_both_kinds_are_asked_at_once(engine: PromqlEngine) -> None:
    block = engine.instant('histogram_quantile(0.5, {__name__=~"lat|lat_bucket"})', NOW, LOCAL).block
    assert dict(zip(block.labels, block.values, strict=True)) == {(): 1.0, **{x[1:]: 2.0 for x in (A, B)}}


def test_a_counter_that_began_anew(engine: PromqlEngine) -> None:
    later = NOW + 60_000
    engine.reader.append(Collected(histograms=(native(A, later, 1),)))  # type: ignore[attr-defined]
    assert ask(engine, "histogram_count(increase(lat{zone='a'}[2m]))", later) == {"a": pytest.approx(16)}
    assert ask(engine, "histogram_count(lat{zone='a'})", later) == {"a": 8}


def test_the_end_of_a_series_and_a_newer_number_hide_it(engine: PromqlEngine) -> None:
    for labels, value in ((A, STALE_NAN), (B, 1.0)):
        engine.reader.append(Collected(samples=SampleBlock.at(NOW + 30_000, [(labels, value)])))  # type: ignore[attr-defined]
    assert ask(engine, "histogram_count(lat)") == {"a": 80, "b": 80}
    assert ask(engine, "histogram_count(lat)", NOW + 60_000) == {}
    told = engine.instant("histogram_count(rate(lat{zone='b'}[5m]))", NOW + 60_000, LOCAL)
    assert len(told.block) == 0
    assert told.warnings == ('PromQL warning: encountered a mix of histograms and floats for metric name "lat" (1:22)',)


def test_their_series_are_listed(engine: PromqlEngine) -> None:
    names = engine.label_values("__name__", (), NOW - 60_000, NOW, LOCAL)
    assert names == ["lat", "lat_bucket"]
    assert engine.series([[Matcher("zone", MatchOp.EQUAL, "a")]], NOW - 60_000, NOW, LOCAL) == [A]
    assert engine.series([], NOW + 60_000, NOW + 90_000, LOCAL) == []


def test_answers_are_not_kept_beyond_what_comes(engine: PromqlEngine) -> None:
    window = NOW - 120_000, NOW + 60_000, 60_000
    before = engine.range("sum(histogram_count(lat))", *window, LOCAL).block.values.tolist()
    engine.reader.append(Collected(histograms=(native(A, NOW + 60_000, 20),)))  # type: ignore[attr-defined]
    after = engine.range("sum(histogram_count(lat))", *window, LOCAL).block.values.tolist()
    assert (before, after) == ([128.0, 144.0, 160.0, 160.0], [128.0, 144.0, 160.0, 240.0])


@pytest.mark.parametrize(
    "query", ["histogram_quantile(0.9, lat + lat)", "rate(lat[5m])", "histogram_count(topk(1, lat))", "2 / lat"]
)
def test_what_is_not_known_is_refused(engine: PromqlEngine, query: str) -> None:
    with pytest.raises(QueryError, match='"lat" has native histograms, which only functions of histograms read'):
        engine.instant(query, NOW, LOCAL)


def test_an_answer_that_is_a_histogram_is_for_those_who_read_it(engine: PromqlEngine) -> None:
    """The API does; rules, detection and answers to questions would have dropped it."""
    api = engine.limited(histograms=True)
    data = result_data(api.instant("sum without (zone) (rate(lat[5m])) * 60", NOW, LOCAL))
    (row,) = data["result"]
    assert row["metric"] == {"job": "shop"}
    assert row["histogram"] == [
        NOW // 1000, {"count": "16", "sum": "40", "buckets": [[0, "1", "2", "8"], [0, "2", "4", "8"]]}
    ]  # fmt: skip
    matrix = result_data(api.range("lat{zone='a'}", NOW - 60_000, NOW, 60_000, LOCAL))
    (series,) = matrix["result"]
    assert [(t, h["count"]) for t, h in series["histograms"]] == [(NOW // 1000 - 60, "72"), (NOW // 1000, "80")]
    both = result_data(api.instant('{__name__=~"lat|lat_bucket"}', NOW, LOCAL))["result"]
    assert [("value" in row, "histogram" in row) for row in both] == [(True, False)] * 2 + [(False, True)] * 2
    other = labels_of({**dict(A), "__name__": "lat2"})
    engine.reader.append(Collected(histograms=(native(other, NOW, 1),)))  # type: ignore[attr-defined]
    with pytest.raises(QueryError, match="same labelset"):
        api.instant('-{__name__=~"lat|lat2", zone="a"}', NOW, LOCAL)
    with pytest.raises(QueryError, match="only functions of histograms read"):
        api.instant("lat + lat", NOW, LOCAL)


def test_more_than_may_be_loaded_is_refused() -> None:
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW))
    store.append(Collected(histograms=tuple(native(A, NOW - i, 1) for i in range(30))))
    with pytest.raises(QueryError, match="too many samples"):
        PromqlEngine(store, PromqlSettings(max_samples=20)).instant("histogram_count(lat)", NOW, LOCAL)
    store.close()
