"""Prometheus remote write 1.0 and 2.0. A 2xx means journaled and synced.

A scrape of a thousand series is read in a tenth of a millisecond, so this route goes without FastAPI's dependencies
and thread pool: the caller is checked here, and the answer waits for the store's own thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aiops.access.permissions import Permission, require
from aiops.api.auth import allow, sender
from aiops.api.problems import Problem, problem_of, respond
from aiops.api.services import Services
from aiops.core.errors import AiopsError, InvalidInput
from aiops.ingest.bodies import DecodeLimits, UnsupportedMedia
from aiops.ingest.refusals import refusals
from aiops.ingest.write_body import V2, WriteBody, WriteReceiver
from aiops.store.telemetry.head import SampleCounts

WRITTEN = "x-prometheus-remote-write-{}-written"


class DirectRoute(APIRoute):
    """A route whose function takes the request and gives the response, and checks the caller itself."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def router(services: Services) -> APIRouter:
    """Route ``/api/v1/write``."""
    routes = APIRouter(
        tags=["ingest"], dependencies=[Depends(allow(Permission.WRITE_TELEMETRY))], route_class=DirectRoute
    )
    settings = services.settings
    limits = DecodeLimits(max_bytes=settings.server.max_body_bytes)
    receiver = WriteReceiver(limits, zeros=settings.store.created_zero_samples)
    store = services.store
    keyless = settings.server.auth == "none"

    @routes.post(
        "/api/v1/write", summary="Prometheus remote write 1.0 and 2.0", status_code=204, response_class=Response
    )
    async def write(request: Request) -> Response:
        """Samples in compressed protobuf. Good samples are kept even where the answer is 400."""
        # A key is looked up in the state store, which may take its time.
        caller = sender(request) if keyless else await run_in_threadpool(sender, request)
        require(caller, Permission.WRITE_TELEMETRY)
        headers = request.headers
        try:
            body = receiver.open(
                await request.body(), headers.get("content-type", ""), headers.get("content-encoding", "")
            )
        except UnsupportedMedia as error:
            return respond(
                request.url.path, Problem(415, "unsupported-media", error.message, error.hint, error_type="bad_data")
            )
        return await _stored(request, body)

    async def _stored(request: Request, body: WriteBody) -> Response:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[SampleCounts] = loop.create_future()
        store.submit(body, waiting, settlers(loop))
        written = {"samples": 0, "histograms": 0, "exemplars": 0}
        try:
            counts = await waiting
            refused = _complaint(body, counts)
            written["samples"] = counts.accepted + counts.duplicates - body.zeros
            more = body.extras()
            if more is not None:
                report = await run_in_threadpool(store.append, more)
                written["histograms"], written["exemplars"] = report.histograms, report.exemplars
                if report.too_new or report.too_old:
                    refused.append(f"{report.too_new + report.too_old} exemplars or histograms out of bounds")
            if refused:
                raise InvalidInput("; ".join(refused))
        except AiopsError as error:
            answer = respond(request.url.path, problem_of(error))
        else:
            answer = Response(status_code=204)
        if body.message == V2:
            for what, count in written.items():
                answer.headers[WRITTEN.format(what)] = str(count)
        return answer

    return routes


_settlers: dict[asyncio.AbstractEventLoop, Any] = {}


def settlers(loop: asyncio.AbstractEventLoop) -> Callable[[list[tuple[Any, SampleCounts | Exception]]], None]:
    """For each event loop one function that wakes its waiters, all of a group at once."""
    found = _settlers.get(loop)
    if found is None:
        for old in [old for old in _settlers if old.is_closed()]:
            del _settlers[old]

        def wake(batch: list[tuple[asyncio.Future[SampleCounts], SampleCounts | Exception]]) -> None:
            for waiting, outcome in batch:
                if waiting.done():  # its sender has gone
                    continue
                if isinstance(outcome, Exception):
                    waiting.set_exception(outcome)
                else:
                    waiting.set_result(outcome)

        def settle(batch: list[tuple[Any, SampleCounts | Exception]]) -> None:
            loop.call_soon_threadsafe(wake, batch)

        found = _settlers[loop] = settle
    settle_of: Callable[[list[tuple[Any, SampleCounts | Exception]]], None] = found
    return settle_of


def _complaint(body: WriteBody, counts: SampleCounts) -> list[str]:
    """What was left out and why, in Prometheus' words where it has some."""
    rejected = [f"{body.rejections.count} rejected: {body.rejections.text}"] if body.rejections.count else []
    return [*rejected, *refusals(counts)]
