"""OTLP over HTTP: metrics, logs and traces. A 2xx means committed and synced."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aiops.access.permissions import Permission
from aiops.api.auth import allow
from aiops.api.problems import Problem, problem_of, respond
from aiops.api.services import Services
from aiops.core.errors import AiopsError
from aiops.ingest import otlp
from aiops.ingest.bodies import UnsupportedMedia
from aiops.ingest.otlp_receiver import SIGNALS, receiver_of

GRPC_CODES = {400: 3, 401: 16, 403: 7, 413: 3, 415: 3, 429: 8, 503: 14}


def router(services: Services) -> APIRouter:
    """Routes ``/v1/{metrics,logs,traces}``, under ``/api/v1/otlp`` as well."""
    routes = APIRouter(tags=["ingest"], dependencies=[Depends(allow(Permission.WRITE_TELEMETRY))])
    receiver = services.otlp or receiver_of(services.settings, services.store, services.clock)

    def add(signal: str) -> None:
        async def export(request: Request) -> Response:
            body = await request.body()
            headers = request.headers
            content_type = headers.get("content-type", "")

            def work() -> Response:
                encoding, key = headers.get("content-encoding", ""), headers.get("idempotency-key", "")
                try:
                    got = receiver.receive(signal, body, content_type, encoding, key)
                except AiopsError as error:
                    return _failure(error, content_type)
                answer, kind = otlp.response(signal, content_type, got.lost, got.complaint)
                return Response(answer, media_type=kind)

            return await run_in_threadpool(work)

        for path in (f"/v1/{signal}", f"/api/v1/otlp/v1/{signal}"):
            routes.add_api_route(
                path, export, methods=["POST"], summary=f"OTLP {signal}", response_class=Response,
                name=f"otlp_{signal}", include_in_schema=path.startswith("/v1/"),
            )  # fmt: skip

    for signal in SIGNALS:
        add(signal)
    return routes


def _failure(error: AiopsError, content_type: str) -> Response:
    if isinstance(error, UnsupportedMedia):
        return respond("", Problem(415, "unsupported-media", error.message, error.hint))
    problem = problem_of(error)
    answer, kind = otlp.failure(content_type, GRPC_CODES.get(problem.status, 2), str(error))
    headers = {"retry-after": str(max(1, round(problem.retry_after_s)))} if problem.retry_after_s else {}
    return Response(answer, problem.status, headers, kind)
