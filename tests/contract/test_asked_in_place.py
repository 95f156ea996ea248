"""Systems that hold logs and traces, against loopback servers that speak their protocols by the public references."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from aiops.agent.executor import Executor
from aiops.agent.found import Asking
from aiops.agent.run_signals import Elsewhere
from aiops.core.errors import Forbidden, PermanentError, TransientError
from aiops.core.evidence import EvidenceState
from aiops.core.plugins import build
from aiops.core.ports import LogSource, PluginContext, SpanSource
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.query import LogStep, Plan, TraceStep, Window
from aiops.core.series import Matcher, MatchOp
from aiops.core.signals import LogQuery
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.contract.peers import Answer, peer
from tests.unit.agent.tables import TableQuerier

NOW = 1_790_000_000_000
SECRET = "a-very-secret-token"
SCOPED = Principal("key:1", Role.VIEWER, (Matcher("team", MatchOp.EQUAL, "shop"),))
QUERY = LogQuery(NOW - 3_600_000, NOW, 'pay"ment', "card} | drop", 17, limit=10)


@dataclass(frozen=True)
class Server:
    options: Callable[[str], dict[str, Any]]
    usual: Any


LINES = [(f"card {i} refused", NOW - 1000 * i) for i in range(1, 6)]
LOGS = {
    "loki": Server(
        lambda url: {"url": url, "bearer_token": SECRET, "tenant": "shop"},
        {
            "status": "success",
            "data": {
                "resultType": "streams",
                "result": [
                    {
                        "stream": {"service_name": "payment", "level": "error"},
                        "values": [[str(at * 1_000_000), text] for text, at in LINES],
                    }
                ],
            },
        },
    ),
    "elasticsearch": Server(
        lambda url: {"url": url, "api_key": SECRET},
        {
            "hits": {
                "hits": [
                    {
                        "_source": {"message": text, "service": {"name": "payment"}, "log.level": "ERROR"},
                        "sort": [at],
                    }
                    for text, at in LINES
                ]
            }
        },
    ),
}
START = NOW - 60_000
SPANS = {
    "jaeger": Server(
        lambda url: {"url": url, "bearer_token": SECRET},
        {
            "data": [
                {
                    "traceID": "AB12",
                    "spans": [
                        {
                            "traceID": "AB12", "spanID": "1", "operationName": "POST /pay", "references": [],
                            "startTime": START * 1000, "duration": 250_000, "processID": "p1",
                            "tags": [{"key": "error", "value": True}, {"key": "span.kind", "value": "server"}],
                        },
                        {
                            "traceID": "AB12", "spanID": "2", "operationName": "SELECT", "startTime": START * 1000 + 9,
                            "references": [{"refType": "CHILD_OF", "traceID": "AB12", "spanID": "1"}],
                            "duration": 40_000, "processID": "p1", "tags": [],
                        },
                    ],
                    "processes": {"p1": {"serviceName": "payment", "tags": []}},
                }
            ]
        },
    ),
    "tempo": Server(
        lambda url: {"url": url, "bearer_token": SECRET, "tenant": "shop"},
        {
            "traces": [
                {
                    "traceID": "ab12",
                    "spanSets": [
                        {
                            "spans": [
                                {
                                    "spanID": f"{n}", "name": name, "startTimeUnixNano": str(START * 1_000_000 + n),
                                    "durationNanos": str(ms * 1_000_000),
                                    "attributes": [
                                        {"key": "service.name", "value": {"stringValue": "payment"}},
                                        {"key": "status", "value": {"stringValue": status}},
                                        {"key": "kind", "value": {"stringValue": "server"}},
                                    ],
                                }
                                for n, name, ms, status in ((1, "POST /pay", 250, "error"), (2, "SELECT", 40, "unset"))
                            ]
                        }
                    ],
                }
            ]
        },
    ),
}  # fmt: skip
ALL = {**LOGS, **SPANS}


def made(name: str, url: str) -> Any:
    return build("connectors.telemetry", name, {**ALL[name].options(url), "timeout_s": 0.5}, PluginContext(name))


def ask(source: Any, principal: Principal = LOCAL) -> list[Any]:
    if isinstance(source, LogSource):
        return source.logs(QUERY, principal)
    assert isinstance(source, SpanSource)
    return source.spans(NOW - 3_600_000, NOW, principal, "payment")


def reply(name: str) -> Answer:
    return Answer(200, json.dumps(ALL[name].usual).encode())


def run(source: Any, step: LogStep | TraceStep) -> Any:
    """The step as the assistant runs it, over an empty store."""
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW))
    elsewhere = (
        Elsewhere(logs=source, logs_name="lines") if isinstance(source, LogSource) else Elsewhere(spans=source)
    )  # fmt: skip
    executor = Executor(TableQuerier({}, [], [], NOW), store, elsewhere=elsewhere)
    try:
        (evidence,) = executor.run(Plan(steps=(step,)), Asking(LOCAL, NOW), None).evidence  # type: ignore[arg-type]
        return evidence
    finally:
        executor.close()
        store.close()


@pytest.mark.parametrize("name", LOGS)
def test_lines_are_read_with_their_service_level_and_time(name: str) -> None:
    with peer(reply(name)) as server:
        source = made(name, server.url)
        rows = ask(source)
        source.close()
    assert [(r.service, r.body.raw, r.severity_number, r.time_unix_nano) for r in rows] == [
        ("payment", text, 17, at * 1_000_000) for text, at in LINES
    ]


@pytest.mark.parametrize("name", SPANS)
def test_spans_are_read_with_their_service_status_and_duration(name: str) -> None:
    with peer(reply(name)) as server:
        source = made(name, server.url)
        rows = ask(source)
        source.close()
    assert [(s.service, s.name.raw, s.status, s.duration_ms, s.kind) for s in rows] == [
        ("payment", "POST /pay", "error", 250.0, "server"),
        ("payment", "SELECT", "unset", 40.0, rows[1].kind),
    ]
    assert len(rows[0].trace_id) == 32


def test_texts_stay_inside_their_quotes() -> None:
    with peer(reply("loki")) as server:
        source = made("loki", server.url)
        source.logs(QUERY, SCOPED)
        source.close()
    asked = parse_qs(urlsplit(server.received[0].path).query)["query"][0]
    assert asked.startswith(
        r'{team="shop", team!="", service_name="pay\"ment"} |= "card} | drop" | detected_level=~"(?i)(fatal'
    )
    assert server.received[0].headers["x-scope-orgid"] == "shop"
    with peer(reply("tempo")) as server:
        source = made("tempo", server.url)
        source.spans(NOW - 1000, NOW, SCOPED, 'pay" || true')
        source.close()
    asked = parse_qs(urlsplit(server.received[0].path).query)["q"][0]
    assert asked.startswith(r'{ resource.service.name = "pay\" || true" && resource.team = "shop" && resource.team')


def test_elasticsearch_is_asked_in_its_own_query_language() -> None:
    with peer(reply("elasticsearch")) as server:
        source = made("elasticsearch", server.url)
        source.logs(QUERY, SCOPED)
        source.close()
    sent = server.received[0]
    assert sent.path.startswith("/logs-*/_search")
    filters = sent.json["query"]["bool"]["filter"]
    assert {"term": {"team": "shop"}} in filters
    assert {"term": {"service.name": 'pay"ment'}} in filters
    assert {"match_phrase": {"message": "card} | drop"}} in filters
    assert any("ERROR" in f.get("terms", {}).get("log.level", ()) for f in filters)
    assert sent.json["size"] == 10


@pytest.mark.parametrize(("name", "op"), [("jaeger", MatchOp.EQUAL), ("elasticsearch", MatchOp.REGEX)])
def test_a_scope_that_cannot_be_enforced_is_refused(name: str, op: MatchOp) -> None:
    with peer(reply(name)) as server:
        source = made(name, server.url)
        with pytest.raises(Forbidden):
            ask(source, Principal("key:2", Role.VIEWER, (Matcher("team", op, "shop"),)))
        source.close()
        assert not server.received


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data": 1, "hits": 1, "traces": [1]}'])
def test_another_systems_answer_is_named(name: str, body: bytes) -> None:
    with peer(Answer(200, body)) as server:
        source = made(name, server.url)
        with pytest.raises(PermanentError, match=name):
            ask(source)
        source.close()


@pytest.mark.parametrize("name", ALL)
def test_the_token_is_in_no_message(name: str) -> None:
    with peer(Answer(503, b"busy")) as server:
        source = made(name, server.url)
        with pytest.raises(TransientError) as caught:
            ask(source)
        source.close()
    assert SECRET not in repr(source.options)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ALL)
def test_the_assistant_reads_there_and_says_where(name: str) -> None:
    step = LogStep(service="payment") if name in LOGS else TraceStep(service="payment")
    with peer(reply(name)) as server:
        source = made(name, server.url)
        found = run(source, step)
        source.close()
    assert found.state is EvidenceState.OK
    assert "refused" in found.lines[0].raw if name in LOGS else found.figures[0].value == 0.25


@pytest.mark.parametrize("name", ALL)
def test_a_system_that_is_down_is_said_to_be(name: str) -> None:
    step = LogStep(service="payment") if name in LOGS else TraceStep(service="payment")
    source = made(name, "http://127.0.0.1:9")
    found = run(source, step)
    source.close()
    assert found.state is EvidenceState.SOURCE_DOWN
    assert "cannot be reached" in found.note


@pytest.mark.parametrize("name", LOGS)
def test_patterns_are_mined_from_what_is_read(name: str) -> None:
    with peer(reply(name)) as server:
        source = made(name, server.url)
        found = run(source, LogStep(service="payment", patterns=True, window=Window(last_s=3600.0)))
        source.close()
    assert found.source == "lines"
    assert [line.raw for line in found.lines] == ["payment: card <*> refused"]
    assert found.figures[0].value == 5


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_polled(name: str) -> None:
    source = made(name, "http://127.0.0.1:9")
    assert source.interval_s == 0
    polled = source.poll("x")
    assert polled.cursor == "x"
    assert polled.samples.sample_count == len(polled.logs) == len(polled.spans) == 0
    source.close()
