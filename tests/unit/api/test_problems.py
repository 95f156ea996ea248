from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from aiops.api.problems import Problem, is_prometheus_path, problem_of, respond
from aiops.core import errors as e
from tests.unit.api.conftest import House


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (e.InvalidInput("x"), 400, "bad_data"),
        (e.QueryError("x"), 400, "bad_data"),
        (e.QueryError("x", kind="execution"), 422, "execution"),
        (e.QueryError("x", kind="timeout"), 503, "timeout"),
        (e.NotFound("x"), 404, "not_found"),
        (e.Conflict("x"), 409, "bad_data"),
        (e.Forbidden("x"), 403, "forbidden"),
        (e.Forbidden("x", authenticated=False), 401, "unauthorized"),
        (e.ApprovalRequired("x"), 403, "forbidden"),
        (e.LimitExceeded("x", kind="size"), 413, "bad_data"),
        (e.LimitExceeded("x", kind="rate"), 429, "too_many_requests"),
        (e.LimitExceeded("x", kind="budget"), 429, "too_many_requests"),
        (e.TransientError("x"), 503, "unavailable"),
        (e.InvalidPlan("x"), 422, "execution"),
        (e.ToolFailed("x"), 422, "execution"),
        (e.PermanentError("x"), 422, "execution"),
        (e.ConfigError("x"), 500, "internal"),
        (e.AiopsError("x"), 500, "internal"),
    ],
)
def test_every_error_has_its_status(error: e.AiopsError, status: int, error_type: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.error_type) == (status, error_type)
    reply = respond("/api/v1/ask", problem)
    body = json.loads(bytes(reply.body))
    assert body["status"] == reply.status_code == status
    assert body["detail"] == "x"
    assert body["type"].startswith("urn:aiops:problem:")
    assert reply.media_type == "application/problem+json"
    reply = respond("/api/v1/query", problem)
    assert json.loads(bytes(reply.body)) == {"status": "error", "errorType": error_type, "error": "x"}
    assert ("retry-after" in reply.headers) is (status in (429, 503) and error_type not in ("timeout",))


def test_hints_and_surrogates_travel() -> None:
    reply = respond("/x", Problem(400, "k", "bad \ud800", "Do \x00 this."))
    body = json.loads(bytes(reply.body))
    assert body["hint"] == "Do \x00 this."
    assert body["detail"].startswith("bad \ud800")


@pytest.mark.parametrize(
    ("path", "theirs"),
    [
        ("/api/v1/query", True), ("/api/v1/query_range/", True), ("/api/v1/label/job/values", True),
        ("/api/v1/status/buildinfo", True), ("/api/v1/write", True), ("/api/v1/alerts", True),
        ("/api/v1/status", False), ("/api/v1/ask", False), ("/api/v1/queryx", False), ("/", False),
    ],
)  # fmt: skip
def test_which_paths_are_prometheus(path: str, theirs: bool) -> None:
    assert is_prometheus_path(path) is theirs


def test_routing_and_validation_errors_are_problems(open_house: Callable[..., House]) -> None:
    client = open_house(auth="none").client
    reply = client.get("/api/v1/nothing%0ahere")
    assert (reply.status_code, reply.json()["type"]) == (404, "urn:aiops:problem:not-found")
    assert "\n" not in reply.json()["detail"]
    reply = client.delete("/api/v1/incidents")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET")
    for body in (
        b"",
        b"{",
        b"[]",
        b'{"question": ""}',
        b'{"question": 3}',
        b'{"question": "a", "qestion": "b"}',
        b"\xff",
    ):
        reply = client.post("/api/v1/ask", content=body, headers={"content-type": "application/json"})
        assert reply.status_code in (400, 422), body
        assert reply.headers["content-type"] == "application/problem+json"
    reply = client.get("/api/v1/incidents?status=weird&limit=0")
    assert {err["where"] for err in reply.json()["errors"]} == {"query.status", "query.limit"}


def test_a_deeply_nested_body_is_refused(open_house: Callable[..., House]) -> None:
    client = open_house(auth="none").client
    body = b"[" * 100_000
    for path in ("/api/v1/ask", "/api/v1/webhooks/alertmanager"):
        reply = client.post(path, content=body, headers={"content-type": "application/json"})
        assert reply.status_code in (400, 422), path
