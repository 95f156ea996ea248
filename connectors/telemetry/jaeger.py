"""Jaeger, or a server that answers its query API (Tempo with ``tempo-query``, VictoriaTraces), asked in place."""

from __future__ import annotations

from typing import Any

from aiops.core.errors import Forbidden, PermanentError
from aiops.core.principal import Principal
from aiops.core.series import labels_of
from aiops.core.signals import Span
from aiops.core.untrusted import Untrusted
from connectors.in_place import InPlaceOptions, InPlaceSource

MOST_TRACES = 100
MOST_SERVICES = 10
"""Services asked where no service is named; the API gives traces by service only."""


class JaegerOptions(InPlaceOptions):
    """``url`` is the query service's, such as ``http://jaeger:16686``."""


class Jaeger(InPlaceSource[JaegerOptions]):
    """Questions and explanations read its spans where ``agent.traces_source`` names it."""

    Options = JaegerOptions

    def spans(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 1000
    ) -> list[Span]:
        if principal.scope is not None:
            raise Forbidden("Jaeger's API cannot enforce a label scope.")
        names = [service] if service else self._services()
        found = {(s.trace_id, s.span_id): s for name in names for s in self._of(name, start_ms, end_ms)}
        inside = (s for s in found.values() if start_ms <= s.start_unix_nano // 1_000_000 < end_ms)
        kept = (s for s in inside if not service or s.service == service)
        return sorted(kept, key=lambda s: -s.duration_ms)[:limit]

    def _services(self) -> list[str]:
        return sorted(str(name) for name in self._data("/api/services", {}))[:MOST_SERVICES]

    def _of(self, service: str, start_ms: int, end_ms: int) -> list[Span]:
        params = {
            "service": service, "start": str(start_ms * 1000), "end": str(end_ms * 1000), "limit": str(MOST_TRACES),
        }  # fmt: skip
        try:
            return [
                _span(span, trace["processes"][span["processID"]])
                for trace in self._data("/api/traces", params)
                for span in trace["spans"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise PermanentError(f"{self.context.name} did not answer as Jaeger does.") from error

    def _data(self, path: str, params: dict[str, str]) -> list[Any]:
        answer = self._http.get(path, params=params).json()
        if not isinstance(answer, dict) or not isinstance(answer.get("data") or [], list):
            raise PermanentError(f"{self.context.name} did not answer as Jaeger does.")
        return list(answer.get("data") or [])


def _span(span: dict[str, Any], process: dict[str, Any]) -> Span:
    """A span of Jaeger's JSON; times there are microseconds."""
    tags = {str(t["key"]): str(t["value"]).lower() for t in span.get("tags") or ()}
    parent = next((r["spanID"] for r in span.get("references") or () if r.get("refType") == "CHILD_OF"), "")
    start = int(span["startTime"]) * 1000
    failed = tags.get("error") == "true" or tags.get("otel.status_code") == "error"
    resource = {str(t["key"]): str(t["value"]) for t in process.get("tags") or ()}
    return Span(
        str(span["traceID"]).lower().zfill(32), str(span["spanID"]).lower().zfill(16),
        str(parent).lower().zfill(16) if parent else "", Untrusted(str(span["operationName"])),
        tags.get("span.kind", "internal"), start, start + int(span["duration"]) * 1000,
        "error" if failed else "unset", labels_of({**resource, "service.name": str(process["serviceName"])}),
        labels_of(tags),
    )  # fmt: skip
