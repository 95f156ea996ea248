"""A small app with the ingest routes over a real store; as a program it serves them on loopback."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from aiops.api import problems
from aiops.api.edge import Edge
from aiops.api.intake import Intake
from aiops.api.routes import federation, loki, otlp, remote_read, remote_write
from aiops.api.services import Services
from aiops.core.ports import Clock, system_clock
from aiops.ingest.otlp_receiver import OtlpReceiver
from aiops.settings import Settings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore


def app_over(store: TelemetryStore, settings: Settings, clock: Clock, receiver: OtlpReceiver | None = None) -> FastAPI:
    nothing = cast(Any, None)
    services = Services(settings, clock, store, engine=nothing, keys=nothing, audit=nothing, otlp=receiver)
    app = FastAPI(redirect_slashes=False)
    app.state.services = services
    problems.install(app)
    for module in (remote_write, otlp, loki, federation, remote_read):
        app.include_router(module.router(services))
    app.add_middleware(Intake, budget=settings.server.max_inflight_bytes)
    app.add_middleware(Edge, server=settings.server)
    return app


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The app on a free loopback port, by its URL."""
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    bound.close()


def main(folder: str, port: str) -> None:
    settings = Settings()
    store = TelemetryStore(TelemetryDatabase(Path(folder) / "telemetry.duckdb", settings.store))
    uvicorn.run(app_over(store, settings, system_clock), host="127.0.0.1", port=int(port), log_level="error")


if __name__ == "__main__":
    main(*sys.argv[1:])
