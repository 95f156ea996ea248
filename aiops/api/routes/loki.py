"""Loki's push API. A 204 means committed and synced; errors are plain text, as Loki's are."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aiops.access.permissions import Permission
from aiops.api.auth import allow
from aiops.api.services import Services
from aiops.core.errors import InvalidInput
from aiops.ingest import loki_push
from aiops.ingest.bodies import DecodeLimits
from aiops.ingest.otlp_receiver import complaint


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["ingest"], dependencies=[Depends(allow(Permission.WRITE_TELEMETRY))])
    limits = DecodeLimits(max_bytes=services.settings.server.max_body_bytes)

    @routes.post("/loki/api/v1/push", summary="Loki push", status_code=204, response_class=Response)
    async def push(request: Request) -> Response:
        """Log lines, in JSON or snappy protobuf. Good lines are kept even where the answer is 400."""
        body = await request.body()
        headers = request.headers

        def work() -> Response:
            decoded = loki_push.decode(
                body, headers.get("content-type", ""), headers.get("content-encoding", ""), limits
            )
            report = services.store.append(decoded.collected, key=f"loki:{decoded.key}")
            refused = complaint(decoded, report)
            if refused:
                raise InvalidInput(refused)
            return Response(status_code=204)

        return await run_in_threadpool(work)

    return routes
