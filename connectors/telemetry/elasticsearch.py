"""Elasticsearch or OpenSearch, whose log documents are asked in place by ``_search``; nothing is copied."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import Field, SecretStr

from aiops.core.errors import Forbidden, PermanentError
from aiops.core.ports import Collected, PluginContext, PluginOptions, TelemetrySource
from aiops.core.principal import Principal
from aiops.core.series import MatchOp, labels_of
from aiops.core.signals import LogQuery, LogRecord
from aiops.core.untrusted import Untrusted
from connectors.http import client

MOST_LINES = 5000
LEVELS = {
    "trace": 1, "debug": 5, "info": 9, "notice": 9, "warn": 13, "warning": 13, "error": 17, "err": 17, "critical": 21,
    "fatal": 21, "emerg": 21, "alert": 21,
}  # fmt: skip


class ElasticsearchOptions(PluginOptions):
    """Field names are those of the Elastic Common Schema unless given; ``index`` may hold ``*`` and commas."""

    url: str
    index: str = Field("logs-*", pattern=r"^[\w.*,-]+$")
    api_key: SecretStr = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    time_field: str = "@timestamp"
    message_field: str = "message"
    service_field: str = "service.name"
    level_field: str = "log.level"
    trace_field: str = "trace.id"
    timeout_s: float = Field(15.0, gt=0, le=120)


class Elasticsearch(TelemetrySource[ElasticsearchOptions]):
    """Questions and explanations read its lines where ``agent.logs_source`` names it."""

    Options = ElasticsearchOptions
    interval_s = 0.0

    def __init__(self, options: ElasticsearchOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        key = options.api_key.get_secret_value()
        self._http = client(
            context.name,
            options.url.rstrip("/"),
            headers={"Authorization": SecretStr(f"ApiKey {key}")} if key else {},
            auth=(options.username, options.password) if options.username else None,
            timeout_s=options.timeout_s,
        )

    def poll(self, cursor: str) -> Collected:
        return Collected(cursor=cursor)

    def close(self) -> None:
        self._http.close()

    def logs(self, query: LogQuery, principal: Principal) -> list[LogRecord]:
        body = self.search(query, principal)
        answer = self._http.request(
            "POST", f"/{self.options.index}/_search", json=body, params={"ignore_unavailable": "true"}, idempotent=True
        ).json()
        try:
            return [self._record(hit["_source"], hit["sort"][0]) for hit in answer["hits"]["hits"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise PermanentError(f"{self.context.name} did not answer as Elasticsearch does.") from error

    def search(self, query: LogQuery, principal: Principal) -> dict[str, Any]:
        """The request's body. Raises ``Forbidden`` for a scope by regular expressions, which read otherwise there."""
        options = self.options
        start, end = (datetime.fromtimestamp(t / 1000, UTC).isoformat() for t in (query.start_ms, query.end_ms))
        must: list[dict[str, Any]] = [{"range": {options.time_field: {"gte": start, "lt": end}}}]
        must_not: list[dict[str, Any]] = []
        for matcher in principal.scope or ():
            term = {"term": {matcher.name: matcher.value}}
            if matcher.op is MatchOp.EQUAL:
                must.append(term)
            elif matcher.op is MatchOp.NOT_EQUAL:
                must.append({"exists": {"field": matcher.name}})
                must_not.append(term)
            else:
                raise Forbidden("Elasticsearch cannot enforce a scope by regular expressions.")
        if query.service:
            must.append({"term": {options.service_field: query.service}})
        if query.trace_id:
            must.append({"term": {options.trace_field: query.trace_id}})
        if query.contains:
            must.append({"match_phrase": {options.message_field: query.contains}})
        if query.min_severity > 9:
            names = [word for word, number in LEVELS.items() if number >= query.min_severity]
            cased = [form for name in names for form in (name, name.upper(), name.capitalize())]
            must.append({"terms": {options.level_field: cased}})
        return {
            "size": min(query.limit, MOST_LINES),
            "track_total_hits": False,
            "sort": [{options.time_field: {"order": "desc", "format": "epoch_millis", "numeric_type": "date"}}],
            "query": {"bool": {"filter": must, "must_not": must_not}},
        }

    def _record(self, source: dict[str, Any], sort: Any) -> LogRecord:
        options = self.options
        service, level = _field(source, options.service_field), _field(source, options.level_field)
        return LogRecord(
            int(sort) * 1_000_000,
            Untrusted(_field(source, options.message_field)),
            LEVELS.get(level.lower(), 0),
            level.upper(),
            labels_of({"service.name": service}),
            trace_id=_field(source, options.trace_field).lower(),
        )


def _field(source: dict[str, Any], name: str) -> str:
    """A field's text, written with dots or nested; empty where it is not there."""
    found: Any = source.get(name)
    if found is None:
        found = source
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    return "" if found is None else str(found)
