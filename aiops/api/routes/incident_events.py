"""Changes of incidents as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from aiops.api import views
from aiops.api.auth import Reader
from aiops.api.services import Services, running
from aiops.core.incident import Incident
from aiops.incidents.matchers import visible

WAITING = 1_000
"""Changes held for one listener; one that falls further behind is cut off and may come back with its last id."""
MISSED = 200


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/incident-events", tags=["incidents"])

    @routes.get("", response_class=EventSourceResponse)
    async def stream(
        caller: Reader, last_event_id: Annotated[str | None, Header()] = None
    ) -> AsyncIterable[ServerSentEvent]:
        """Every change of an incident that the caller may see, as it happens.

        The event's name is the incident's status, its data the incident, its id the time of the change in ms:
        sent back as `Last-Event-ID`, it brings what was missed.
        """
        incidents = running(services.incidents, "incident engine")
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Incident | None](WAITING + 1)

        def offer(incident: Incident) -> None:
            if queue.qsize() < WAITING:
                queue.put_nowait(incident)
            elif not queue.full():
                queue.put_nowait(None)

        def heard(incident: Incident) -> None:
            loop.call_soon_threadsafe(offer, incident)

        with incidents.feed.listening(heard):
            if last_event_id is not None and last_event_id.isdigit():
                since = int(last_event_id) + 1
                missed = await run_in_threadpool(incidents.list, caller, None, MISSED, since)
                for incident in reversed(missed):
                    yield _event(incident)
            while (found := await queue.get()) is not None:
                if visible(found, caller.scope):
                    yield _event(found)

    return routes


def _event(incident: Incident) -> ServerSentEvent:
    return ServerSentEvent(data=views.incident(incident), event=incident.status.value, id=str(incident.updated_ms))
