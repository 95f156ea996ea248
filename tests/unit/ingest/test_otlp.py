from __future__ import annotations

import base64
import gzip
import json
import math
import zlib
from typing import Any

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from aiops.core.errors import InvalidInput, LimitExceeded
from aiops.core.series import MetricMetadata, is_stale
from aiops.ingest import otlp
from aiops.ingest.bodies import Decoded, DecodeLimits, UnsupportedMedia

TS = 1_790_000_000_000
NS = TS * 1_000_000
JSON = "application/json"


def kv(**pairs: str) -> list[KeyValue]:
    return [KeyValue(key=k.replace("__", "."), value=AnyValue(string_value=v)) for k, v in pairs.items()]


def metrics(resource: dict[str, str] | None = None) -> tuple[ExportMetricsServiceRequest, Any]:
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(kv(**(resource if resource is not None else {"service__name": "shop"})))
    return request, group.scope_metrics.add().metrics


def values(decoded: Decoded) -> dict[str, float]:
    block = decoded.collected.samples
    return {
        "{" + ",".join(f"{k}={v}" for k, v in labels) + "}": float(block.series(i)[1][-1])
        for i, labels in enumerate(block.labels)
    }


def test_gauges_sums_histograms_and_summaries_become_series() -> None:
    request, out = metrics()
    gauge = out.add(name="process.cpu.utilization", unit="1", description="How busy.")
    gauge.gauge.data_points.add(time_unix_nano=NS, as_double=0.5, attributes=kv(cpu__mode="user"))
    total = out.add(name="http.server.requests", unit="{request}")
    total.sum.is_monotonic = True
    total.sum.aggregation_temporality = 2
    total.sum.data_points.add(time_unix_nano=NS, as_int=7)
    level = out.add(name="queue.size")
    level.sum.aggregation_temporality = 2
    level.sum.data_points.add(time_unix_nano=NS, as_int=3)
    took = out.add(name="http.server.request.duration", unit="s")
    took.histogram.aggregation_temporality = 2
    took.histogram.data_points.add(
        time_unix_nano=NS, count=6, sum=4.5, explicit_bounds=[0.005, 1.0], bucket_counts=[1, 2, 3]
    )
    rpc = out.add(name="rpc", unit="ms")
    point = rpc.summary.data_points.add(time_unix_nano=NS, count=2, sum=9.0)
    point.quantile_values.add(quantile=0.5, value=4.0)
    got = otlp.decode_metrics(request.SerializeToString())
    assert got.rejected == 0
    assert values(got) == {
        "{__name__=process_cpu_utilization_ratio,cpu_mode=user,job=shop}": 0.5,
        "{__name__=http_server_requests_total,job=shop}": 7,
        "{__name__=queue_size,job=shop}": 3,
        "{__name__=http_server_request_duration_seconds_bucket,job=shop,le=0.005}": 1,
        "{__name__=http_server_request_duration_seconds_bucket,job=shop,le=1}": 3,
        "{__name__=http_server_request_duration_seconds_bucket,job=shop,le=+Inf}": 6,
        "{__name__=http_server_request_duration_seconds_count,job=shop}": 6,
        "{__name__=http_server_request_duration_seconds_sum,job=shop}": 4.5,
        "{__name__=rpc_milliseconds,job=shop,quantile=0.5}": 4,
        "{__name__=rpc_milliseconds_count,job=shop}": 2,
        "{__name__=rpc_milliseconds_sum,job=shop}": 9,
    }
    assert MetricMetadata("process_cpu_utilization_ratio", "gauge", "", "How busy.") in got.collected.metadata
    assert MetricMetadata("http_server_request_duration_seconds", "histogram", "seconds") in got.collected.metadata
    assert got.collected.samples.ts.tolist() == [TS] * 11


def test_the_resource_becomes_job_instance_and_target_info() -> None:
    request, out = metrics(
        {"service__name": "cart", "service__namespace": "shop", "service__instance__id": "i1", "host__name": "h"}
    )
    out.add(name="up").gauge.data_points.add(time_unix_nano=NS, as_int=1)
    assert values(otlp.decode_metrics(request.SerializeToString())) == {
        "{__name__=up,instance=i1,job=shop/cart}": 1,
        "{__name__=target_info,host_name=h,instance=i1,job=shop/cart}": 1,
    }


def test_what_cannot_be_kept_is_counted_and_named() -> None:
    request, out = metrics()
    out.add(name="ok").gauge.data_points.add(time_unix_nano=NS, as_int=1)
    unspecified = out.add(name="unspecified")
    unspecified.sum.data_points.add(time_unix_nano=NS, as_int=1)
    unspecified.sum.data_points.add(time_unix_nano=NS + 10**9, as_int=1)
    coarse = out.add(name="coarse").exponential_histogram
    coarse.aggregation_temporality = 2
    coarse.data_points.add(time_unix_nano=NS, count=1, scale=-5)
    out.add(name="timeless").gauge.data_points.add(as_int=1)
    torn = out.add(name="torn")
    torn.histogram.aggregation_temporality = 2
    torn.histogram.data_points.add(time_unix_nano=NS, count=1, explicit_bounds=[1.0], bucket_counts=[1, 2, 3])
    out.add(name="empty")
    got = otlp.decode_metrics(request.SerializeToString())
    assert got.rejected == 6
    assert "neither cumulative nor delta ('unspecified')" in got.reason
    assert "scale -5" in got.reason
    assert list(values(got)) == ["{__name__=ok,job=shop}"]
    body, kind = otlp.response("metrics", JSON, got.rejected, got.reason)
    assert kind == JSON
    assert json.loads(body)["partialSuccess"]["rejectedDataPoints"] == "6"
    assert otlp.response("metrics", "application/x-protobuf") == (b"", "application/x-protobuf")


def test_no_recorded_value_is_stale_and_nan_stays_nan() -> None:
    request, out = metrics()
    out.add(name="gone").gauge.data_points.add(time_unix_nano=NS, flags=1)
    out.add(name="odd").gauge.data_points.add(time_unix_nano=NS, as_double=math.nan)
    got = otlp.decode_metrics(request.SerializeToString()).collected.samples
    assert is_stale(got.values).tolist() == [True, False]
    assert np.isnan(got.values).all()


def test_logs() -> None:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(kv(service__name="cart"))
    records = group.scope_logs.add().log_records
    records.add(
        time_unix_nano=NS, severity_number=17, severity_text="ERROR", body=AnyValue(string_value="boom \u202e"),
        trace_id=b"\x01" * 16, span_id=b"\x02" * 8, attributes=kv(code="7"),
    )  # fmt: skip
    structured = records.add(observed_time_unix_nano=NS + 1)
    structured.body.kvlist_value.values.extend(kv(a="1"))
    records.add().body.bool_value = True
    got = otlp.decode_logs(request.SerializeToString(), received_ms=TS + 5)
    first, second, third = got.collected.logs
    assert (first.body.raw, first.severity_number, first.service) == ("boom \u202e", 17, "cart")
    assert (first.trace_id, first.span_id, first.attributes) == ("01" * 16, "02" * 8, (("code", "7"),))
    assert (second.body.raw, second.time_unix_nano, second.trace_id) == ('{"a": "1"}', NS + 1, "")
    assert (third.body.raw, third.time_unix_nano) == ("true", NS + 5_000_000)
    assert len(got.key) == 64
    assert otlp.decode_logs(gzip.compress(request.SerializeToString()), content_encoding="gzip").key == got.key


def test_traces() -> None:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(kv(service__name="web"))
    spans = group.scope_spans.add().spans
    spans.add(
        trace_id=b"\x01" * 16, span_id=b"\x02" * 8, parent_span_id=b"\x03" * 8, name="GET /", kind=3,
        start_time_unix_nano=NS, end_time_unix_nano=NS + 10**6, status={"code": 2},
    )  # fmt: skip
    spans.add(trace_id=b"\x01" * 16, name="no id")
    spans.add(trace_id=b"\x01" * 16, span_id=b"\x04" * 8, start_time_unix_nano=NS, end_time_unix_nano=2**64 - 1)
    got = otlp.decode_traces(request.SerializeToString())
    assert got.rejected == 1
    first, last = got.collected.spans
    assert (first.kind, first.status, first.parent_span_id, first.duration_ms) == ("client", "error", "03" * 8, 1.0)
    assert last.end_unix_nano < 2**63


def test_the_json_form_has_hex_ids_and_numbers_as_text() -> None:
    body = {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]},
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174",
                                "parentSpanId": "", "name": "n", "kind": 2, "startTimeUnixNano": str(NS),
                                "endTimeUnixNano": NS + 1000, "unknown": {"x": [1]},
                                "attributes": [{"key": "i", "value": {"intValue": "12"}}],
                            }
                        ]
                    }
                ],
            }
        ]
    }  # fmt: skip
    (span,) = otlp.decode_traces(json.dumps(body).encode(), "application/json; charset=utf-8").collected.spans
    assert (span.trace_id, span.span_id) == ("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174")
    assert (span.kind, span.start_unix_nano, span.attributes) == ("server", NS, (("i", "12"),))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"[]",
        b"null",
        b'{"resourceSpans": 3}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"-1"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"\\ud800"}]}]}]}',
        b'{"a":' * 5000,
        b"\xff",
    ],
)
def test_bad_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        otlp.decode_traces(body, JSON)


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    for decode in (otlp.decode_metrics, otlp.decode_logs, otlp.decode_traces):
        for kind in (otlp.PROTOBUF, JSON):
            for encoding in ("", "gzip", "zstd", "snappy", "deflate"):
                try:
                    decode(body, kind, encoding)
                except (InvalidInput, LimitExceeded):
                    continue


def test_encodings_and_their_limits() -> None:
    request, out = metrics()
    out.add(name="m" * 5000).gauge.data_points.add(time_unix_nano=NS, as_int=1)
    plain = request.SerializeToString()
    packed = {
        "gzip": gzip.compress(plain), "zstd": bytes(cramjam.zstd.compress(plain)), "identity": plain, "": plain,
        "snappy": bytes(cramjam.snappy.compress_raw(plain)), "x-snappy-framed": bytes(cramjam.snappy.compress(plain)),
        "deflate": zlib.compress(plain),
    }  # fmt: skip
    wanted = values(otlp.decode_metrics(plain))
    for encoding, body in packed.items():
        assert values(otlp.decode_metrics(body, content_encoding=encoding)) == wanted
        with pytest.raises(LimitExceeded):
            otlp.decode_metrics(body, content_encoding=encoding, limits=DecodeLimits(max_bytes=4000))
    for encoding in ("gzip", "zstd", "snappy", "x-snappy-framed", "deflate"):
        with pytest.raises(InvalidInput):
            otlp.decode_metrics(packed[encoding][:-6], content_encoding=encoding)
    for encoding in ("br", "gzip, gzip"):
        with pytest.raises(UnsupportedMedia):
            otlp.decode_metrics(plain, content_encoding=encoding)
    with pytest.raises(UnsupportedMedia):
        otlp.decode_metrics(plain, "text/plain")


def test_a_compression_bomb_is_stopped_at_the_limit() -> None:
    zeros = bytes(50_000_000)
    for encoding, body in (
        ("gzip", gzip.compress(zeros)),
        ("zstd", bytes(cramjam.zstd.compress(zeros))),
        ("snappy", bytes(cramjam.snappy.compress(zeros))),
        ("deflate", zlib.compress(zeros)),
    ):
        with pytest.raises(LimitExceeded):
            otlp.decode_metrics(body, content_encoding=encoding, limits=DecodeLimits(max_bytes=1_000_000))


def test_errors_take_the_type_of_the_request() -> None:
    body, kind = otlp.failure(JSON, 3, "no")
    assert (json.loads(body), kind) == ({"code": 3, "message": "no"}, JSON)
    body, kind = otlp.failure("application/x-protobuf", 3, "no")
    assert body == b"\x08\x03\x12\x02no"


def test_bytes_attributes_are_base64() -> None:
    request, out = metrics()
    point = out.add(name="m").gauge.data_points.add(time_unix_nano=NS, as_int=1)
    point.attributes.add(key="b", value=AnyValue(bytes_value=b"\x00\x01"))
    assert base64.b64encode(b"\x00\x01").decode() in next(
        iter(values(otlp.decode_metrics(request.SerializeToString())))
    )
