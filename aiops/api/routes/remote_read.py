"""Remote read: raw samples for another Prometheus."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from aiops.access.permissions import Permission
from aiops.api import remote_read
from aiops.api.auth import allow
from aiops.api.services import Services
from aiops.core.errors import InvalidInput, QueryError
from aiops.core.ports import OpenScan
from aiops.core.principal import Principal

QUERY_LIMIT = 4 * 1024 * 1024
HEADERS = {"content-encoding": "snappy"}


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["prometheus"])

    @routes.post("/api/v1/read", response_class=Response, operation_id="prometheus_remote_read")
    async def read(request: Request, caller: Annotated[Principal, Depends(allow(Permission.READ))]) -> Response:
        """Samples of the series that match, within the caller's label scope, as the reader likes them best:
        snappy protobuf, or a stream of XOR chunks. Native histograms come as samples only."""
        body = await request.body()

        def work() -> Response:
            queries, accepted = remote_read.decode(body, QUERY_LIMIT)
            most = services.settings.promql.max_samples
            left, scans = most, list[OpenScan]()
            histograms = []
            for query in queries:
                window = query.start_ms, query.end_ms, caller
                scans.append(services.store.open_scan(query.matchers, *window, most))
                histograms.append(services.store.all_histograms(query.matchers, *window, most))
                left -= scans[-1].sample_count + len(histograms[-1])
                if left < 0:
                    raise QueryError("exceeded sample limit (promql.max_samples)")
            native = any(histograms)
            if native and remote_read.SAMPLES not in accepted:
                raise InvalidInput("The series have native histograms, which are answered as SAMPLES only.")
            if accepted[0] == remote_read.STREAMED_XOR_CHUNKS and not native:
                frames = remote_read.chunked(list(zip(scans, queries, strict=True)))
                return StreamingResponse(frames, 200, media_type=remote_read.STREAMED)
            blocks = [services.store.scan(q.matchers, q.start_ms, q.end_ms, caller) for q in queries]
            answer = remote_read.encode(list(zip(blocks, histograms, strict=True)))
            return Response(answer, 200, HEADERS, "application/x-protobuf")

        return await run_in_threadpool(work)

    return routes
