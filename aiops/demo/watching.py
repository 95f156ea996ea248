"""The demo's settings: where its data lies, what it watches, and where its alerts go."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Literal

from aiops.core.errors import ConfigError, FolderInUse
from aiops.settings import (
    AgentSettings,
    BudgetSettings,
    ConnectorSettings,
    CostSettings,
    DetectionSettings,
    IncidentSettings,
    PluginSettings,
    ReceiverSettings,
    ServerSettings,
    Settings,
    WatchSettings,
    default_data_dir,
)

STEP_S = 5.0
WINDOW = "30s"
TRAIN_S = 2 * 3600.0
MARK = ".aiops-demo"
_DURATION = "http_server_request_duration_seconds"
_SHOP = 'simulated="true"'
_USED = ',state="used"'
_BY = "by (service_name, simulated)"
Kind = Literal["latency", "errors", "traffic", "saturation"]
Direction = Literal["up", "down", "both"]


def watch_list() -> tuple[WatchSettings, ...]:
    """Rate, errors, duration and saturation per simulated service, at the demo's step.

    The default list would watch this machine too, whose load during a demo is no fault of the shop.
    """
    count, buckets = f"{_DURATION}_count", f"{_DURATION}_bucket"
    requests, failed = _rate(count), _rate(count, ',http_response_status_code=~"5.."')
    p95 = f"histogram_quantile(0.95, sum by (service_name, simulated, le) (rate({buckets}{{{_SHOP}}}[{WINDOW}])))"
    memory = f"{_sum('container_memory_working_set_bytes')} / {_sum('container_spec_memory_limit_bytes')}"
    pool = f"{_sum('db_client_connections_usage', _USED)} / {_sum('db_client_connections_max')}"
    entries: tuple[tuple[str, str, Kind, Direction, str, float, float], ...] = (
        ("request_rate", requests, "traffic", "down", "req/s", 0.2, 0.4),
        ("error_ratio", f"{failed} / {requests}", "errors", "up", "ratio", 0.02, 0.5),
        ("latency_p95", p95, "latency", "up", "s", 0.005, 0.4),
        ("container_cpu", _rate("container_cpu_usage_seconds_total"), "saturation", "up", "cores", 0.1, 0.5),
        ("container_memory_ratio", memory, "saturation", "up", "ratio", 0.1, 0.2),
        ("db_pool_ratio", pool, "saturation", "up", "ratio", 0.15, 0.3),
        ("queue_depth", _sum("messaging_queue_depth"), "saturation", "up", "messages", 20.0, 0.5),
    )
    return tuple(
        WatchSettings(
            name=name, query=query, step_s=STEP_S, kind=kind, direction=direction, unit=unit, least=least, share=share
        )
        for name, query, kind, direction, unit, least, share in entries
    )


def _sum(metric: str, more: str = "") -> str:
    return f"sum {_BY} ({metric}{{{_SHOP}{more}}})"


def _rate(metric: str, more: str = "") -> str:
    return f"sum {_BY} (rate({metric}{{{_SHOP}{more}}}[{WINDOW}]))"


def demo_settings(data_dir: Path, port: int, webhook_url: str, webhook_secret: str) -> Settings:
    """The service's settings for one run of the demo; no configuration file is read."""
    receiver = ReceiverSettings.model_validate(
        {"plugin": "webhook", "url": webhook_url, "secret": webhook_secret, "pages": False}
    )
    host = PluginSettings.model_validate({"plugin": "host", "interval_s": 1.0})
    return Settings(
        data_dir=data_dir,
        server=ServerSettings(port=port),
        connectors=ConnectorSettings(telemetry={"host": host}),
        detection=DetectionSettings(step_s=STEP_S, watch=watch_list(), train_window_s=TRAIN_S),
        incidents=IncidentSettings(false_alarms_per_day=0.2),
        receivers={"demo": receiver},
        agent=AgentSettings(planner="offline"),
        cost=CostSettings(budgets={"shop": BudgetSettings(amount=16000.0, where={"BillingAccountId": "shop"})}),
    )


def fresh_folder(path: Path | None) -> Path:
    """The demo's own folder, emptied. Raises ``ConfigError`` for a folder that is not the demo's."""
    folder = path or default_data_dir().with_name("aiops-demo")
    try:
        if _in_use(folder):
            raise FolderInUse(f"Another demo runs on {folder}.", hint="Stop it, or choose another folder.")
        if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
            raise ConfigError(f"{folder} holds files of something else than the demo.", hint="Choose another folder.")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        raise ConfigError(
            f"The demo's folder {folder} cannot be written: {os.strerror(error.errno or 0)}.",
            hint="Choose another with --data-dir.",
        ) from error
    return folder


def _in_use(folder: Path) -> bool:
    try:
        os.kill(int(json.loads((folder / "service.json").read_text(encoding="utf-8"))["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def free_port(wanted: int) -> int:
    """``wanted`` if it is free on loopback, else one that is."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise ConfigError("No port is free on 127.0.0.1.")
