"""Prometheus' own tools and client library against our HTTP API."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from prometheus_api_client import PrometheusConnect

from aiops.access.keys import KeyService
from aiops.api.app import create_app
from aiops.api.services import Services
from aiops.core.ports import Collected
from aiops.core.series import SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.settings import Settings, StoreSettings
from aiops.store.state.audit import AuditLog
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.keys import KeyRepository
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration.servers import binary, free_port

NOW = 1_764_000_000_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("service")
    state = StateDatabase(sqlite_url(Path(folder)))
    state.upgrade()
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW))
    ts = NOW - 600_000 + np.arange(40, dtype=np.int64) * 15_000
    rows = [(labels_of({"__name__": "a_total", "zone": z}), ts, np.arange(40.0) * k) for k, z in enumerate("xyz", 1)]
    store.append(Collected(samples=SampleBlock.build(rows)))
    audit = AuditLog(state, lambda: NOW)
    services = Services(
        settings=Settings(data_dir=folder),
        clock=lambda: NOW,
        store=store,
        engine=PromqlEngine(store, clock=lambda: NOW),
        keys=KeyService(KeyRepository(state), lambda: NOW, audit),
        audit=audit,
    )
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(services), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    store.close()
    state.close()


@pytest.mark.server("prometheus")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["instant", "--time=2025-11-24T16:00:00Z", "{url}", "sum(a_total)"], "{} => 234 @[1764000000]"),
        (["range", "--start=1763999880", "--end=1764000000", "--step=1m", "{url}", "sum(rate(a_total[1m]))"], "0.4"),
        (["series", "--match=a_total", "--start=1763999000", "--end=1764000000", "{url}"], 'zone="y"'),
        (["labels", "{url}", "zone"], "x\ny\nz"),
    ],
)
def test_promtool(url: str, arguments: list[str], words: str) -> None:
    command = [binary("promtool"), "query", *(a.replace("{url}", url) for a in arguments)]
    got = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert got.returncode == 0, got.stderr
    assert words in got.stdout


def test_promtool_shows_our_error(url: str) -> None:
    got = subprocess.run(
        [binary("promtool"), "query", "instant", url, "sum("], capture_output=True, text=True, timeout=30, check=False
    )
    assert got.returncode != 0
    assert "unclosed left parenthesis" in got.stderr


def test_prometheus_api_client(url: str) -> None:
    with PrometheusConnect(url=url, method="POST") as client:
        assert client.all_metrics() == ["a_total"]
        assert client.get_label_values("zone") == ["x", "y", "z"]
        (row,) = client.custom_query('a_total{zone="y"}')
        assert row["value"] == [NOW // 1000, "78"]
        end = datetime.fromtimestamp(NOW / 1000, UTC)
        got = client.custom_query_range("a_total", datetime.fromtimestamp(NOW / 1000 - 60, UTC), end, "30")
        assert len(got) == 3
        assert [len(r["values"]) for r in got] == [3, 3, 3]
