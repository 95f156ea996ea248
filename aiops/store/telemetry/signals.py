"""Logs, spans and changes: rows in, bounded reads out. Text is stored raw and handed out as ``Untrusted``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import duckdb
import numpy as np
import orjson

from aiops.core.principal import Principal
from aiops.core.series import Labels
from aiops.core.signals import ChangeEvent, LogQuery, LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.labels import encodable, predicate
from aiops.store.telemetry.log_templates import LogTemplates
from aiops.store.telemetry.patterns import Lines
from aiops.store.telemetry.schema import DAY_MS, Partitions

DAY_NS = DAY_MS * 1_000_000
ALIASES = {"job": "service.name", "service": "service.name", "instance": "service.instance.id"}
"""Metric labels of a scope to the resource attribute that carries the same thing."""
FETCH_ROWS = 2000
LINES_CAP = 500_000
Listener = Callable[[Sequence[LogRecord], Sequence[Span]], None]
"""Told of rows once they are committed, each once; on the writer thread, so it must be quick and never raise."""


class Signals:
    """Log, span and change tables of one database. Writing methods are for the writer thread only."""

    def __init__(self, database: TelemetryDatabase, partitions: Partitions) -> None:
        self._database = database
        self._partitions = partitions
        self.templates = LogTemplates(database.clock)
        self.listeners: list[Listener] = []
        self.log_count = 0
        self.span_count = 0

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        self.templates.load(con)
        self.log_count = self._count(con, "logs")
        self.span_count = self._count(con, "spans")

    def _count(self, con: duckdb.DuckDBPyConnection, kind: str) -> int:
        rows = (
            con.execute(f"SELECT count(*) FROM {name}").fetchone()  # noqa: S608
            for name in self._partitions.between(kind, -(1 << 62), 1 << 62)
        )
        return sum(int(row[0]) for row in rows if row)

    # ------------------------------------------------------------------ writing

    def append_logs(self, tx: Transaction, records: Sequence[LogRecord]) -> None:
        """Equal lines are kept: a body sent twice is told by its key, not by its lines."""
        records = self.templates.mine(tx, records)
        for day, rows in _by_day(records, lambda r: r.time_unix_nano):
            self._insert(
                tx,
                "logs",
                day,
                {
                    "ns": np.array([r.time_unix_nano for r in rows], np.int64),
                    "severity": np.array([r.severity_number for r in rows], np.int32),
                    "severity_text": _strings(r.severity_text for r in rows),
                    "service": _strings(r.service for r in rows),
                    "body": _strings(r.body.raw for r in rows),
                    "resource": _strings(dump_labels(r.resource) for r in rows),
                    "attributes": _strings(dump_labels(r.attributes) for r in rows),
                    "trace_id": _strings(r.trace_id for r in rows),
                    "span_id": _strings(r.span_id for r in rows),
                    "template_id": _strings(r.template_id for r in rows),
                },
            )

        def committed() -> None:
            self.log_count += len(records)
            self._tell(records, ())

        tx.on_commit.append(committed)

    def append_spans(self, tx: Transaction, spans: Sequence[Span]) -> list[bool]:
        """Which spans were new; a span is known by (trace_id, span_id)."""
        new = [False] * len(spans)
        seen: set[tuple[str, str]] = set()
        order = {id(span): i for i, span in enumerate(spans)}
        for day, rows in _by_day(spans, lambda s: s.start_unix_nano):
            seen |= self._known(tx, rows)
            fresh: list[Span] = []
            for span in rows:
                if (span.trace_id, span.span_id) not in seen:
                    seen.add((span.trace_id, span.span_id))
                    fresh.append(span)
                    new[order[id(span)]] = True
            if not fresh:
                continue
            self._insert(
                tx,
                "spans",
                day,
                {
                    "trace_id": _strings(s.trace_id for s in fresh),
                    "span_id": _strings(s.span_id for s in fresh),
                    "parent_span_id": _strings(s.parent_span_id for s in fresh),
                    "name": _strings(s.name.raw for s in fresh),
                    "kind": _strings(s.kind for s in fresh),
                    "start_ns": np.array([s.start_unix_nano for s in fresh], np.int64),
                    "end_ns": np.array([s.end_unix_nano for s in fresh], np.int64),
                    "status": _strings(s.status for s in fresh),
                    "service": _strings(s.service for s in fresh),
                    "resource": _strings(dump_labels(s.resource) for s in fresh),
                    "attributes": _strings(dump_labels(s.attributes) for s in fresh),
                },
            )

        def committed() -> None:
            self.span_count += sum(new)
            self._tell((), [span for span, fresh in zip(spans, new, strict=True) if fresh])

        tx.on_commit.append(committed)
        return new

    def _tell(self, logs: Sequence[LogRecord], spans: Sequence[Span]) -> None:
        for listener in self.listeners:
            listener(logs, spans)

    def _known(self, tx: Transaction, spans: Sequence[Span]) -> set[tuple[str, str]]:
        starts = [s.start_unix_nano for s in spans]
        tx.con.register("maybe", {"t": _strings(s.trace_id for s in spans), "s": _strings(s.span_id for s in spans)})
        known: set[tuple[str, str]] = set()
        for name in self._partitions.between("spans", min(starts) // DAY_NS, max(starts) // DAY_NS):
            known.update(
                tx.con.execute(
                    f"SELECT x.trace_id, x.span_id FROM {name} x JOIN maybe m ON x.trace_id = m.t AND x.span_id = m.s "  # noqa: S608
                    "WHERE x.start_ns BETWEEN ? AND ?",
                    [min(starts), max(starts)],
                ).fetchall()
            )
        tx.con.unregister("maybe")
        return known

    def append_changes(self, tx: Transaction, changes: Sequence[ChangeEvent]) -> None:
        rows = [
            (
                c.time_ms,
                *map(encodable, (c.kind, c.service, c.title.raw, c.author, c.link, c.environment)),
                dump_labels(c.attributes),
            )
            for c in changes
        ]
        tx.con.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _insert(self, tx: Transaction, kind: str, day: int, columns: dict[str, Any]) -> None:
        name = self._partitions.ensure(tx.con, kind, day)
        tx.con.register("rows", columns)
        tx.con.execute(f"INSERT INTO {name} SELECT {', '.join(columns)} FROM rows")  # noqa: S608
        tx.con.unregister("rows")
        tx.on_commit.append(lambda: self._partitions.added(kind, day))

    def drop_before(self, tx: Transaction, logs_ms: int, spans_ms: int, changes_ms: int) -> int:
        """Drop whole days of logs and spans that ended before their cutoff, and changes; returns tables dropped."""
        gone = [
            (kind, n)
            for kind, cutoff_ms in (("logs", logs_ms), ("spans", spans_ms))
            for n in self._partitions.numbers(kind)
            if (n + 1) * DAY_MS <= cutoff_ms
        ]
        for kind, n in gone:
            tx.con.execute(f"DROP TABLE {self._partitions.ensure(tx.con, kind, n)}")
            tx.on_commit.append(partial(self._partitions.dropped, kind, n))
        tx.con.execute("DELETE FROM changes WHERE time_ms < ?", [changes_ms])
        self.templates.drop_before(tx, logs_ms)
        if gone:
            tx.on_commit.append(self._recount)
        return len(gone)

    def _recount(self) -> None:
        with self._database.read() as con:
            self.load(con)

    # ------------------------------------------------------------------ reading

    def logs(self, query: LogQuery, principal: Principal) -> list[LogRecord]:
        where, values = ["ns >= ?", "ns < ?"], [query.start_ms * 1_000_000, query.end_ms * 1_000_000]
        parameters: list[Any] = list(values)
        for condition, value in (
            ("service = ?", query.service),
            ("contains(lower(body), lower(?))", query.contains),
            ("severity >= ?", query.min_severity),
            ("trace_id = ?", query.trace_id.lower()),
        ):
            if value:
                where.append(condition)
                parameters.append(value)
        found: list[LogRecord] = []
        days = self._partitions.between("logs", query.start_ms // DAY_MS, max(query.end_ms - 1, 0) // DAY_MS)
        visible = in_scope(principal)
        limit = "" if principal.scope else f" LIMIT {int(query.limit)}"
        with self._database.read() as con:
            for name in reversed(days):
                con.execute(
                    "SELECT ns, body, severity, severity_text, resource, attributes, trace_id, span_id, template_id "  # noqa: S608
                    f"FROM {name} WHERE {' AND '.join(where)} ORDER BY ns DESC{limit}",
                    parameters,
                )
                for row in _rows(con):
                    resource, attributes = load_labels(row[4]), load_labels(row[5])
                    if visible(resource, attributes):
                        known = self.templates.root(row[8])
                        template = known.template.id if known else row[8]
                        found.append(
                            LogRecord(
                                row[0],
                                Untrusted(row[1]),
                                row[2],
                                row[3],
                                resource,
                                attributes,
                                row[6],
                                row[7],
                                template,
                            )
                        )
                    if len(found) >= query.limit:
                        return found
        return found

    def log_lines(self, start_ms: int, end_ms: int, principal: Principal, service: str) -> Iterable[Lines]:
        """Lines of one template of a half-open window, counted; lines without a template by their text.

        The most frequent :data:`LINES_CAP` groups of each day.
        """
        visible = in_scope(principal)
        days = self._partitions.between("logs", start_ms // DAY_MS, max(end_ms - 1, 0) // DAY_MS)
        who = "resource, attributes" if principal.scope else "'{}', '{}'"
        with self._database.read() as con:
            for name in days:
                con.execute(
                    "SELECT service, template_id, CASE WHEN template_id = '' THEN body ELSE '' END AS text, count(*), "  # noqa: S608
                    f"max(severity), min(ns), max(ns), arg_min(body, ns), arg_min(resource, ns), {who} FROM {name} "
                    "WHERE ns >= ? AND ns < ? AND (? = '' OR service = ?) GROUP BY service, template_id, text"
                    f"{', resource, attributes' if principal.scope else ''} ORDER BY 4 DESC LIMIT {LINES_CAP}",
                    [start_ms * 1_000_000, end_ms * 1_000_000, service, service],
                )
                for owner, template, text, count, severity, first, last, body, origin, resource, attributes in _rows(
                    con
                ):
                    if visible(load_labels(resource), load_labels(attributes)):
                        yield Lines(owner, text, count, severity, first, last, template, body, load_labels(origin))

    def spans(self, start_ms: int, end_ms: int, principal: Principal, service: str, limit: int) -> list[Span]:
        visible = in_scope(principal)
        days = self._partitions.between("spans", start_ms // DAY_MS, max(end_ms - 1, 0) // DAY_MS)
        rows = "" if principal.scope else f" LIMIT {int(limit)}"
        found: list[Span] = []
        with self._database.read() as con:
            for name in reversed(days):
                con.execute(
                    "SELECT trace_id, span_id, parent_span_id, name, kind, start_ns, end_ns, status, resource, "  # noqa: S608
                    f"attributes FROM {name} WHERE start_ns >= ? AND start_ns < ? AND (? = '' OR service = ?) "
                    f"ORDER BY start_ns DESC{rows}",
                    [start_ms * 1_000_000, end_ms * 1_000_000, service, service],
                )
                for row in _rows(con):
                    resource, attributes = load_labels(row[8]), load_labels(row[9])
                    if visible(resource, attributes):
                        found.append(_span(row, resource, attributes))
                    if len(found) >= limit:
                        return found
        return found

    def changes(self, start_ms: int, end_ms: int, principal: Principal, service: str) -> list[ChangeEvent]:
        visible = in_scope(principal)
        with self._database.read() as con:
            rows = con.execute(
                "SELECT time_ms, kind, service, title, author, link, environment, attributes FROM changes "
                "WHERE time_ms >= ? AND time_ms < ? AND (? = '' OR service = ?) ORDER BY time_ms",
                [start_ms, end_ms, service, service],
            ).fetchall()
        found = [
            ChangeEvent(time_ms, kind, owner, Untrusted(title), author, link, environment, load_labels(attributes))
            for time_ms, kind, owner, title, author, link, environment, attributes in rows
        ]
        return [c for c in found if visible((("service.name", c.service),), c.attributes)]


def in_scope(principal: Principal) -> Callable[[Labels, Labels], bool]:
    """Whether a row's resource or other attributes satisfy every matcher; a lacking one is invisible.

    A scope is written in metric labels, where dots are underscores: ``k8s_namespace_name`` finds
    ``k8s.namespace.name``, and ``job`` finds ``service.name``.
    """
    checks = [(m.name, predicate(m)) for m in principal.scope or ()]
    if not checks:
        return lambda _resource, _attributes: True

    def visible(resource: Labels, attributes: Labels) -> bool:
        merged = {k.replace(".", "_"): v for k, v in (*attributes, *resource)}
        merged |= dict(attributes) | dict(resource)
        for name, matches in checks:
            value = merged.get(name) or merged.get(ALIASES.get(name, name), "")
            if not value or not matches(value):
                return False
        return True

    return visible


def _span(row: tuple[Any, ...], resource: Labels, attributes: Labels) -> Span:
    trace_id, span_id, parent, name, kind, start, end, status = row[:8]
    return Span(trace_id, span_id, parent, Untrusted(name), kind, start, end, status, resource, attributes)


def _rows(con: duckdb.DuckDBPyConnection) -> Iterable[tuple[Any, ...]]:
    while rows := con.fetchmany(FETCH_ROWS):
        yield from rows


def _by_day(items: Sequence[Any], time_ns: Callable[[Any], int]) -> list[tuple[int, list[Any]]]:
    days: dict[int, list[Any]] = {}
    for item in items:
        days.setdefault(time_ns(item) // DAY_NS, []).append(item)
    return sorted(days.items())


def _strings(values: Iterable[str]) -> Any:
    items = [encodable(value) for value in values]
    array = np.empty(len(items), object)
    array[:] = items
    return array


def dump_labels(labels: Labels) -> str:
    return orjson.dumps({encodable(k): encodable(v) for k, v in labels}).decode() if labels else "{}"


def load_labels(text: str) -> Labels:
    return tuple(orjson.loads(text).items()) if text != "{}" else ()
