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


WILDCARD = "<*>"
"""What a log template has where its lines differ."""
OTHER_TEMPLATE = "other"
"""The id of lines past the cap on templates."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log line. ``severity_number`` follows OpenTelemetry (9 info, 13 warn, 17 error, 21 fatal).

    ``template_id`` names its :class:`LogTemplate`; empty where it was never mined.
    """

    time_unix_nano: int
    body: Untrusted
    severity_number: int = 0
    severity_text: str = ""
    resource: Labels = ()
    attributes: Labels = ()
    trace_id: str = ""
    span_id: str = ""
    template_id: str = ""

    @property
    def service(self) -> str:
        return label(self.resource, "service.name")


@dataclass(frozen=True, slots=True)
class LogTemplate:
    """Lines of one service that differ only where ``text`` has ``<*>``.

    Attributes:
        id: of the content at first sight; stays as the text widens.
        key: the form under which lines are matched; for the miner.
        holes: how many words of the key were found to vary, apart from those that are values by shape.
        merged_into: the id of the template that took this one in, or empty.
    """

    id: str
    service: str
    text: Untrusted
    key: str
    holes: int = 0
    merged_into: str = ""
    example: Untrusted = field(default_factory=lambda: Untrusted(""))


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
    trace_state: str = ""
    """W3C ``tracestate``, read at ingest for the sampling probability; not stored."""

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
    """Lines of one service that share a template, or a masked form where they have none.

    ``first_ms`` and ``last_ms`` are within what was asked for; ``known_ms`` is when the template was seen first of
    all, 0 where that is not known. ``example`` is the first line of what was asked for, ``resource`` its origin.
    """

    service: str
    pattern: Untrusted
    count: int
    severity_number: int
    first_ms: int
    last_ms: int
    template_id: str = ""
    example: Untrusted = field(default_factory=lambda: Untrusted(""))
    known_ms: int = 0
    resource: Labels = ()


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
    first_ms: int = 0
    last_ms: int = 0
    """When the first and the last call of the window began, by the callee's clock."""


@dataclass(frozen=True, slots=True)
class ServiceGraph:
    """Who calls whom. ``edges`` are (caller, callee)."""

    services: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    stats: tuple[EdgeStats, ...] = field(default=())
