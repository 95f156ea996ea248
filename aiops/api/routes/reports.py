"""Reports on demand."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from aiops.api.auth import Reader
from aiops.api.pages import page
from aiops.api.services import Services, running


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/reports", tags=["reports"])

    @routes.get("/cost", response_class=Response)
    def cost(
        caller: Reader,
        format: Annotated[Literal["html", "text"], Query()] = "html",
        days: Annotated[int, Query(ge=1, le=366)] = 30,
    ) -> Response:
        """The cost report of the last days, within the caller's scope, as a page or as plain text."""
        report = running(services.cost_report, "cost report")(caller, days)
        if format == "text":
            return Response(report.text, media_type="text/plain; charset=utf-8")
        return page(report.html)

    return routes
