"""Grafana Tempo, whose spans are found in place by TraceQL search; nothing is copied."""

from __future__ import annotations

import json
import re
from typing import Any

from aiops.core.errors import Forbidden, PermanentError
from aiops.core.principal import Principal
from aiops.core.series import labels_of
from aiops.core.signals import Span
from aiops.core.untrusted import Untrusted
from connectors.in_place import InPlaceOptions, InPlaceSource

MOST_TRACES = 100
SPANS_A_TRACE = 20
_ATTRIBUTE = re.compile(r"[a-zA-Z_][\w.]*")


class TempoOptions(InPlaceOptions):
    """``tenant`` is sent as ``X-Scope-OrgID``."""


class Tempo(InPlaceSource[TempoOptions]):
    """Questions and explanations read its spans where ``agent.traces_source`` names it."""

    Options = TempoOptions

    def spans(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 1000
    ) -> list[Span]:
        answer = self._http.get(
            "/api/search",
            params={
                "q": self.traceql(principal, service),
                "start": str(start_ms // 1000),
                "end": str(-(-end_ms // 1000)),
                "limit": str(MOST_TRACES),
                "spss": str(SPANS_A_TRACE),
            },
        ).json()
        try:
            found = [
                _span(str(trace["traceID"]), span)
                for trace in answer.get("traces") or ()
                for group in trace.get("spanSets") or [trace.get("spanSet") or {}]
                for span in group.get("spans") or ()
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PermanentError(f"{self.context.name} did not answer as Tempo does.") from error
        inside = (s for s in found if start_ms <= s.start_unix_nano // 1_000_000 < end_ms)
        return sorted(inside, key=lambda s: -s.duration_ms)[:limit]

    def traceql(self, principal: Principal, service: str) -> str:
        """The query; every text is a quoted string in it. Raises ``Forbidden`` for a name it cannot hold."""
        conditions = [f"resource.service.name = {json.dumps(service)}"] if service else []
        for matcher in principal.scope or ():
            if not _ATTRIBUTE.fullmatch(matcher.name):
                raise Forbidden(f"Tempo cannot hold the attribute '{matcher.name}' of your scope.")
            place = f"resource.{matcher.name}"
            conditions += [f"{place} {matcher.op.value} {json.dumps(matcher.value)}", f"{place} != nil"]
        shown = "select(status, kind, name, resource.service.name)"
        return "{ " + " && ".join(conditions) + " } | " + shown if conditions else "{ } | " + shown


def _span(trace_id: str, span: dict[str, Any]) -> Span:
    """A span of Tempo's search answer; its attributes are OpenTelemetry's key and value pairs."""
    attributes = {str(a["key"]): _value(a.get("value") or {}) for a in span.get("attributes") or ()}
    start = int(span["startTimeUnixNano"])
    return Span(
        trace_id.lower().zfill(32), str(span["spanID"]).lower().zfill(16), "",
        Untrusted(str(span.get("name") or attributes.get("name", ""))), attributes.get("kind", "internal").lower(),
        start, start + int(span.get("durationNanos") or 0), attributes.get("status", "unset").lower(),
        labels_of({"service.name": attributes.get("service.name") or attributes.get("resource.service.name", "")}),
        labels_of(attributes),
    )  # fmt: skip


def _value(value: dict[str, Any]) -> str:
    return str(next(iter(value.values()), ""))
