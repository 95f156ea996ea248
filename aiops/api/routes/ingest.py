"""Prometheus remote write. A 2xx means committed and synced."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aiops.access.permissions import Permission
from aiops.api.auth import allow
from aiops.api.problems import Problem, respond
from aiops.api.services import Services
from aiops.core.errors import InvalidInput
from aiops.ingest.bodies import DecodeLimits, UnsupportedMedia
from aiops.ingest.otlp_receiver import complaint
from aiops.ingest.remote_write import RemoteWriteDecoder

MAY_WRITE = Depends(allow(Permission.WRITE_TELEMETRY))


def router(services: Services) -> APIRouter:
    """Route ``/api/v1/write``."""
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
            refused = complaint(decoded, report)
            if refused:
                raise InvalidInput(refused)
            return Response(status_code=204)

        return await run_in_threadpool(work)

    return routes


def _unsupported(error: UnsupportedMedia) -> Problem:
    return Problem(415, "unsupported-media", error.message, error.hint, error_type="bad_data")
