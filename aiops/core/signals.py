"""Logs, spans and changes. Times are int nanoseconds (OpenTelemetry) or milliseconds as named."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiops.core.series import Labels
from aiops.core.untrusted import Untrusted


def label(pairs: Labels, name: str, default: str = "") -> str:
    """The value of one label or attribute."""
    for key, value in pairs:
        if key == name:
            return value
    return default


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log line. ``severity_number`` follows OpenTelemetry (9 info, 13 warn, 17 error, 21 fatal)."""

    time_unix_nano: int
    body: Untrusted
    severity_number: int = 0
    severity_text: str = ""
    resource: Labels = ()
    attributes: Labels = ()
    trace_id: str = ""
    span_id: str = ""

    @property
    def service(self) -> str:
        return label(self.resource, "service.name")


@dataclass(frozen=True, slots=True)
class Span:
    """One span; ids are lower-case hex, ``kind`` and ``status`` OpenTelemetry's lower-case words."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: Untrusted
    kind: str
    start_unix_nano: int
    end_unix_nano: int
    status: str = "unset"
    resource: Labels = ()
    attributes: Labels = ()

    @property
    def service(self) -> str:
        return label(self.resource, "service.name")

    @property
    def duration_ms(self) -> float:
        return (self.end_unix_nano - self.start_unix_nano) / 1e6


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """A deploy, configuration change, feature flag or platform event."""

    time_ms: int
    kind: str
    service: str
    title: Untrusted
    author: str = ""
    link: str = ""
    environment: str = ""
    attributes: Labels = ()


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A bounded read of logs: half-open ``[start_ms, end_ms)``, newest first, ``limit`` rows at most."""

    start_ms: int
    end_ms: int
    service: str = ""
    contains: str = ""
    min_severity: int = 0
    trace_id: str = ""
    limit: int = 200


@dataclass(frozen=True, slots=True)
class LogPattern:
    """Lines of one service that share a masked form."""

    service: str
    pattern: Untrusted
    count: int
    severity_number: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class EdgeStats:
    """Spans between a caller and a callee in a window; durations in ms."""

    caller: str
    callee: str
    count: int
    errors: int
    p50_ms: float
    p95_ms: float
    wire_p50_ms: float = float("nan")
    """Client span minus server span: the time on the wire."""


@dataclass(frozen=True, slots=True)
class ServiceGraph:
    """Who calls whom. ``edges`` are (caller, callee)."""

    services: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    stats: tuple[EdgeStats, ...] = field(default=())
