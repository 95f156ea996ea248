"""The FastAPI application: the edge, the problem handlers and every module of ``routes``."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from typing import Any

from fastapi import FastAPI

from aiops import __version__
from aiops.api import problems, routes
from aiops.api.edge import Edge
from aiops.api.intake import Intake
from aiops.api.services import Services

DESCRIPTION = (
    "Ask questions about metrics, logs, traces and costs; follow incidents; approve actions. "
    "Times are milliseconds since the epoch, UTC, unless a name says otherwise. "
    "Errors are RFC 9457 problem details, except on the Prometheus-compatible routes."
)

BUSIEST = ("remote_write",)
"""Route modules that are matched first: a request is compared with every route before its own."""


class Application(FastAPI):
    """FastAPI whose OpenAPI document names each method of a route apart."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            with warnings.catch_warnings():
                # A route with GET and POST has one id for both; they are told apart below.
                warnings.filterwarnings("ignore", "Duplicate Operation ID", UserWarning)
                document = super().openapi()
            for operations in document["paths"].values():
                ids = [operation["operationId"] for operation in operations.values()]
                for method, operation in operations.items():
                    if ids.count(operation["operationId"]) > 1:
                        operation["operationId"] += f"_{method}"
        return super().openapi()


def create_app(services: Services) -> FastAPI:
    """The app over ready-made services; whoever built them starts and stops them.

    Interactive documentation pages are left out, since they load scripts from other hosts;
    ``/docs`` is a plain page made from the same OpenAPI document.
    """
    app = Application(
        title="aiops",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        strict_content_type=False,
    )
    app.state.services = services
    problems.install(app)
    for module in sorted(pkgutil.iter_modules(routes.__path__), key=lambda m: (m.name not in BUSIEST, m.name)):
        if not module.name.startswith("_"):
            found = importlib.import_module(f"{routes.__name__}.{module.name}")
            app.include_router(found.router(services))
    app.add_middleware(Intake, budget=services.settings.server.max_inflight_bytes)
    app.add_middleware(Edge, server=services.settings.server)
    return app
