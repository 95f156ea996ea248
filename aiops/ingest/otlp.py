"""OTLP/HTTP 1.x (https://opentelemetry.io/docs/specs/otlp/): metrics, logs and traces, protobuf and JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from aiops.core.errors import InvalidInput
from aiops.core.ports import Collected
from aiops.core.signals import LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.ingest.bodies import Decoded, DecodeLimits, Rejections, UnsupportedMedia, decompress, key_of, media_type
from aiops.ingest.otlp_metrics import MetricDecoder
from aiops.ingest.otlp_values import attributes_of, id_of, text_of
from aiops.ingest.wire import Status

PROTOBUF, JSON = "application/x-protobuf", "application/json"
KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
TRACE_STATE_CAP = 512
_NANO_LIMIT = (1 << 63) - 1
_DEFAULT = DecodeLimits()
_RESPONSES: dict[str, tuple[Any, str]] = {
    "metrics": (metrics_service_pb2.ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (logs_service_pb2.ExportLogsServiceResponse, "rejected_log_records"),
    "traces": (trace_service_pb2.ExportTraceServiceResponse, "rejected_spans"),
}


def metrics_request(
    body: bytes, content_type: str = PROTOBUF, content_encoding: str = "", limits: DecodeLimits = _DEFAULT
) -> bytes:
    """A metrics request as protobuf, decompressed, ready for :class:`~aiops.ingest.otlp_metrics.MetricDecoder`.

    Raises:
        UnsupportedMedia: neither protobuf nor JSON, or an unknown encoding.
        InvalidInput: a body that is not what its type says.
        LimitExceeded: more bytes than ``limits.max_bytes`` after decompression.
    """
    plain = decompress(body, content_encoding, limits.max_bytes)
    if media_type(content_type)[0] == PROTOBUF:
        return plain
    message = _parse(plain, content_type, metrics_service_pb2.ExportMetricsServiceRequest)
    return bytes(message.SerializeToString())


def decode_metrics(
    body: bytes, content_type: str = PROTOBUF, content_encoding: str = "", limits: DecodeLimits = _DEFAULT
) -> Decoded:
    """Metrics as samples with Prometheus' names, by default rules. Raises as :func:`metrics_request`."""
    return MetricDecoder(limits=limits).decode(metrics_request(body, content_type, content_encoding, limits))


def decode_logs(
    body: bytes,
    content_type: str = PROTOBUF,
    content_encoding: str = "",
    received_ms: int = 0,
    limits: DecodeLimits = _DEFAULT,
) -> Decoded:
    """Log records; one without any time gets ``received_ms``. Raises as :func:`metrics_request`."""
    plain = decompress(body, content_encoding, limits.max_bytes)
    request = _parse(plain, content_type, logs_service_pb2.ExportLogsServiceRequest)
    records = []
    for group in request.resource_logs:
        resource = attributes_of(group.resource.attributes)
        for scope in group.scope_logs:
            for record in scope.log_records:
                time_ns = record.time_unix_nano or record.observed_time_unix_nano or received_ms * 1_000_000
                records.append(
                    LogRecord(
                        time_ns,
                        Untrusted(text_of(record.body)),
                        int(record.severity_number),
                        record.severity_text,
                        resource,
                        attributes_of(record.attributes),
                        id_of(record.trace_id, 16),
                        id_of(record.span_id, 8),
                    )
                )
    return Decoded(Collected(logs=tuple(records)), key=key_of(plain))


def decode_traces(
    body: bytes, content_type: str = PROTOBUF, content_encoding: str = "", limits: DecodeLimits = _DEFAULT
) -> Decoded:
    """Spans; one without ids is rejected. Raises as :func:`metrics_request`."""
    plain = decompress(body, content_encoding, limits.max_bytes)
    request = _parse(plain, content_type, trace_service_pb2.ExportTraceServiceRequest)
    rejections = Rejections()
    spans = []
    for group in request.resource_spans:
        resource = attributes_of(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                trace_id, span_id = id_of(span.trace_id, 16), id_of(span.span_id, 8)
                if not trace_id or not span_id:
                    rejections.add("a span has no valid trace or span id")
                    continue
                spans.append(
                    Span(
                        trace_id,
                        span_id,
                        id_of(span.parent_span_id, 8),
                        Untrusted(span.name),
                        KINDS[span.kind] if 0 <= span.kind < len(KINDS) else "internal",
                        span.start_time_unix_nano,
                        min(max(span.end_time_unix_nano, span.start_time_unix_nano), _NANO_LIMIT),
                        STATUSES[span.status.code] if 0 <= span.status.code < len(STATUSES) else "unset",
                        resource,
                        attributes_of(span.attributes),
                        span.trace_state[:TRACE_STATE_CAP],
                    )
                )
    return Decoded(Collected(spans=tuple(spans)), rejections.count, rejections.text)


def response(signal: str, content_type: str, rejected: int = 0, reason: str = "") -> tuple[bytes, str]:
    """The body of a 200 and its type; ``signal`` is metrics, logs or traces."""
    build, field = _RESPONSES[signal]
    message = build()
    if rejected or reason:
        setattr(message.partial_success, field, rejected)
        message.partial_success.error_message = reason
    return _dump(message, content_type)


def failure(content_type: str, code: int, text: str) -> tuple[bytes, str]:
    """The body of an error: gRPC's Status, in the type of the request; ``code`` is a gRPC code."""
    return _dump(Status(code=code, message=text), content_type)


def _dump(message: Any, content_type: str) -> tuple[bytes, str]:
    if media_type(content_type)[0] == JSON:
        return json_format.MessageToJson(message, indent=None).encode(), JSON
    return message.SerializeToString(), PROTOBUF


def _parse(plain: bytes, content_type: str, build: Any) -> Any:
    kind = media_type(content_type)[0]
    if kind == PROTOBUF:
        try:
            return build.FromString(plain)
        except DecodeError as error:
            raise InvalidInput("The body is not an OTLP message in protobuf.") from error
    if kind == JSON:
        try:
            data = orjson.loads(plain)
            if not isinstance(data, dict):
                raise InvalidInput("The body is not OTLP in JSON: it must be an object.")
            _ids_to_base64(data)
            return json_format.ParseDict(data, build(), ignore_unknown_fields=True)
        except (orjson.JSONDecodeError, json_format.ParseError, binascii.Error, ValueError) as error:
            raise InvalidInput(f"The body is not OTLP in JSON: {Untrusted(str(error)).display(200)}") from error
        except (TypeError, AttributeError, RecursionError) as error:
            raise InvalidInput("The body is not OTLP in JSON.") from error
    raise UnsupportedMedia(
        f"The content type '{Untrusted(kind).display(80)}' is not supported.", hint=f"Use {PROTOBUF} or {JSON}."
    )


_ID_KEYS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")


def _ids_to_base64(data: Any) -> None:
    """OTLP writes ids in hex where protobuf's own JSON form has base64."""
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            for key in _ID_KEYS:
                if isinstance(item.get(key), str):
                    item[key] = base64.b64encode(bytes.fromhex(item[key])).decode()
            waiting.extend(v for v in item.values() if isinstance(v, list | dict))
