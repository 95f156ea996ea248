"""The real OpenTelemetry SDK sends metrics, logs and traces over HTTP and gRPC; what it measured can be read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from aiops.access.keys import KeyService
from aiops.api.otlp_grpc import DETAILS, SERVICES, OtlpGrpcServer
from aiops.api.services import Services
from aiops.core.errors import Forbidden, TransientError
from aiops.core.ports import system_clock
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.signals import LogQuery
from aiops.ingest.otlp_receiver import receiver_of
from aiops.promql.engine import PromqlEngine
from aiops.settings import Settings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.ingest.app import app_over, serving

RESOURCE = Resource.create({"service.name": "shop", "service.instance.id": "i1", "deployment.environment.name": "prod"})


@dataclass
class House:
    store: TelemetryStore
    engine: PromqlEngine
    http: str
    grpc: str

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        block = self.engine.instant(query, system_clock(), LOCAL).block
        return [(dict(labels), float(v)) for labels, v in zip(block.labels, block.values, strict=True)]


class Keys:
    """One key that may write and one that may only read."""

    def authenticate(self, key: str) -> Principal:
        roles = {"aiops_writer": Role.RESPONDER, "aiops_reader": Role.VIEWER}
        if key not in roles:
            raise Forbidden("That key is not valid.", authenticated=False)
        return Principal(key, roles[key])


@pytest.fixture
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    settings = Settings(**getattr(request, "param", {}))
    store = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", settings.store))
    receiver = receiver_of(settings, store, system_clock)
    nothing = cast(Any, None)
    services = Services(
        settings, system_clock, store, engine=nothing, keys=cast(KeyService, Keys()), audit=nothing, otlp=receiver
    )
    over_grpc = OtlpGrpcServer(services, receiver)
    port = over_grpc.start("127.0.0.1", 0)
    with serving(app_over(store, settings, system_clock, receiver)) as url:
        yield House(store, PromqlEngine(store, settings.promql), url, f"127.0.0.1:{port}")
    over_grpc.stop()
    store.close()


def exporters(house: House, protocol: str, **rest: Any) -> tuple[Any, Any, Any]:
    if protocol == "http":
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return (
            OTLPMetricExporter(f"{house.http}/v1/metrics", **rest),
            OTLPLogExporter(f"{house.http}/v1/logs"),
            OTLPSpanExporter(f"{house.http}/v1/traces"),
        )
    from opentelemetry.exporter.otlp.proto.grpc import _log_exporter, metric_exporter, trace_exporter

    return (
        metric_exporter.OTLPMetricExporter(house.grpc, insecure=True, **rest),
        _log_exporter.OTLPLogExporter(house.grpc, insecure=True),
        trace_exporter.OTLPSpanExporter(house.grpc, insecure=True, compression=grpc.Compression.Gzip),
    )


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_all_signals_arrive(house: House, protocol: str) -> None:
    metrics, logs, spans = exporters(house, protocol)
    reader = PeriodicExportingMetricReader(metrics, export_interval_millis=3_600_000)
    meters = MeterProvider([reader], RESOURCE)
    tracer = TracerProvider(resource=RESOURCE)
    tracer.add_span_processor(SimpleSpanProcessor(spans))
    meter = meters.get_meter("lib", "1")
    began = system_clock()
    with tracer.get_tracer("lib").start_as_current_span("GET /"):
        meter.create_counter("http.requests", "{request}").add(3, {"http.route": "/a"})
        meter.create_histogram("http.duration", "s").record(0.3, {"http.route": "/a"})
    loggers = LoggerProvider(RESOURCE)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
    record = LogRecord(timestamp=began * 10**6, severity_number=SeverityNumber.ERROR, body="it broke")
    loggers.get_logger("lib").emit(record)
    for provider in (meters, tracer, loggers):
        provider.shutdown()
    base = {"job": "shop", "instance": "i1", "http_route": "/a"}
    assert house.ask("http_requests_total") == [({"__name__": "http_requests_total", **base}, 3.0)]
    assert house.ask('http_duration_seconds_bucket{le="5"}')[0][1] == 1.0
    assert house.ask("http_duration_seconds_sum")[0][1] == 0.3
    (info,) = house.ask("target_info")
    assert info[0]["deployment_environment_name"] == "prod"
    window = began - 60_000, system_clock() + 60_000
    (span,) = house.store.spans(*window, LOCAL)
    assert (span.name.raw, span.service) == ("GET /", "shop")
    (line,) = house.store.logs(LogQuery(*window), LOCAL)
    assert (line.body.raw, line.severity_number, line.service) == ("it broke", 17, "shop")
    exemplars = house.store.exemplars((), *window, LOCAL)
    assert {dict(e.labels)["trace_id"] for e in exemplars} == {span.trace_id}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_deltas_and_exponential_histograms_can_be_asked(house: House, protocol: str) -> None:
    temporality = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    metrics, _, _ = exporters(house, protocol, preferred_temporality=temporality)
    reader = PeriodicExportingMetricReader(metrics, export_interval_millis=3_600_000)
    view = View(instrument_name="took", aggregation=ExponentialBucketHistogramAggregation())
    meters = MeterProvider([reader], RESOURCE, views=[view])
    counter, took = (
        meters.get_meter("lib").create_counter("hits"),
        meters.get_meter("lib").create_histogram("took", "s"),
    )
    for round_ in range(3):
        counter.add(2 + round_)
        for i in range(100):
            took.record(0.001 * (i + 1))
        meters.force_flush()
        time.sleep(0.01)
    meters.shutdown()
    assert house.ask("hits_total")[0][1] == 9.0
    assert house.ask("took_seconds_count")[0][1] == 300.0
    ((_, p50),) = house.ask("histogram_quantile(0.5, took_seconds_bucket)")
    assert p50 == pytest.approx(0.05, rel=0.1)  # four buckets a doubling: 19 % wide, interpolated
    assert house.store.histograms((), 0, 1 << 60, LOCAL)


def one_point() -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.gauge.data_points.add(time_unix_nano=system_clock() * 10**6, as_int=1)
    metric.gauge.data_points.add(as_int=1)
    return request.SerializeToString()


def call(house: House, body: bytes, **metadata: str) -> bytes:
    with grpc.insecure_channel(house.grpc) as channel:
        return channel.unary_unary(f"/{SERVICES['metrics']}/Export")(body, metadata=tuple(metadata.items()), timeout=10)


def refused(house: House, body: bytes, **metadata: str) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(house, body, **metadata)
    return caught.value


def test_a_partial_success_says_what_was_left_out(house: House) -> None:
    partial = ExportMetricsServiceResponse.FromString(call(house, one_point())).partial_success
    assert (partial.rejected_data_points, "no time" in partial.error_message) == (1, True)
    assert refused(house, b"\xff").code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("house", [{"server": {"auth": "keys"}}], indirect=True)
def test_keys_and_permissions_hold_over_grpc(house: House) -> None:
    assert refused(house, one_point()).code() is grpc.StatusCode.UNAUTHENTICATED
    assert refused(house, one_point(), authorization="Bearer no").code() is grpc.StatusCode.UNAUTHENTICATED
    wrong = refused(house, one_point(), authorization="Bearer aiops_reader")
    assert wrong.code() is grpc.StatusCode.PERMISSION_DENIED
    assert call(house, one_point(), authorization="Bearer aiops_writer")
    assert len(house.ask("m")) == 1


def details(error: grpc.RpcError) -> Status | None:
    found = dict(error.trailing_metadata()).get(DETAILS)
    return Status.FromString(found) if found else None


@pytest.mark.parametrize("house", [{"server": {"max_body_bytes": 2000}}], indirect=True)
def test_too_large_a_message_is_not_to_be_tried_again(house: House) -> None:
    error = refused(house, bytes(5000))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(error) is None


def test_a_store_that_cannot_write_says_when_to_come_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **rest: object) -> None:
        raise TransientError("The disk is full.", retry_after_s=30)

    monkeypatch.setattr(house.store, "append", full)
    error = refused(house, one_point())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    status, info = details(error), RetryInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.retry_delay.seconds == 30
