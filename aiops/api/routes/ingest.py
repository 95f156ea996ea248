"""Telemetry in: Prometheus remote write and OTLP/HTTP. A 2xx means committed and synced."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aiops.access.permissions import Permission
from aiops.api.auth import allow
from aiops.api.problems import Problem, problem_of, respond
from aiops.api.services import Services
from aiops.core.errors import AiopsError, InvalidInput
from aiops.ingest import otlp
from aiops.ingest.bodies import Decoded, DecodeLimits, UnsupportedMedia
from aiops.ingest.remote_write import RemoteWriteDecoder
from aiops.store.telemetry.store import AppendReport

MAY_WRITE = Depends(allow(Permission.WRITE_TELEMETRY))
_GRPC_CODES = {400: 3, 401: 16, 403: 7, 413: 3, 415: 3, 429: 8, 503: 14}
_KEY_CAP = 200


def router(services: Services) -> APIRouter:
    """Routes ``/api/v1/write`` and ``/v1/{metrics,logs,traces}``, the latter under ``/api/v1/otlp`` as well."""
    routes = APIRouter(tags=["ingest"], dependencies=[MAY_WRITE])
    limits = DecodeLimits(max_bytes=services.settings.server.max_body_bytes)
    decoder = RemoteWriteDecoder(limits)
    store = services.store

    @routes.post("/api/v1/write", summary="Prometheus remote write 1.0", status_code=204, response_class=Response)
    async def write(request: Request) -> Response:
        """Samples in snappy protobuf. Good samples are kept even where the answer is 400."""
        body = await request.body()
        headers = request.headers

        def work() -> Response:
            try:
                decoded = decoder.decode(body, headers.get("content-encoding", ""), headers.get("content-type", ""))
            except UnsupportedMedia as error:
                return respond(request.url.path, _unsupported(error))
            report = store.append(decoded.collected)
            complaint = _complaint(decoded, report)
            if complaint:
                raise InvalidInput(complaint)
            return Response(status_code=204)

        return await run_in_threadpool(work)

    def otlp_route(signal: str, decode: Callable[..., Decoded], keyed: bool) -> None:
        async def export(request: Request) -> Response:
            body = await request.body()
            headers = request.headers
            content_type = headers.get("content-type", "")

            def work() -> Response:
                try:
                    decoded = decode(body, content_type, headers.get("content-encoding", ""))
                    key = (headers.get("idempotency-key") or decoded.key)[:_KEY_CAP] if keyed else ""
                    report = store.append(decoded.collected, key=f"{signal}:{key}" if key else "")
                except AiopsError as error:
                    return _otlp_failure(error, content_type)
                lost = decoded.rejected + report.conflicts + report.too_new + report.too_old
                answer, kind = otlp.response(signal, content_type, lost, _complaint(decoded, report))
                return Response(answer, media_type=kind)

            return await run_in_threadpool(work)

        for path in (f"/v1/{signal}", f"/api/v1/otlp/v1/{signal}"):
            routes.add_api_route(
                path, export, methods=["POST"], summary=f"OTLP {signal}", response_class=Response,
                name=f"otlp_{signal}", include_in_schema=path.startswith("/v1/"),
            )  # fmt: skip

    def logs(body: bytes, content_type: str, content_encoding: str) -> Decoded:
        return otlp.decode_logs(body, content_type, content_encoding, services.clock(), limits)

    otlp_route("metrics", partial(otlp.decode_metrics, limits=limits), keyed=False)
    otlp_route("logs", logs, keyed=True)
    otlp_route("traces", partial(otlp.decode_traces, limits=limits), keyed=False)
    return routes


def _complaint(decoded: Decoded, report: AppendReport) -> str:
    """What the sender has to know, in Prometheus' words where it has some."""
    parts = []
    if decoded.rejected:
        parts.append(f"{decoded.rejected} rejected: {decoded.reason}")
    if report.conflicts:
        parts.append(f"{report.conflicts} refused: duplicate sample for timestamp, with another value")
    if report.too_new:
        parts.append(f"{report.too_new} refused: out of bounds, too far in the future")
    if report.too_old:
        parts.append(f"{report.too_old} refused: out of bounds, older than the retention")
    return "; ".join(parts)


def _unsupported(error: UnsupportedMedia) -> Problem:
    return Problem(415, "unsupported-media", error.message, error.hint, error_type="bad_data")


def _otlp_failure(error: AiopsError, content_type: str) -> Response:
    problem = _unsupported(error) if isinstance(error, UnsupportedMedia) else problem_of(error)
    if isinstance(error, UnsupportedMedia):
        return respond("", problem)
    answer, kind = otlp.failure(content_type, _GRPC_CODES.get(problem.status, 2), str(error))
    headers = {"retry-after": str(max(1, round(problem.retry_after_s)))} if problem.retry_after_s else {}
    return Response(answer, problem.status, headers, kind)
