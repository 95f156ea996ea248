"""Liveness, readiness and the service's own metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from aiops.access.permissions import Permission
from aiops.api.auth import allow
from aiops.api.schemas import ComponentOut, Readiness
from aiops.api.services import ComponentState, Services
from aiops.core.principal import Principal

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", response_class=PlainTextResponse)
    async def alive() -> str:
        """The process answers. Touches no store, so that a slow disk does not get it killed."""
        return "ok\n"

    @routes.get("/readyz", responses={503: {"model": Readiness}})
    def ready() -> JSONResponse:
        """200 when every required component is ready, else 503; both list all components."""
        # Anyone may ask; with keys, what failed and why is for those who are signed in (see the status route).
        found = readiness(services, details=services.settings.server.auth == "none")
        return JSONResponse(found.model_dump(), 200 if found.ready else 503)

    @routes.get("/metrics", response_class=PlainTextResponse)
    def metrics(_caller: Annotated[Principal, Depends(allow(Permission.READ))]) -> Response:
        """The service's own metrics in Prometheus' text format."""
        return Response(services.metrics_text(), media_type=METRICS_TYPE)

    return routes


def readiness(services: Services, *, details: bool = True) -> Readiness:
    """States of all components; a required one that is degraded still serves."""
    components = services.components()
    serving = (ComponentState.READY, ComponentState.DEGRADED)
    return Readiness(
        ready=all(c.state in serving for c in components if c.required),
        components=[
            ComponentOut(name=c.name, state=c.state.value, detail=c.detail if details else "", required=c.required)
            for c in components
        ],
    )
