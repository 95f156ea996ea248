"""OTLP metrics beyond the plain shapes: rules, delta streams, exponential histograms, exemplars, the fast path."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from aiops.core.ports import Collected
from aiops.core.series import Exemplar, Labels, is_stale, labels_of
from aiops.ingest.bodies import Decoded
from aiops.ingest.exponential import MAX_BOUNDS, ClassicGrid, Exponential, Side
from aiops.ingest.otlp_metrics import MetricDecoder
from aiops.ingest.otlp_names import Strategy
from aiops.ingest.otlp_rules import OtlpRules
from aiops.ingest.otlp_wire import NativeMessage

TS = 1_790_000_000_000
NS = TS * 1_000_000
SECOND = 10**9
DELTA, CUMULATIVE = 1, 2


def kv(pairs: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=k, value=AnyValue(string_value=v)) for k, v in pairs.items()]


def request(resource: dict[str, str] | None = None, scope: dict[str, Any] | None = None) -> tuple[Any, Any]:
    whole = ExportMetricsServiceRequest()
    group = whole.resource_metrics.add()
    group.resource.attributes.extend(kv({"service.name": "shop"} if resource is None else resource))
    inner = group.scope_metrics.add()
    if scope:
        inner.schema_url = scope.pop("schema_url", "")
        inner.scope.attributes.extend(kv(scope.pop("attributes", {})))
        inner.scope.name, inner.scope.version = scope["name"], scope["version"]
    return whole, inner.metrics


def rows(collected: Collected) -> list[tuple[Labels, int, bytes]]:
    block = collected.samples
    found = []
    for i, labels in enumerate(block.labels):
        ts, values = block.series(i)
        found += [(labels, int(t), v.tobytes()) for t, v in zip(ts, values, strict=True)]
    return sorted(found)


def by_name(decoded: Decoded) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for labels, ts, value in rows(decoded.collected):
        own = dict(labels)
        name = own.pop("__name__") + (f"/{own['le']}" if "le" in own else "")
        found.setdefault(name, []).append((ts - TS, float(np.frombuffer(value)[0])))
    return found


# ------------------------------------------------------------------ rules


@pytest.mark.parametrize(
    ("strategy", "name", "label"),
    [
        (Strategy.ESCAPE_WITH_SUFFIXES, "http_requests_bytes_total", "http_route"),
        (Strategy.KEEP_WITH_SUFFIXES, "http.requests_bytes_total", "http.route"),
        (Strategy.ESCAPE_WITHOUT_SUFFIXES, "http_requests", "http_route"),
        (Strategy.KEEP, "http.requests", "http.route"),
    ],
)
def test_names_follow_the_strategy(strategy: Strategy, name: str, label: str) -> None:
    whole, out = request()
    total = out.add(name="http.requests", unit="By").sum
    total.is_monotonic, total.aggregation_temporality = True, CUMULATIVE
    total.data_points.add(time_unix_nano=NS, as_int=1, attributes=kv({"http.route": "/"}))
    got = MetricDecoder(OtlpRules(strategy=strategy)).decode(whole.SerializeToString()).collected
    assert got.samples.labels == (labels_of({"__name__": name, label: "/", "job": "shop"}),)
    assert (got.metadata[0].name, got.metadata[0].type, got.metadata[0].unit) == (name, "counter", "bytes")


def test_resource_attributes_and_scopes_become_labels_where_that_is_wanted() -> None:
    resource = {"service.name": "cart", "service.namespace": "shop", "cloud.region": "eu", "host.name": "h"}
    scope = {"name": "lib", "version": "1.2", "schema_url": "https://s", "attributes": {"build.id": "7"}}
    plain, out = request(resource, dict(scope))
    out.add(name="up").gauge.data_points.add(time_unix_nano=NS, as_int=1, attributes=kv({"host.name": "own"}))
    body = plain.SerializeToString()

    def labels(**rules: Any) -> list[dict[str, str]]:
        return [dict(found) for found in MetricDecoder(OtlpRules(**rules)).decode(body).collected.samples.labels]

    base = {"job": "shop/cart", "host_name": "own"}
    assert labels() == [
        {"__name__": "up", **base},
        {"__name__": "target_info", "job": "shop/cart", "cloud_region": "eu", "host_name": "h"},
    ]
    assert labels(promote_resource_attributes=("cloud.region", "host.name"))[0] == {
        "__name__": "up", "cloud_region": "eu", **base,
    }  # fmt: skip
    everything = labels(promote_all_resource_attributes=True, ignore_resource_attributes=("cloud.region",))[0]
    assert everything == {
        "__name__": "up", "service_name": "cart", "service_namespace": "shop", **base,
    }  # fmt: skip
    assert labels(keep_identifying=True)[1]["service_name"] == "cart"
    scoped = labels(promote_scope_metadata=True, strategy=Strategy.KEEP)[0]
    assert {k: v for k, v in scoped.items() if k.startswith("otel")} == {
        "otel_scope_name": "lib", "otel_scope_version": "1.2", "otel_scope_schema_url": "https://s",
        "otel_scope_build.id": "7",
    }  # fmt: skip


def test_target_info_spans_the_time_of_its_points() -> None:
    whole, out = request({"service.name": "s", "host.name": "h"})
    points = out.add(name="m").gauge.data_points
    for seconds in (0, 400):
        points.add(time_unix_nano=NS + seconds * SECOND, as_int=1)
    assert by_name(MetricDecoder().decode(whole.SerializeToString()))["target_info"] == [
        (0, 1.0), (150_000, 1.0), (300_000, 1.0), (400_000, 1.0),
    ]  # fmt: skip
    nameless, out = request({"host.name": "h"})
    out.add(name="m").gauge.data_points.add(time_unix_nano=NS, as_int=1)
    assert "target_info" not in by_name(MetricDecoder().decode(nameless.SerializeToString()))


def test_a_non_monotonic_sum_is_a_gauge_without_a_ratio() -> None:
    whole, out = request()
    level = out.add(name="level", unit="1").sum
    level.aggregation_temporality = CUMULATIVE
    level.data_points.add(time_unix_nano=NS, as_int=3)
    got = MetricDecoder().decode(whole.SerializeToString()).collected
    assert [(m.name, m.type) for m in got.metadata] == [("level", "gauge")]


# ------------------------------------------------------------------ exemplars


def test_exemplars_go_to_the_series_of_their_value() -> None:
    whole, out = request()
    took = out.add(name="took", unit="s").histogram
    took.aggregation_temporality = CUMULATIVE
    point = took.data_points.add(time_unix_nano=NS, count=2, sum=2, explicit_bounds=[1], bucket_counts=[1, 1])
    point.exemplars.add(time_unix_nano=NS + SECOND, as_double=0.5, trace_id=b"\x01" * 16, span_id=b"\x02" * 8)
    point.exemplars.add(as_int=7, filtered_attributes=kv({"user": "u"}), trace_id=b"\x03" * 16)
    point.exemplars.add(as_int=7, filtered_attributes=kv({"user": "u" * 200}))
    hits = out.add(name="hits").sum
    hits.is_monotonic, hits.aggregation_temporality = True, CUMULATIVE
    hits.data_points.add(time_unix_nano=NS, as_int=1).exemplars.add(as_int=1, time_unix_nano=NS)
    got = MetricDecoder().decode(whole.SerializeToString()).collected.exemplars

    def bucket(le: str) -> Labels:
        return labels_of({"__name__": "took_seconds_bucket", "job": "shop", "le": le})

    assert got == (
        Exemplar(bucket("1"), (("span_id", "02" * 8), ("trace_id", "01" * 16)), 0.5, TS + 1000),
        Exemplar(bucket("+Inf"), (("trace_id", "03" * 16), ("user", "u")), 7.0, TS),
        Exemplar(bucket("+Inf"), (), 7.0, TS),
        Exemplar(labels_of({"__name__": "hits_total", "job": "shop"}), (), 1.0, TS),
    )


# ------------------------------------------------------------------ delta


def delta_sum(*points: tuple[int, int, float], flags: int = 0) -> bytes:
    """(start, time, value) in seconds after NS; a start below zero is left out."""
    whole, out = request()
    total = out.add(name="hits").sum
    total.is_monotonic, total.aggregation_temporality = True, DELTA
    for start, at, value in points:
        began = NS + start * SECOND if start >= 0 else 0
        total.data_points.add(start_time_unix_nano=began, time_unix_nano=NS + at * SECOND, as_double=value, flags=flags)
    return bytes(whole.SerializeToString())


def take(decoder: MetricDecoder, body: bytes, stored: bool = True) -> Decoded:
    parsed = decoder.parse(body)
    assert decoder.has_delta(parsed)
    decoded = decoder.translate(parsed)
    decoder.settle(stored)
    return decoded


def test_delta_points_become_a_running_total_from_zero() -> None:
    decoder = MetricDecoder()
    assert by_name(take(decoder, delta_sum((0, 10, 2), (10, 20, 3))))["hits_total"] == [
        (0, 0.0), (10_000, 2.0), (20_000, 5.0),
    ]  # fmt: skip
    assert by_name(take(decoder, delta_sum((20, 30, 4))))["hits_total"] == [(30_000, 9.0)]
    assert by_name(take(decoder, delta_sum((40, 50, 1))))["hits_total"] == [(50_000, 10.0)], "a gap keeps the total"
    assert by_name(take(decoder, delta_sum((-1, 60, 1))))["hits_total"] == [(60_000, 11.0)], "an unknown start"


def test_delta_points_that_do_not_follow_are_left_out_and_named() -> None:
    decoder = MetricDecoder()
    take(decoder, delta_sum((0, 10, 2), (10, 20, 3)))
    again = take(decoder, delta_sum((10, 20, 3)))
    assert (again.rejected, again.collected.samples.sample_count) == (0, 0), "the same point again is no error"
    late = take(decoder, delta_sum((0, 10, 2)))
    assert (late.rejected, "older" in late.reason) == (1, True)
    overlapping = take(decoder, delta_sum((15, 30, 2)))
    assert (overlapping.rejected, "overlaps" in overlapping.reason) == (1, True)
    assert by_name(take(decoder, delta_sum((20, 30, 1))))["hits_total"] == [(30_000, 6.0)]


def test_a_delta_request_that_was_not_stored_can_come_again() -> None:
    decoder = MetricDecoder()
    first = take(decoder, delta_sum((0, 10, 2)), stored=False)
    assert rows(take(decoder, delta_sum((0, 10, 2))).collected) == rows(first.collected)
    second = take(decoder, delta_sum((10, 20, 3)), stored=False)
    assert rows(take(decoder, delta_sum((10, 20, 3))).collected) == rows(second.collected)


def test_an_idle_stream_starts_again_and_no_value_is_stale() -> None:
    decoder = MetricDecoder(OtlpRules(delta_idle_ms=60_000))
    take(decoder, delta_sum((0, 10, 2)))
    gone = take(decoder, delta_sum((10, 20, 9), flags=1))
    assert is_stale(gone.collected.samples.values).tolist() == [True]
    assert by_name(take(decoder, delta_sum((80, 90, 3))))["hits_total"] == [(80_000, 0.0), (90_000, 3.0)]


def test_the_number_of_delta_streams_is_bounded() -> None:
    now = TS
    decoder = MetricDecoder(OtlpRules(delta_max_streams=3, delta_idle_ms=60_000), clock=lambda: now)

    def many(first: int, at: int) -> Decoded:
        nonlocal now
        now = TS + at * 1000
        whole, out = request()
        total = out.add(name="hits").sum
        total.aggregation_temporality = DELTA
        for i in range(first, first + 5):
            total.data_points.add(time_unix_nano=NS + at * SECOND, as_int=1, attributes=kv({"i": str(i)}))
        return take(decoder, whole.SerializeToString())

    got = many(0, 0)
    assert (got.rejected, "delta_max_streams" in got.reason) == (2, True)
    assert many(100, 30).rejected == 5, "those that are heard of stay"
    assert many(100, 120).rejected == 2, "those that are idle make room"


def test_a_point_from_the_future_does_not_stop_its_stream() -> None:
    decoder = MetricDecoder(clock=lambda: TS + 20_000)
    take(decoder, delta_sum((0, 10, 2)))
    ahead = take(decoder, delta_sum((10, 7200, 3)))
    assert (ahead.rejected, "future" in ahead.reason) == (1, True)
    assert by_name(take(decoder, delta_sum((10, 20, 3))))["hits_total"] == [(20_000, 5.0)]


def test_a_total_goes_on_from_what_the_store_holds() -> None:
    series = labels_of({"__name__": "hits_total", "job": "shop"})
    asked: list[tuple[str, int]] = []

    def held(name: str, since_ms: int) -> dict[Labels, tuple[int, float]]:
        asked.append((name, since_ms - TS))
        return {series: (TS + 20_000, 5.0)}

    decoder = MetricDecoder(OtlpRules(delta_idle_ms=60_000), last_samples=held)
    replayed = take(decoder, delta_sum((10, 20, 3)))
    assert (replayed.rejected, replayed.collected.samples.sample_count) == (0, 0), "it was stored before the restart"
    assert by_name(take(decoder, delta_sum((20, 30, 4))))["hits_total"] == [(30_000, 9.0)]
    assert asked == [("hits_total", -40_000)]
    rolled_back = MetricDecoder(OtlpRules(delta_idle_ms=60_000), last_samples=held)
    for stored in (False, True):
        assert by_name(take(rolled_back, delta_sum((20, 30, 4)), stored))["hits_total"] == [(30_000, 9.0)]
    late = MetricDecoder(OtlpRules(delta_idle_ms=60_000), last_samples=held)
    assert by_name(take(late, delta_sum((100, 110, 4))))["hits_total"] == [(100_000, 0.0), (110_000, 4.0)]


def delta_histogram(at: int, counts: list[int], bounds: list[float]) -> bytes:
    whole, out = request()
    took = out.add(name="took").histogram
    took.aggregation_temporality = DELTA
    took.data_points.add(
        start_time_unix_nano=NS + (at - 10) * SECOND, time_unix_nano=NS + at * SECOND, count=sum(counts), sum=2.5,
        explicit_bounds=bounds, bucket_counts=counts,
    )  # fmt: skip
    return bytes(whole.SerializeToString())


def test_delta_histograms_add_up_until_their_bounds_change() -> None:
    decoder = MetricDecoder()
    first = by_name(take(decoder, delta_histogram(10, [1, 2, 3], [1, 2])))
    assert first["took_bucket/2"] == [(0, 0.0), (10_000, 3.0)]
    second = by_name(take(decoder, delta_histogram(20, [1, 0, 0], [1, 2])))
    assert second == {
        "took_bucket/1": [(20_000, 2.0)], "took_bucket/2": [(20_000, 4.0)], "took_bucket/+Inf": [(20_000, 7.0)],
        "took_count": [(20_000, 7.0)], "took_sum": [(20_000, 5.0)],
    }  # fmt: skip
    changed = by_name(take(decoder, delta_histogram(30, [1, 1], [5])))
    assert changed["took_bucket/5"][-1] == (30_000, 1.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.lists(st.booleans(), min_size=30, max_size=30))
def test_whatever_fails_in_between_the_total_is_the_sum(deltas: list[int], stored: list[bool]) -> None:
    decoder = MetricDecoder()
    last = 0.0
    for i, (value, worked) in enumerate(zip(deltas, stored, strict=False)):
        body = delta_sum((10 * i, 10 * i + 10, value))
        got = take(decoder, body, worked)
        if not worked:
            got = take(decoder, body)
        last = by_name(got)["hits_total"][-1][1]
    assert last == sum(deltas)


# ------------------------------------------------------------------ exponential histograms


def exponential(values: list[float], scale: int, zeros: int = 0, start: int = 0) -> Any:
    """An OTLP point that holds the values, bucketed by the definition."""
    base = 2.0 ** (2.0**-scale)
    point = ExportMetricsServiceRequest().resource_metrics.add().scope_metrics.add().metrics.add()
    point = point.exponential_histogram.data_points.add(time_unix_nano=NS + start * SECOND, scale=scale)
    for side, numbers in (
        (point.positive, [v for v in values if v > 0]),
        (point.negative, [-v for v in values if v < 0]),
    ):
        index = [math.ceil(math.log(v) / math.log(base)) - 1 for v in numbers]
        if index:
            side.offset = min(index)
            side.bucket_counts.extend(np.bincount(np.array(index) - min(index)).tolist())
    point.zero_count, point.count, point.sum = zeros, len(values) + zeros, sum(values)
    return point


NUMBERS = st.lists(st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3), max_size=40)


@settings(deadline=None)
@given(NUMBERS, st.integers(-2, 10), st.integers(0, 3))
def test_a_native_histogram_holds_the_same_counts(values: list[float], scale: int, zeros: int) -> None:
    given_point = Exponential.of(exponential(values, scale, zeros))
    message = NativeMessage.FromString(given_point.native(TS))
    assert (message.count_int, message.zero_count_int, message.timestamp) == (len(values) + zeros, zeros, TS)
    assert message.schema == min(scale, 8)
    wanted = given_point.at_scale(8)
    for spans, deltas, side in (
        (message.positive_spans, message.positive_deltas, wanted.positive),
        (message.negative_spans, message.negative_deltas, wanted.negative),
    ):
        counts, at, index = list(np.cumsum(list(deltas))), 0, 0
        found = {}
        for span in spans:
            index += span.offset
            for _ in range(span.length):
                found[index] = counts[at]
                at, index = at + 1, index + 1
        # Prometheus' bucket i ends at base^i, OpenTelemetry's at base^(i+1).
        assert {k - 1: v for k, v in found.items() if v} == {
            side.offset + i: c for i, c in enumerate(side.counts.tolist()) if c
        }


@settings(deadline=None, max_examples=40)
@given(NUMBERS, NUMBERS, st.integers(-2, 8), st.integers(-2, 8), st.integers(0, 3), st.integers(-1, 3))
def test_classic_buckets_count_exactly_and_alike_for_all_series(
    first: list[float], second: list[float], scale: int, other: int, zeros: int, wanted: int
) -> None:
    grid = ClassicGrid(wanted)
    a, b = Exponential.of(exponential(first, scale, zeros)), Exponential.of(exponential(second, other))
    grid.cover(a)
    grid.cover(b)
    bounds = grid.bounds()
    assert bounds == sorted(set(bounds))
    assert len(bounds) <= MAX_BOUNDS + 1
    for histogram in (a, b):
        counts = grid.counts(histogram).tolist()
        assert len(counts) == len(bounds)
        edges = 2.0 ** (2.0**-histogram.scale)
        for bound, count in zip(bounds, counts, strict=True):
            low = sum(
                c for i, c in enumerate(histogram.negative.counts.tolist())
                if -(edges ** (histogram.negative.offset + i)) <= bound + abs(bound) * 1e-9
            )  # fmt: skip
            up = sum(
                c for i, c in enumerate(histogram.positive.counts.tolist())
                if edges ** (histogram.positive.offset + i + 1) <= bound + abs(bound) * 1e-9
            )  # fmt: skip
            assert count == low + up + (histogram.zero_count if bound >= 0 else 0), bound


def test_the_grid_gets_coarser_where_it_would_be_too_long() -> None:
    grid = ClassicGrid(3)
    wide = Exponential(3, 2, 0.0, positive=Side(-1000, np.array([1], np.int64)))
    grid.cover(wide)
    grid.cover(Exponential(3, 2, 0.0, positive=Side(1000, np.array([1], np.int64))))
    assert (grid.scale, len(grid.bounds()) <= MAX_BOUNDS) == (-1, True)
    assert grid.counts(wide)[-1] == 1


def test_merging_histograms_far_apart_does_not_fill_memory() -> None:
    low = Exponential(20, 1, 1.0, positive=Side(-(1 << 30), np.array([1], np.int64)))
    high = Exponential(20, 1, 1.0, positive=Side((1 << 30), np.array([1], np.int64)))
    merged = low.plus(high)
    assert merged is not None
    assert (merged.count, int(merged.positive.counts.sum()), len(merged.positive.counts) <= 4096) == (2, 2, True)


def exponential_body(point: Any, temporality: int) -> bytes:
    whole, out = request()
    took = out.add(name="took", unit="s").exponential_histogram
    took.aggregation_temporality = temporality
    took.data_points.append(point)
    return bytes(whole.SerializeToString())


def test_exponential_histograms_are_native_and_classic() -> None:
    body = exponential_body(exponential([0.5, 1.5, 3.0], 0), CUMULATIVE)
    got = MetricDecoder().decode(body)
    series = labels_of({"__name__": "took_seconds", "job": "shop"})
    assert [(h.series, h.ts) for h in got.collected.histograms] == [(series, TS)]
    assert [(m.name, m.type) for m in got.collected.metadata] == [("took_seconds", "histogram")]
    assert by_name(got) == {
        "took_seconds_bucket/0.25": [(0, 0.0)], "took_seconds_bucket/0.5": [(0, 1.0)],
        "took_seconds_bucket/1": [(0, 1.0)], "took_seconds_bucket/2": [(0, 2.0)], "took_seconds_bucket/4": [(0, 3.0)],
        "took_seconds_bucket/+Inf": [(0, 3.0)], "took_seconds_count": [(0, 3.0)], "took_seconds_sum": [(0, 5.0)],
    }  # fmt: skip
    only = MetricDecoder(OtlpRules(exponential_as_classic=False)).decode(body)
    assert (only.collected.samples.sample_count, len(only.collected.histograms)) == (0, 1)


def test_exponential_deltas_add_up_at_the_lower_scale() -> None:
    decoder = MetricDecoder()
    first = exponential([0.5, 1.5], 3, start=10)
    second = exponential([3.0], 0, start=20)
    take(decoder, exponential_body(first, DELTA))
    got = take(decoder, exponential_body(second, DELTA))
    message = NativeMessage.FromString(got.collected.histograms[0].payload)
    assert (message.count_int, message.sum, message.schema) == (3, 5.0, 0)
    again = take(decoder, exponential_body(second, DELTA))
    assert (again.rejected, again.collected.histograms) == (0, ())


def test_an_exponential_point_without_a_value_is_stale() -> None:
    point = exponential([], 0)
    point.flags = 1
    got = MetricDecoder().decode(exponential_body(point, CUMULATIVE)).collected
    message = NativeMessage.FromString(got.histograms[0].payload)
    assert is_stale(np.array([message.sum])).all()
    assert is_stale(got.samples.values).all()


# ------------------------------------------------------------------ the fast path


names = st.text("ab.", min_size=1, max_size=3)
texts = st.text(max_size=4)
stamps = st.sampled_from([NS, NS + SECOND, NS + 1, 0, 2**64 - 1])


@st.composite
def bodies(draw: Any) -> bytes:
    whole = ExportMetricsServiceRequest()
    for _ in range(draw(st.integers(1, 2))):
        group = whole.resource_metrics.add()
        group.resource.attributes.extend(kv(draw(st.dictionaries(st.sampled_from(["service.name", "z"]), texts))))
        out = group.scope_metrics.add().metrics
        for _ in range(draw(st.integers(0, 3))):
            metric = out.add(name=draw(names), unit=draw(st.sampled_from(["", "s", "1"])))
            shape = draw(st.sampled_from(["gauge", "sum", "histogram"]))
            data = getattr(metric, shape)
            if shape != "gauge":
                data.aggregation_temporality = CUMULATIVE
            for _ in range(draw(st.integers(1, 4))):
                point = data.data_points.add(time_unix_nano=draw(stamps), start_time_unix_nano=draw(stamps))
                point.attributes.extend(kv(draw(st.dictionaries(names, texts, max_size=2))))
                point.flags = draw(st.sampled_from([0, 0, 0, 1]))
                if shape == "histogram":
                    bounds = draw(st.sampled_from([[], [1.0], [1.0, 2.0], list(map(float, range(20)))]))
                    point.explicit_bounds.extend(bounds)
                    counts = [draw(st.integers(0, 300)) for _ in range(len(bounds) + 1)]
                    point.bucket_counts.extend(counts)
                    point.count = sum(counts)
                    if draw(st.booleans()):
                        point.sum = draw(st.floats())
                    if draw(st.booleans()):
                        point.min, point.max = draw(st.floats()), draw(st.floats())
                elif draw(st.booleans()):
                    point.as_int = draw(st.integers(-(2**63), 2**63 - 1))
                elif draw(st.booleans()):
                    point.as_double = draw(st.floats())
    return bytes(whole.SerializeToString())


@settings(deadline=None, max_examples=60)
@given(st.lists(bodies(), min_size=1, max_size=3))
def test_what_is_remembered_changes_no_answer(requests: list[bytes]) -> None:
    used = MetricDecoder()
    for body in [*requests, *requests, *requests]:
        fresh, again = MetricDecoder().decode(body), used.decode(body)
        assert rows(again.collected) == rows(fresh.collected)
        assert again.rejected == fresh.rejected
        assert again.collected.metadata == fresh.collected.metadata


def test_the_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiops.ingest.otlp_metrics.CACHE_BYTES", 5000)
    decoder = MetricDecoder()
    for i in range(100):
        whole, out = request({"service.name": str(i)})
        out.add(name="m").gauge.data_points.add(time_unix_nano=NS, as_int=i, attributes=kv({"a": str(i)}))
        assert by_name(decoder.decode(whole.SerializeToString()))["m"] == [(0, i)]
    assert len(decoder._resources) < 10
