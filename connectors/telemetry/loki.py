"""Loki, asked in place by LogQL over its HTTP API; nothing is copied."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import field_validator

from aiops.core.errors import Forbidden, PermanentError
from aiops.core.principal import Principal
from aiops.core.series import labels_of
from aiops.core.signals import LogQuery, LogRecord
from aiops.core.untrusted import Untrusted
from connectors.in_place import InPlaceOptions, InPlaceSource

MOST_LINES = 5000
SEVERITIES = ((21, "FATAL", "fatal|critical|emerg"), (17, "ERROR", "err|error"), (13, "WARN", "warn|warning"))
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class LokiOptions(InPlaceOptions):
    """``service_label`` is the stream label that names a service, ``level_label`` the one that holds the level.

    ``tenant`` is sent as ``X-Scope-OrgID``; ``base`` are matchers that every look-up has, such as ``cluster="eu"``.
    """

    service_label: str = "service_name"
    level_label: str = "level"
    base: str = ""

    @field_validator("service_label", "level_label")
    @classmethod
    def is_label(cls, value: str) -> str:
        if not _LABEL.fullmatch(value):
            raise ValueError(f"'{value}' is not a label name")
        return value


class Loki(InPlaceSource[LokiOptions]):
    """Questions and explanations read its lines where ``agent.logs_source`` names it."""

    Options = LokiOptions

    def logs(self, query: LogQuery, principal: Principal) -> list[LogRecord]:
        limit = min(query.limit, MOST_LINES)
        answer = self._http.get(
            "/loki/api/v1/query_range",
            params={
                "query": self.logql(query, principal),
                "start": str(query.start_ms * 1_000_000),
                "end": str(query.end_ms * 1_000_000),
                "limit": str(limit),
                "direction": "backward",
            },
        ).json()
        try:
            found = [
                self._record(stream["stream"], int(value[0]), str(value[1]))
                for stream in answer["data"]["result"]
                for value in stream["values"]
            ]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise PermanentError(f"{self.context.name} did not answer as Loki does.") from error
        return sorted(found, key=lambda r: -r.time_unix_nano)[:limit]

    def logql(self, query: LogQuery, principal: Principal) -> str:
        """The query; every text is a quoted string in it. Raises ``Forbidden`` for a label Loki cannot have."""
        matchers = [self.options.base] if self.options.base else []
        for matcher in principal.scope or ():
            if not _LABEL.fullmatch(matcher.name):
                raise Forbidden(f"Loki cannot hold the label '{matcher.name}' of your scope.")
            matchers += [f"{matcher.name}{matcher.op.value}{json.dumps(matcher.value)}", f'{matcher.name}!=""']
        if query.service:
            matchers.append(f"{self.options.service_label}={json.dumps(query.service)}")
        if not matchers:
            matchers.append(f'{self.options.service_label}=~".+"')
        text = "{" + ", ".join(matchers) + "}"
        if query.contains:
            text += f" |= {json.dumps(query.contains)}"
        if query.trace_id:
            text += f" |= {json.dumps(query.trace_id)}"
        if query.min_severity > 9:
            names = "|".join(words for number, _, words in SEVERITIES if number >= min(query.min_severity, 21))
            text += f' | detected_level=~"(?i)({names})" or {self.options.level_label}=~"(?i)({names})"'
        return text

    def _record(self, labels: dict[str, Any], time_ns: int, line: str) -> LogRecord:
        pairs = {str(k): str(v) for k, v in labels.items()}
        service = pairs.get(self.options.service_label, "")
        level = (pairs.get(self.options.level_label) or pairs.get("detected_level") or "").lower()
        number, name = next(
            ((n, t) for n, t, words in SEVERITIES if level in words.split("|")), (9 if level else 0, "")
        )
        return LogRecord(
            time_ns, Untrusted(line), number, name or level.upper(), labels_of({**pairs, "service.name": service})
        )
