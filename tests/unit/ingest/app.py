"""A small app with the ingest routes over a real store; as a program it serves them on loopback."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI

from aiops.api import problems
from aiops.api.edge import Edge
from aiops.api.routes import ingest, otlp
from aiops.api.services import Services
from aiops.core.ports import Clock, system_clock
from aiops.settings import Settings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore


def app_over(store: TelemetryStore, settings: Settings, clock: Clock) -> FastAPI:
    nothing = cast(Any, None)
    services = Services(settings, clock, store, engine=nothing, keys=nothing, audit=nothing)
    app = FastAPI(redirect_slashes=False)
    app.state.services = services
    problems.install(app)
    app.include_router(ingest.router(services))
    app.include_router(otlp.router(services))
    app.add_middleware(Edge, server=settings.server)
    return app


def main(folder: str, port: str) -> None:
    import uvicorn

    settings = Settings()
    store = TelemetryStore(TelemetryDatabase(Path(folder) / "telemetry.duckdb", settings.store))
    uvicorn.run(app_over(store, settings, system_clock), host="127.0.0.1", port=int(port), log_level="error")


if __name__ == "__main__":
    main(*sys.argv[1:])
