"""Logs and spans sent to a running service: templates on the terminal, series in PromQL, each body counted once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.process import Service, aiops, until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    found = Service(
        tmp_path_factory.mktemp("signals"), {"detection": {"enabled": False, "scrape_interval_s": 1}, "telemetry": {}}
    )
    yield found
    found.close()


def resource(name: str) -> dict[str, Any]:
    return {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]}


def span(name: str, id: str, kind: int, start_ns: int, ms: int, parent: str = "", code: int = 0) -> dict[str, Any]:
    return {
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": id, "parentSpanId": parent, "name": name, "kind": kind,
        "startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(start_ns + ms * 1_000_000), "status": {"code": code},
    }  # fmt: skip


def value(service: Service, query: str) -> float | None:
    found = service.http.get("/api/v1/query", params={"query": query}).json()["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def test_spans_and_log_lines_become_series_and_templates(service: Service) -> None:
    now = time.time_ns()
    traces = {
        "resourceSpans": [
            {"resource": resource("web"), "scopeSpans": [{"spans": [span("GET", "b7ad6b7169203331", 3, now, 30)]}]},
            {
                "resource": resource("api"),
                "scopeSpans": [{"spans": [span("GET /x", "b7ad6b7169203332", 2, now, 20, "b7ad6b7169203331", 2)]}],
            },
        ]
    }
    lines = [
        {"timeUnixNano": str(now + i), "severityNumber": 17, "body": {"stringValue": f"order {i} failed: no route"}}
        for i in range(4)
    ]
    logs = {"resourceLogs": [{"resource": resource("api"), "scopeLogs": [{"logRecords": lines}]}]}
    for path, body in (("/v1/traces", traces), ("/v1/logs", logs)):
        for _ in range(2):  # the second is a repeat
            assert service.http.post(path, json=body).status_code == 200

    until(lambda: value(service, 'sum(traces_span_metrics_calls_total{service_name="api"})'), 30)
    until(lambda: value(service, 'sum(log_template_records_total{service_name="api"})'), 30)
    assert value(service, 'sum(traces_span_metrics_calls_total{service_name="api"})') == 1.0
    assert value(service, 'sum(log_template_records_total{service_name="api",severity="error"})') == 4.0
    edge = '{client="web",server="api"}'
    until(lambda: value(service, f"traces_service_graph_request_failed_total{edge}"), 30)
    wire = value(service, f"traces_service_graph_request_wire_seconds_sum{edge}")
    assert wire == pytest.approx(0.010)

    told = aiops(service.folder, "logs", "patterns", "--json", "--service", "api", "--url", service.url)
    assert told.returncode == 0, told.stderr
    (found,) = json.loads(told.stdout)["patterns"]
    assert (found["pattern"], found["count"], found["example"]) == (
        "order <*> failed: no route",
        4,
        "order 0 failed: no route",
    )
    parts = {c["name"]: c for c in service.http.get("/readyz").json()["components"]}
    assert parts["signal series"]["state"] == "ready"
    graph = aiops(service.folder, "traces", "graph", "--url", service.url)
    assert graph.returncode == 0 and "web" in graph.stdout and "api" in graph.stdout, graph.stderr
