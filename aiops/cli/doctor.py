"""``aiops doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aiops.cli.options import Config, DataDir, Json, group_of, settings_of
from aiops.core.errors import AiopsError

if TYPE_CHECKING:
    from aiops.settings import Settings

app = group_of()
Check = tuple[str, bool, str]
REACH_S = 5.0


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could bind the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@app.command()
def doctor(config: Config = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Check Python, packages, configuration, data folder, port and the configured Prometheus.

    Exits 1 when a check fails.
    """
    checks = list(_checks(config, data_dir))
    if json:
        from aiops.cli.output import print_json

        print_json([{"check": name, "ok": ok, "detail": detail} for name, ok, detail in checks])
    else:
        for name, ok, detail in checks:
            print(f"{'✓' if ok else '✗'} {name}: {detail}")
    if not all(ok for _, ok, _ in checks):
        raise typer.Exit(1)


def _checks(config: Path | None, data_dir: Path | None) -> Iterator[Check]:
    yield "python", sys.version_info >= (3, 11), sys.version.split()[0]
    yield _packages()
    try:
        settings = settings_of(config, data_dir)
    except AiopsError as error:
        yield "configuration", False, str(error)
        return
    yield "configuration", True, "valid"
    yield _folder(settings.data_dir)
    yield _port(settings)
    for name, source in settings.connectors.telemetry.items():
        if url := str(source.options.get("url", "")):
            yield _reach(name, url)


def _packages() -> Check:
    missing = []
    for line in importlib.metadata.requires("aiops-assistant") or ():
        requirement, _, marker = line.partition(";")
        if "extra" in marker:
            continue
        name = requirement.strip().split("[")[0]
        for mark in "<>=!~ ":
            name = name.split(mark)[0]
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return "packages", not missing, f"missing: {', '.join(missing)}" if missing else "all installed"


def _folder(path: Path) -> Check:
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return "data folder", False, f"{nearest} is not a folder"
    ok = os.access(nearest, os.W_OK | os.X_OK)
    return "data folder", ok, f"{path} {'can be written' if ok else 'cannot be written'}"


def _port(settings: Settings) -> Check:
    from aiops.cli.client import running_service

    place = f"{settings.server.host}:{settings.server.port}"
    if port_is_free(settings.server.host, settings.server.port):
        return "port", True, f"{place} is free"
    if url := running_service(settings.data_dir):
        return "port", True, f"the service runs at {url}"
    return "port", False, f"{place} is in use by another program"


def _reach(name: str, url: str) -> Check:
    import httpx

    check = f"source {name}"
    try:
        reply = httpx.get(f"{url.rstrip('/')}/-/ready", timeout=REACH_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return check, False, f"{url} cannot be reached: {str(error) or type(error).__name__}"
    return check, reply.is_success, f"{url} answers {reply.status_code}"
