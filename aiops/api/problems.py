"""Errors as responses: RFC 9457 problem details, Prometheus' error JSON on its routes, plain text on Loki's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from aiops.core.errors import (
    AiopsError,
    ApprovalRequired,
    ConfigError,
    Conflict,
    Forbidden,
    InvalidInput,
    InvalidPlan,
    LimitExceeded,
    NotFound,
    PermanentError,
    QueryError,
    ToolFailed,
    TransientError,
)
from aiops.core.untrusted import Untrusted

PROMETHEUS_PATHS = frozenset(
    f"/api/v1/{name}"
    for name in (
        "query", "query_range", "query_exemplars", "format_query", "parse_query",
        "series", "labels", "metadata", "rules", "alerts", "write", "read", "targets", "alertmanagers",
    )
)  # fmt: skip
LOKI_PREFIX = "/loki/"
PROMETHEUS_PREFIXES = ("/api/v1/label/", "/api/v1/status/", "/api/v1/targets/")
AUTHENTICATE = 'Bearer realm="aiops", Basic realm="aiops", charset="UTF-8"'
DETAIL_CAP = 2000


def is_prometheus_path(path: str) -> bool:
    """True for the routes that answer as Prometheus does, errors included."""
    return path.rstrip("/") in PROMETHEUS_PATHS or path.startswith(PROMETHEUS_PREFIXES)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error before it takes its wire form; ``kind`` is the last part of the problem's type URI."""

    status: int
    kind: str
    detail: str
    hint: str = ""
    retry_after_s: float | None = None
    error_type: str = ""
    errors: Sequence[Mapping[str, object]] = ()
    instance: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def problem_of(error: AiopsError) -> Problem:
    """The response that an error of our tree becomes."""

    def make(status: int, kind: str, error_type: str = "", retry_after_s: float | None = None) -> Problem:
        return Problem(status, kind, error.message, error.hint, retry_after_s, error_type)

    match error:
        case QueryError():
            status, kind = {
                "timeout": (503, "timeout"),
                "canceled": (503, "canceled"),
                "execution": (422, "query-failed"),
            }.get(error.kind, (400, "bad-query"))
            return make(status, kind, error.kind)
        case InvalidInput():
            return make(400, "invalid-input", "bad_data")
        case NotFound():
            return make(404, "not-found", "not_found")
        case Conflict():
            return make(409, "conflict", "bad_data")
        case Forbidden(authenticated=False):
            return make(401, "unauthenticated", "unauthorized")
        case Forbidden():
            return make(403, "forbidden", "forbidden")
        case ApprovalRequired():
            return make(403, "approval-required", "forbidden")
        case LimitExceeded(kind="size"):
            return make(413, "too-large", "bad_data")
        case LimitExceeded():
            return make(429, f"{error.kind}-limit", "too_many_requests", error.retry_after_s or 1.0)
        case TransientError():
            return make(503, "unavailable", "unavailable", error.retry_after_s or 5.0)
        case InvalidPlan() | ToolFailed():
            return make(422, "cannot-answer", "execution")
        case ConfigError():
            return make(500, "misconfigured", "internal")
        case PermanentError():
            return make(422, "failed", "execution")
    return make(500, "internal", "internal")


def respond(path: str, problem: Problem) -> Response:
    """The wire form for the route at ``path``."""
    headers = dict(problem.headers)
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(problem.retry_after_s)))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = AUTHENTICATE
    text = f"{problem.detail} {problem.hint}".strip()[:DETAIL_CAP]
    if path.startswith(LOKI_PREFIX):
        return Response(f"{text}\n".encode("utf-8", "replace"), problem.status, headers, "text/plain; charset=utf-8")
    if is_prometheus_path(path):
        body: dict[str, object] = {"status": "error", "errorType": problem.error_type or "internal", "error": text}
        media_type = "application/json"
    else:
        body = {
            "type": f"urn:aiops:problem:{problem.kind}",
            "title": HTTPStatus(problem.status).phrase,
            "status": problem.status,
            "detail": text,
        }
        if problem.hint:
            body["hint"] = problem.hint[:DETAIL_CAP]
        if problem.instance:
            body["instance"] = problem.instance
        if problem.errors:
            body["errors"] = list(problem.errors)
        media_type = "application/problem+json"
    # ASCII JSON carries lone surrogates, which UTF-8 cannot.
    return Response(json.dumps(body).encode("ascii"), problem.status, headers, media_type)


def install(app: FastAPI) -> None:
    """Register the handlers for our errors, validation and routing. The edge answers for all others."""

    @app.exception_handler(AiopsError)
    def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, AiopsError)
        return respond(request.url.path, problem_of(error))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"where": ".".join(str(p) for p in item["loc"]), "message": Untrusted(str(item["msg"])).display()}
            for item in error.errors()[:20]
        ]
        detail = "; ".join(f"{e['where']}: {e['message']}" for e in errors)
        status = 400 if is_prometheus_path(request.url.path) else 422
        return respond(
            request.url.path, Problem(status, "invalid-request", detail, error_type="bad_data", errors=errors)
        )

    @app.exception_handler(HTTPException)
    def routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = error.status_code
        kind, error_type, detail = {
            404: ("not-found", "not_found", f"There is nothing at {Untrusted(request.url.path).display(200)}."),
            405: ("method-not-allowed", "bad_data", f"{request.method} is not allowed here."),
            413: ("too-large", "bad_data", "The request body is larger than server.max_body_bytes."),
        }.get(status, ("http-error", "bad_data" if status < 500 else "internal", str(error.detail)))
        return respond(
            request.url.path, Problem(status, kind, detail, error_type=error_type, headers=error.headers or {})
        )
