"""What the service holds and how its parts are."""

from __future__ import annotations

from collections import Counter

from fastapi import APIRouter

from aiops import __version__
from aiops.api.auth import Reader
from aiops.api.routes.health import readiness
from aiops.api.schemas import StatusOut, StoreOut
from aiops.api.services import Services
from aiops.core.incident import IncidentStatus
from aiops.core.principal import Principal

COUNTED = 1000
"""Incidents are counted up to this number of each status."""


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["status"])

    @routes.get("/api/v1/aiops/status", response_model=StatusOut)
    @routes.get("/api/v1/status", response_model=StatusOut, include_in_schema=False)
    def status(caller: Reader) -> StatusOut:
        """Components, versions and counts."""
        ready = readiness(services)
        held = services.store.status()
        return StatusOut(
            version=__version__,
            versions=dict(services.versions),
            ready=ready.ready,
            auth=services.settings.server.auth,
            components=ready.components,
            store=StoreOut(
                series=held.series,
                samples=held.samples,
                logs=held.logs,
                spans=held.spans,
                costs=held.costs,
                bytes=held.bytes,
                oldest_ms=held.oldest_ms or None,
                newest_ms=held.newest_ms or None,
            ),
            incidents=_active(caller),
            notifications=services.outbox.counts() if services.outbox else {},
            jobs=services.jobs.counts() if services.jobs else {},
        )

    def _active(caller: Principal) -> dict[str, int]:
        counts: Counter[str] = Counter()
        if services.incidents is not None:
            for state in (IncidentStatus.OPEN, IncidentStatus.ACKNOWLEDGED):
                counts[state.value] = len(services.incidents.list(caller, state, COUNTED))
        return dict(counts)

    return routes
