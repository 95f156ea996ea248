from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from aiops.core.ports import Collected
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import Labels, Matcher, MatchOp, SampleBlock
from aiops.core.signals import ChangeEvent, LogQuery, LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.store.telemetry.patterns import mask
from aiops.store.telemetry.store import AppendReport, TelemetryStore
from tests.unit.store.telemetry.conftest import NOW, Hands

HOUR = 3_600_000
TEAM_A = Principal("key:a", Role.VIEWER, (Matcher("team", MatchOp.EQUAL, "a"),))


def resource(service: str, **more: str) -> Labels:
    return (("service.name", service), *more.items())


def line(text: str, at_ms: int = NOW, severity: int = 9, service: str = "api", **more: str) -> LogRecord:
    return LogRecord(at_ms * 1_000_000, Untrusted(text), severity, "INFO", resource(service, **more), (("k", "v"),))


def span(
    span_id: str, parent: str, service: str, kind: str, start_ms: float, took_ms: float, status: str = "unset"
) -> Span:
    start = int((NOW + start_ms) * 1_000_000)
    end = start + int(took_ms * 1_000_000)
    return Span("t" * 32, span_id, parent, Untrusted("GET /"), kind, start, end, status, resource(service))


def test_logs_keep_their_text_and_come_newest_first(opened: Callable[..., TelemetryStore]) -> None:
    store = opened()
    odd = "nul \x00, emoji \U0001f600, quote \" ' ; DROP TABLE logs_1; \u202e right to left"
    store.append(Collected(logs=(line("first", NOW - 30 * HOUR), line(odd, NOW - 1), line("third", NOW))))
    for reopen in (False, True):
        reader = opened() if reopen else store
        got = reader.logs(LogQuery(NOW - 100 * HOUR, NOW + 1), LOCAL)
        assert [r.body.raw for r in got] == ["third", odd, "first"]
        assert got[0] == line("third", NOW)
        assert reader.status().logs == 3


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (LogQuery(NOW - 10, NOW), ["a Timeout"]),
        (LogQuery(NOW - 10, NOW + 1, service="db"), ["db down"]),
        (LogQuery(NOW - 10, NOW + 1, contains="timeOUT"), ["a Timeout"]),
        (LogQuery(NOW - 10, NOW + 1, min_severity=17), ["db down"]),
        (LogQuery(NOW - 10, NOW + 1, limit=1), ["db down"]),
        (LogQuery(NOW - 10, NOW + 1, contains="100%"), []),
    ],
)
def test_log_queries(store: TelemetryStore, query: LogQuery, found: list[str]) -> None:
    store.append(Collected(logs=(line("a Timeout", NOW - 5), line("db down", NOW, 17, "db"))))
    assert [r.body.raw for r in store.logs(query, LOCAL)] == found


def test_a_key_seen_before_adds_nothing_and_equal_lines_are_kept(
    opened: Callable[..., TelemetryStore], clock: Hands
) -> None:
    store = opened()
    body = Collected(logs=(line("same"), line("same")), changes=(ChangeEvent(NOW, "deploy", "api", Untrusted("v2")),))
    assert store.append(body, key="k1") == AppendReport(logs=2, changes=1)
    assert store.append(body, key="k1") == AppendReport(replayed=True)
    store = opened()
    assert store.append(body, key="k1") == AppendReport(replayed=True)
    assert store.append(body, key="k2") == AppendReport(logs=2, changes=1)
    assert len(store.logs(LogQuery(NOW, NOW + 1), LOCAL)) == 4
    clock.now += 26 * HOUR
    store.append(Collected(), key="k3")
    assert store.append(body, key="k1").logs == 2, "keys live for 24 h"


def test_spans_are_known_by_their_ids(store: TelemetryStore) -> None:
    one, two = span("a" * 16, "", "web", "server", 0, 5), span("b" * 16, "", "web", "server", 0, 5)
    assert store.append(Collected(spans=(one, one))) == AppendReport(spans=1, duplicates=1)
    assert store.append(Collected(spans=(one, two))) == AppendReport(spans=1, duplicates=1)
    assert sorted(s.span_id[0] for s in store.spans(NOW, NOW + 1, LOCAL)) == ["a", "b"]
    assert store.spans(NOW, NOW + 1, LOCAL, "web")[0].duration_ms == 5
    assert store.spans(NOW, NOW + 1, LOCAL, "other") == []


def test_the_graph_joins_client_to_server_spans(store: TelemetryStore) -> None:
    spans = [span("w", "", "web", "server", 0, 100)]
    for i in range(10):
        spans.append(span(f"c{i}", "w", "web", "client", i, 20 + i, "error" if i == 0 else "unset"))
        spans.append(span(f"s{i}", f"c{i}", "cart", "server", i + 4, 10 + i))
    spans.append(span("q", "s1", "cart", "internal", 5, 1))
    spans.append(span("m", "s1", "mail", "consumer", 5, 7))
    store.append(Collected(spans=tuple(spans)))
    graph = store.service_graph(NOW - 10, NOW + 1000, LOCAL)
    assert graph.services == ("cart", "mail", "web")
    assert graph.edges == (("cart", "mail"), ("web", "cart"))
    mail, cart = graph.stats
    assert (cart.count, cart.errors, cart.wire_p50_ms, cart.p50_ms) == (10, 1, 10.0, 24.5)
    assert (mail.count, mail.p50_ms, math.isnan(mail.wire_p50_ms)) == (1, 7.0, True)
    assert store.service_graph(NOW + 1000, NOW + 2000, LOCAL).edges == ()


def test_scope_holds_for_logs_spans_and_changes(store: TelemetryStore) -> None:
    mine, theirs = (("team", "a"),), (("team", "b"),)
    s = span("a", "", "web", "server", 0, 1)
    store.append(
        Collected(
            logs=(line("mine", team="a"), line("theirs", team="b"), line("nobody's")),
            spans=(
                Span(*_head(s), s.status, (*s.resource, *mine)),
                Span("u" * 32, *_head(s)[1:], s.status, (("service.name", "secret"), *theirs)),
            ),
            changes=(
                ChangeEvent(NOW, "deploy", "x", Untrusted("mine"), attributes=mine),
                ChangeEvent(NOW, "deploy", "x", Untrusted("theirs"), attributes=theirs),
            ),
        )
    )
    assert [r.body.raw for r in store.logs(LogQuery(0, NOW + 1, limit=2), TEAM_A)] == ["mine"]
    assert [p.pattern.raw for p in store.log_patterns(0, NOW + 1, TEAM_A)] == ["mine"]
    assert [x.service for x in store.spans(0, NOW + 1, TEAM_A)] == ["web"]
    assert store.service_graph(0, NOW + 1, TEAM_A).services == ("web",)
    assert [c.title.raw for c in store.changes(0, NOW + 1, TEAM_A)] == ["mine"]
    job = Principal("key:j", Role.VIEWER, (Matcher("job", MatchOp.REGEX, "we."),))
    assert [x.service for x in store.spans(0, NOW + 1, job)] == ["web"], "job is service.name"


def _head(s: Span) -> tuple[str, str, str, Untrusted, str, int, int]:
    return s.trace_id, s.span_id, s.parent_span_id, s.name, s.kind, s.start_unix_nano, s.end_unix_nano


def test_patterns_count_lines_of_one_form(store: TelemetryStore) -> None:
    logs = [line(f"took {i} ms for user {i:032x}a", NOW + i, 9 + i) for i in range(5)] + [line("started")]
    store.append(Collected(logs=tuple(logs)))
    first, second = store.log_patterns(NOW, NOW + 100, LOCAL)
    assert (first.pattern.raw, first.count, first.severity_number) == ("took <n> ms for user <hex>", 5, 13)
    assert (first.first_ms, first.last_ms, first.service) == (NOW, NOW + 4, "api")
    assert second.pattern.raw == "started"


@pytest.mark.parametrize(
    ("raw", "masked"),
    [
        ("GET /cart/81 from 10.1.2.3:443", "GET /cart/<n> from <ip>"),
        ("id 123e4567-e89b-12d3-a456-426614174000 at 2026-01-02T03:04:05.6Z", "id <id> at <time>"),
        ('user "bob" decade 0xdeadbeef', 'user "<str>" decade <hex>'),
    ],
)
def test_mask(raw: str, masked: str) -> None:
    assert mask(raw) == masked


def test_signals_out_of_time_are_counted(store: TelemetryStore) -> None:
    report = store.append(Collected(logs=(line("old", NOW - 1000 * HOUR), line("new", NOW + HOUR), line("ok"))))
    assert (report.logs, report.too_new, report.too_old) == (1, 1, 1)


def test_lone_surrogates_do_not_stop_an_append(store: TelemetryStore) -> None:
    lone = "a\ud800b"
    labels = (("__name__", "m"), ("path", lone))
    store.append(
        Collected(
            samples=SampleBlock.build([(labels, [NOW], [1.0])]),
            logs=(line(lone, team=lone),),
            spans=(span("a", "", lone, "server", 0, 1),),
            changes=(ChangeEvent(NOW, lone, "api", Untrusted(lone), attributes=(("k", lone),)),),
        )
    )
    assert store.scan((), 0, NOW, LOCAL).labels == ((("__name__", "m"), ("path", "a?b")),)
    assert store.logs(LogQuery(NOW, NOW + 1), LOCAL)[0].body.raw == "a?b"
    assert store.spans(NOW, NOW + 1, LOCAL)[0].service == "a?b"
    assert store.changes(NOW, NOW + 1, LOCAL)[0].title.raw == "a?b"
    assert store.append(Collected(samples=SampleBlock.build([(labels, [NOW], [1.0])]))).duplicates == 1
