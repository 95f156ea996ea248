"""The service's own telemetry, by the OpenTelemetry SDK.

Metrics live in one Prometheus registry: ``/metrics`` prints it, and its samples go into our own store, as do
spans and log lines. With ``telemetry.export_url`` all three go to an OTLP collector as well.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import socket
import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, generate_latest

from aiops.core.errors import AiopsError
from aiops.core.ports import Clock, Collected, TelemetrySink, system_clock
from aiops.core.series import Labels, MetricMetadata, SampleBlock, labels_of
from aiops.core.signals import LogRecord, Span
from aiops.core.untrusted import Untrusted

SERVICE = "aiops"
UNTRACED = "healthz,readyz,metrics,api/v1/write,v1/metrics,v1/logs,v1/traces,-/healthy,-/ready"
"""Routes without a span: probes, and ingest, whose own spans would be ingested again."""

_SEVERITY = {logging.DEBUG: 5, logging.INFO: 9, logging.WARNING: 13, logging.ERROR: 17, logging.CRITICAL: 21}
_QUEUE = 10_000


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the ids of the span it was written in."""

    def format(self, record: logging.LogRecord) -> str:
        context = trace.get_current_span().get_span_context()
        body: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if context.is_valid:
            body |= {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body, ensure_ascii=False)


class _Recorder(logging.Handler, SpanExporter):
    """Holds log lines and spans until the next flush; drops the oldest when nobody flushes."""

    def __init__(self, resource: Labels) -> None:
        super().__init__(logging.INFO)
        self.resource = resource
        self.lines: queue.Queue[LogRecord] = queue.Queue(_QUEUE)
        self.finished: queue.Queue[Span] = queue.Queue(_QUEUE)

    def emit(self, record: logging.LogRecord) -> None:
        context = trace.get_current_span().get_span_context()
        _put(
            self.lines,
            LogRecord(
                int(record.created * 1e9),
                Untrusted(record.getMessage()),
                _SEVERITY.get(record.levelno, 9),
                record.levelname,
                self.resource,
                labels_of({"logger.name": record.name}),
                f"{context.trace_id:032x}" if context.is_valid else "",
                f"{context.span_id:016x}" if context.is_valid else "",
            ),
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            context = span.get_span_context()
            if context is None or span.start_time is None or span.end_time is None:
                continue
            _put(
                self.finished,
                Span(
                    f"{context.trace_id:032x}",
                    f"{context.span_id:016x}",
                    f"{span.parent.span_id:016x}" if span.parent else "",
                    Untrusted(span.name),
                    span.kind.name.lower(),
                    span.start_time,
                    span.end_time,
                    span.status.status_code.name.lower(),
                    self.resource,
                    labels_of((k, str(v)) for k, v in (span.attributes or {}).items()),
                ),
            )
        return SpanExportResult.SUCCESS


def _put(target: queue.Queue[Any], item: Any) -> None:
    try:
        target.put_nowait(item)
    except queue.Full:
        target.get_nowait()
        target.put_nowait(item)


def _drain(source: queue.Queue[Any]) -> tuple[Any, ...]:
    items = []
    while True:
        try:
            items.append(source.get_nowait())
        except queue.Empty:
            return tuple(items)


class Observability:
    """Sets up logging and the OpenTelemetry providers, and flushes them into a sink every ``interval_s``.

    Args:
        version: of the service, for ``service.version``.
        interval_s: seconds between flushes into the store.
        export_url: base URL of an OTLP/HTTP collector, or empty.
        log_level: a ``logging`` level name; lines go to standard error as JSON.
    """

    def __init__(
        self,
        version: str,
        interval_s: float = 5.0,
        export_url: str = "",
        log_level: str = "INFO",
        clock: Clock = system_clock,
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._instance = socket.gethostname()
        resource = Resource.create(
            {"service.name": SERVICE, "service.version": version, "service.instance.id": self._instance}
        )
        self._registry = CollectorRegistry()
        self._recorder = _Recorder(
            labels_of({"service.name": SERVICE, "service.version": version, "host.name": self._instance})
        )
        readers: list[MetricReader] = [PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)]
        self.tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.tracers.add_span_processor(BatchSpanProcessor(self._recorder, schedule_delay_millis=1000))
        if export_url:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            base = export_url.rstrip("/")
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{base}/v1/metrics")))
            self.tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{base}/v1/traces")))
        self.meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        self._handlers = _log_to(self._recorder, log_level)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def install(self) -> None:
        """Make these the process' global providers, so that ``opentelemetry.metrics.get_meter`` reaches them."""
        trace.set_tracer_provider(self.tracers)
        metrics.set_meter_provider(self.meters)

    def instrument(self, app: Any) -> None:
        """Trace and measure a FastAPI app's requests."""
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(
            app,
            tracer_provider=self.tracers,
            meter_provider=self.meters,
            excluded_urls=UNTRACED,
            exclude_spans=["receive", "send"],
        )

    def metrics_text(self) -> str:
        """The Prometheus text exposition of the service's own metrics."""
        return generate_latest(self._registry).decode()

    def collect(self) -> Collected:
        """Own metrics as of now, and the log lines and spans since the last call."""
        now = self._clock()
        families = list(self._registry.collect())
        own = {"job": SERVICE, "instance": self._instance, "service_name": SERVICE}
        samples = [
            (labels_of({**sample.labels, **own, "__name__": sample.name}), float(sample.value))
            for family in families
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        return Collected(
            samples=SampleBlock.at(now, samples),
            metadata=tuple(MetricMetadata(_family(f), f.type, f.unit, f.documentation) for f in families),
            logs=_drain(self._recorder.lines),
            spans=_drain(self._recorder.finished),
        )

    def start(self, sink: TelemetrySink) -> None:
        self._thread = threading.Thread(target=self._run, args=(sink,), name="own-telemetry", daemon=True)
        self._thread.start()

    def _run(self, sink: TelemetrySink) -> None:
        log = logging.getLogger(__name__)
        while not self._stop.wait(self._interval_s):
            try:
                sink.append(self.collect())
            except AiopsError as error:
                log.warning("own telemetry was not stored: %s", error)

    def stop(self) -> None:
        """Stop flushing and give the log handlers back; safe to call twice."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self.tracers.shutdown()
        self.meters.shutdown()
        root = logging.getLogger()
        for handler in self._handlers:
            root.removeHandler(handler)
        self._handlers = ()


def _family(family: Any) -> str:
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


def _log_to(recorder: _Recorder, level: str) -> Iterable[logging.Handler]:
    root = logging.getLogger()
    root.setLevel(level)
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonFormatter())
    stream.setLevel(level)  # libraries that set their own loggers to DEBUG would be printed otherwise
    for handler in (stream, recorder):
        root.addHandler(handler)
    for noisy in ("httpx", "httpcore", "apscheduler", "alembic", "numba", "urllib3", "mlflow", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return stream, recorder
