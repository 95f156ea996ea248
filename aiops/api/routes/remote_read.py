"""Remote read: raw samples for another Prometheus."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aiops.access.permissions import Permission
from aiops.api import remote_read
from aiops.api.auth import allow
from aiops.api.services import Services
from aiops.core.errors import QueryError
from aiops.core.principal import Principal
from aiops.core.series import SampleBlock

QUERY_LIMIT = 4 * 1024 * 1024
HEADERS = {"content-encoding": "snappy"}


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["prometheus"])

    @routes.post("/api/v1/read", response_class=Response, operation_id="prometheus_remote_read")
    async def read(request: Request, caller: Annotated[Principal, Depends(allow(Permission.READ))]) -> Response:
        """Samples of the series that match, within the caller's label scope; snappy protobuf both ways."""
        body = await request.body()

        def work() -> Response:
            queries = remote_read.decode(body, QUERY_LIMIT)
            most = services.settings.promql.max_samples
            left, results = most, list[SampleBlock]()
            for query in queries:
                window = query.start_ms, query.end_ms, caller
                left -= services.store.open_scan(query.matchers, *window, most).sample_count
                if left < 0:
                    raise QueryError("exceeded sample limit (promql.max_samples)")
                results.append(services.store.scan(query.matchers, *window))
            return Response(remote_read.encode(results), 200, HEADERS, "application/x-protobuf")

        return await run_in_threadpool(work)

    return routes
