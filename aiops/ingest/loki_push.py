"""Loki's push API (https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs): JSON and protobuf.

Stream labels become the record's resource, with ``service.name`` found as Loki finds ``service_name``; structured
metadata becomes its attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import orjson
from google.protobuf.message import DecodeError

from aiops.core.errors import InvalidInput
from aiops.core.ports import Collected
from aiops.core.series import Labels, labels_of
from aiops.core.signals import LogRecord
from aiops.core.untrusted import Untrusted
from aiops.ingest.bodies import (
    Decoded,
    DecodeLimits,
    Rejections,
    UnsupportedMedia,
    decompress,
    key_of,
    media_type,
    snappy,
)
from aiops.ingest.messages import message_classes

SERVICE_LABELS = (
    "service_name", "service", "app", "application", "app_name", "name", "app_kubernetes_io_name", "container",
    "container_name", "k8s_container_name", "component", "workload", "job", "k8s_job_name",
)  # fmt: skip
"""Where Loki looks for a stream's service (``discover_service_name``), in its order."""
LEVEL_LABELS = ("level", "detected_level", "severity", "severity_text", "lvl", "log_level", "loglevel")
TRACE_LABELS, SPAN_LABELS = ("trace_id", "traceid", "traceID", "TraceID"), ("span_id", "spanid", "spanID", "SpanID")
SEVERITIES = {
    "trace": 1, "debug": 5, "dbug": 5, "info": 9, "information": 9, "informational": 9, "notice": 10, "warn": 13,
    "warning": 13, "error": 17, "err": 17, "critical": 21, "crit": 21, "fatal": 21, "alert": 22, "emerg": 23,
    "emergency": 23, "panic": 24,
}  # fmt: skip
"""OpenTelemetry's severity numbers of the usual words."""
NANO_LIMIT = 1 << 63
_LEVEL_IN_LINE = re.compile(r"""["']?\b(?:level|lvl|severity)["']?\s*[=:]\s*["']?([A-Za-z]+)""", re.IGNORECASE)
_LEVEL_SEARCH = 2000
"""A level is looked for in so many characters of a line."""
_PAIR = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*("(?:\\.|[^"\\])*"|`[^`]*`)\s*(,|$)')

_classes = message_classes(
    "aiops.loki",
    {
        "Push": [("streams", 1, "*Stream")],
        "Stream": [("labels", 1, "string"), ("entries", 2, "*Entry")],
        "Entry": [("timestamp", 1, "Timestamp"), ("line", 2, "string"), ("metadata", 3, "*Pair")],
        "Timestamp": [("seconds", 1, "int64"), ("nanos", 2, "int32")],
        "Pair": [("name", 1, "string"), ("value", 2, "string")],
    },
)
Push: Any = _classes["Push"]


def decode(body: bytes, content_type: str, content_encoding: str, limits: DecodeLimits) -> Decoded:
    """One push request as log records; lines that cannot be kept are counted in ``rejected``.

    Args:
        content_encoding: of JSON: none, gzip, zstd or snappy; protobuf is always snappy, within gzip or not.

    Raises:
        UnsupportedMedia: an encoding that is none of these.
        InvalidInput: a body that is not a push request.
        LimitExceeded: more bytes than the limit after decompression.
    """
    encoding = content_encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "zstd", "snappy"):
        raise UnsupportedMedia(f'Content-Encoding "{encoding[:40]}" not supported')
    outer = decompress(body, "" if encoding == "snappy" else encoding, limits.max_bytes)
    is_json = media_type(content_type)[0] == "application/json"
    plain = outer if is_json and encoding != "snappy" else snappy(outer, limits.max_bytes)
    rejections = Rejections()
    records: list[LogRecord] = []
    for labels, entries in _json_streams(plain) if is_json else _protobuf_streams(plain):
        if len(labels) > limits.max_labels:
            rejections.add(f"a stream has {len(labels)} labels, more than {limits.max_labels}", max(1, len(entries)))
        elif not labels:
            rejections.add("error at least one label pair is required per stream", max(1, len(entries)))
        else:
            _read(labels, entries, records, rejections)
    return Decoded(Collected(logs=tuple(records)), rejections.count, rejections.text, key_of(plain))


Entry = tuple[int, str, Mapping[str, str]]
"""Time in nanoseconds, line, structured metadata."""


def _read(labels: Labels, entries: list[Entry], records: list[LogRecord], rejections: Rejections) -> None:
    known = dict(labels)
    service = known.get("service.name") or _first(known, SERVICE_LABELS)
    resource = labels_of({**known, "service.name": service})
    for time_ns, line, metadata in entries:
        if not 0 < time_ns < NANO_LIMIT:
            rejections.add("a line has no time, or one out of range")
            continue
        word = _first(metadata, LEVEL_LABELS) or _first(known, LEVEL_LABELS) or _level_in(line)
        records.append(
            LogRecord(
                time_ns,
                Untrusted(line),
                SEVERITIES.get(word.lower(), 0),
                word,
                resource,
                labels_of(metadata) if metadata else (),
                _hex(_first(metadata, TRACE_LABELS) or _first(known, TRACE_LABELS), 32),
                _hex(_first(metadata, SPAN_LABELS) or _first(known, SPAN_LABELS), 16),
            )
        )


def _protobuf_streams(plain: bytes) -> Iterator[tuple[Labels, list[Entry]]]:
    try:
        request = Push.FromString(plain)
    except DecodeError as error:
        raise InvalidInput("The body is not a Loki push request in protobuf.") from error
    for stream in request.streams:
        yield (
            parse_labels(stream.labels),
            [
                (e.timestamp.seconds * 10**9 + e.timestamp.nanos, e.line, {p.name: p.value for p in e.metadata})
                for e in stream.entries
            ],
        )


def _json_streams(plain: bytes) -> Iterator[tuple[Labels, list[Entry]]]:
    try:
        request = orjson.loads(plain)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"loghttp.PushRequest: {Untrusted(str(error)).display(200)}") from error
    streams = request.get("streams") if isinstance(request, dict) else None
    if not isinstance(streams, list):
        raise InvalidInput("loghttp.PushRequest: the body must be an object with a list of streams")
    for stream in streams:
        labels = stream.get("stream") if isinstance(stream, dict) else None
        values = stream.get("values") if isinstance(stream, dict) else None
        if not _is_text_map(labels) or not isinstance(values, list):
            raise InvalidInput("loghttp.PushRequest.Streams: a stream needs `stream`, an object of text, and `values`")
        yield labels_of(labels), [_json_entry(value) for value in values]


def _json_entry(value: Any) -> Entry:
    if isinstance(value, list) and 2 <= len(value) <= 3 and isinstance(value[0], str) and isinstance(value[1], str):
        metadata = value[2] if len(value) == 3 else {}
        if _is_text_map(metadata) and value[0].isascii() and value[0].isdigit() and len(value[0]) <= 19:
            return int(value[0]), value[1], metadata
    raise InvalidInput(
        'loghttp.PushRequest.Streams: a value must be ["<nanoseconds>", "<line>"], with an object of text after it'
    )


def parse_labels(text: str) -> Labels:
    """A stream's labels, ``{app="web", zone="a"}``. Raises ``InvalidInput``.

    >>> parse_labels('{b="2", a="x\\\\"y"}')
    (('a', 'x"y'), ('b', '2'))
    """
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise InvalidInput(f"couldn't parse labels: {Untrusted(text).display(100)}")
    pairs: dict[str, str] = {}
    at, inner = 0, inner[1:-1].strip()
    while at < len(inner):
        match = _PAIR.match(inner, at)
        if match is None:
            raise InvalidInput(f"couldn't parse labels: {Untrusted(text).display(100)}")
        pairs[match[1]] = match[2][1:-1] if match[2].startswith("`") else _unquoted(match[2])
        at = match.end()
    return labels_of(pairs)


def _unquoted(text: str) -> str:
    """A Go string literal: escapes of one letter, and of bytes and characters by number."""
    simple = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "a": "\a", "b": "\b", "f": "\f", "v": "\v"}

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU":
            return chr(int(code[1:], 16)) if int(code[1:], 16) < 0x110000 else "\ufffd"
        return simple.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", one, text[1:-1], flags=re.DOTALL)


def _is_text_map(value: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _first(known: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((known[name] for name in names if known.get(name)), "")


def _level_in(line: str) -> str:
    match = _LEVEL_IN_LINE.search(line, 0, _LEVEL_SEARCH)
    return match[1] if match and match[1].lower() in SEVERITIES else ""


def _hex(text: str, length: int) -> str:
    lower = text.lower()
    return lower if len(lower) == length and all(c in "0123456789abcdef" for c in lower) else ""
