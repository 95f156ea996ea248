"""The HTTP server on its thread and the file by which the CLI finds it; OTLP over gRPC."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aiops.core.errors import ConfigError
from aiops.settings import ServerSettings
from aiops.wiring.lifetime import Lifetime

if TYPE_CHECKING:
    from fastapi import FastAPI

    from aiops.api.services import Services


def listen(app: FastAPI, server: ServerSettings, folder: Path, lifetime: Lifetime) -> str:
    """Serve until the lifetime ends; the URL. Raises ``ConfigError`` for a port that cannot be had."""
    import uvicorn

    try:
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        bound = socket.create_server((server.host, server.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"Port {server.port} on {server.host} cannot be used: {error.strerror}.",
            hint="Choose another with --port.",
        ) from error
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it only on sockets it made
    port = bound.getsockname()[1]
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=5
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([bound],), name="http", daemon=True)
    thread.start()

    def end() -> None:
        running.should_exit = True
        thread.join(10)
        bound.close()

    lifetime.on_stop(end)
    while not running.started and thread.is_alive():
        time.sleep(0.005)
    host = f"[{server.host}]" if ":" in server.host else server.host
    url = f"http://{host}:{port}"
    place = folder / "service.json"
    place.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
    lifetime.on_stop(lambda: place.unlink(missing_ok=True))
    return url


def listen_for_otlp(services: Services, lifetime: Lifetime) -> None:
    """Take OTLP over gRPC where ``server.otlp_grpc_port`` is set.

    Raises ``ConfigError`` for a port that cannot be had, or without the extra that it needs.
    """
    server = services.settings.server
    if not server.otlp_grpc_port or services.otlp is None:
        return
    try:
        from aiops.api.otlp_grpc import OtlpGrpcServer
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"server.otlp_grpc_port needs the package '{error.name}', which is not installed.",
            hint="Install aiops-assistant[otlp-grpc].",
        ) from error
    receiver = OtlpGrpcServer(services, services.otlp)
    lifetime.on_stop(receiver.stop)
    receiver.start(server.host, server.otlp_grpc_port)
