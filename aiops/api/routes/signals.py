"""What logs and traces say in short: templates of lines, and who calls whom."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Query

from aiops.api.auth import Reader
from aiops.api.schemas_signals import EdgeOut, LogPatternOut, LogPatternsOut, ServiceGraphOut
from aiops.api.services import Services
from aiops.core.errors import InvalidInput

HOUR_MS, LONGEST_MS = 3_600_000, 31 * 86_400_000
TEXT_CAP = 500
READ = 5000
Millis = Annotated[int, Query(ge=0, le=1 << 50)]
Service = Annotated[str, Query(max_length=200)]


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["signals"])
    store = services.store

    @routes.get("/api/v1/logs/patterns", response_model=LogPatternsOut)
    def log_patterns(
        caller: Reader,
        start_ms: Millis | None = None,
        end_ms: Millis | None = None,
        service: Service = "",
        min_severity: Annotated[int, Query(ge=0, le=24)] = 0,
        new: Annotated[bool, Query(description="only templates first seen in the window")] = False,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> LogPatternsOut:
        """Templates of log lines, by default of the last hour."""
        start, end = _window(start_ms, end_ms, services.clock())
        found = [
            p
            for p in store.log_patterns(start, end, caller, service, READ)
            if p.severity_number >= min_severity and (not new or p.known_ms >= start)
        ]
        shown = [
            LogPatternOut(
                template_id=p.template_id,
                service=p.service,
                pattern=p.pattern.display(TEXT_CAP),
                count=p.count,
                severity=p.severity_number,
                first_ms=p.first_ms,
                last_ms=p.last_ms,
                known_ms=p.known_ms or None,
                example=p.example.display(TEXT_CAP),
            )
            for p in found[:limit]
        ]
        return LogPatternsOut(start_ms=start, end_ms=end, patterns=shown, more=len(found) > limit)

    @routes.get("/api/v1/service-graph", response_model=ServiceGraphOut)
    def service_graph(caller: Reader, start_ms: Millis | None = None, end_ms: Millis | None = None) -> ServiceGraphOut:
        """Who calls whom by the spans of a window, by default of the last hour."""
        start, end = _window(start_ms, end_ms, services.clock())
        graph = store.service_graph(start, end, caller)
        edges = [
            EdgeOut(
                caller=e.caller,
                callee=e.callee,
                count=e.count,
                errors=e.errors,
                p50_ms=e.p50_ms,
                p95_ms=e.p95_ms,
                wire_p50_ms=e.wire_p50_ms if math.isfinite(e.wire_p50_ms) else None,
                first_ms=e.first_ms,
                last_ms=e.last_ms,
            )
            for e in graph.stats
        ]
        return ServiceGraphOut(start_ms=start, end_ms=end, services=list(graph.services), edges=edges)

    return routes


def _window(start_ms: int | None, end_ms: int | None, now_ms: int) -> tuple[int, int]:
    end = now_ms if end_ms is None else end_ms
    start = end - HOUR_MS if start_ms is None else start_ms
    if start >= end:
        raise InvalidInput("start_ms must lie before end_ms.")
    if end - start > LONGEST_MS:
        raise InvalidInput("A window is at most 31 days long.", hint="Ask for a shorter one.")
    return start, end
