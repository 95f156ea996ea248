"""Replies about logs and traces."""

from __future__ import annotations

from pydantic import BaseModel


class LogPatternOut(BaseModel):
    """Lines of one service that differ only where ``pattern`` has ``<*>``; times are ms, ``severity`` OpenTelemetry's.

    ``first_ms`` and ``last_ms`` are within the window, ``known_ms`` is when the template was first seen at all.
    """

    template_id: str
    service: str
    pattern: str
    count: int
    severity: int
    first_ms: int
    last_ms: int
    known_ms: int | None
    example: str


class LogPatternsOut(BaseModel):
    """Most frequent first; ``more`` tells whether there are others."""

    start_ms: int
    end_ms: int
    patterns: list[LogPatternOut]
    more: bool


class EdgeOut(BaseModel):
    """Calls from one service to another in the window; durations in ms."""

    caller: str
    callee: str
    count: int
    errors: int
    p50_ms: float
    p95_ms: float
    wire_p50_ms: float | None
    first_ms: int
    last_ms: int


class ServiceGraphOut(BaseModel):
    start_ms: int
    end_ms: int
    services: list[str]
    edges: list[EdgeOut]
