"""Prometheus' own tools and client library against our HTTP API."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
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
from tests.integration.servers import binary, free_port, start

NOW = 1_764_000_000_000


@contextmanager
def serving(folder: Path, held: Collected, now_ms: int) -> Iterator[str]:
    """The API over a store in memory that holds ``held``, at ``now_ms``; gives its URL."""
    state = StateDatabase(sqlite_url(folder))
    state.upgrade()
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: now_ms))
    store.append(held)
    audit = AuditLog(state, lambda: now_ms)
    services = Services(
        settings=Settings(data_dir=folder),
        clock=lambda: now_ms,
        store=store,
        engine=PromqlEngine(store, clock=lambda: now_ms),
        keys=KeyService(KeyRepository(state), lambda: now_ms, audit),
        audit=audit,
    )
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(services), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
        store.close()
        state.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ts = NOW - 600_000 + np.arange(40, dtype=np.int64) * 15_000
    rows = [(labels_of({"__name__": "a_total", "zone": z}), ts, np.arange(40.0) * k) for k, z in enumerate("xyz", 1)]
    held = Collected(samples=SampleBlock.build(rows))
    with serving(Path(tmp_path_factory.mktemp("service")), held, NOW) as found:
        yield found


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


RECORDING = """
groups:
- name: g
  interval: 60s
  rules:
  - {record: 'zone:a:rate', expr: 'sum by (zone) (rate(a_total[2m]))', labels: {by: vmalert}}
"""


@pytest.mark.server("victoria-metrics")
def test_vmalert_reads_from_us_and_records_into_us(url: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RECORDING)
    moments = [datetime.fromtimestamp(NOW / 1000 - ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for ago in (300, 0)]
    command = [
        binary("vmalert"), f"-rule={tmp_path}/rules.yml", f"-datasource.url={url}", f"-remoteWrite.url={url}",
        f"-replay.timeFrom={moments[0]}", f"-replay.timeTo={moments[1]}", "-replay.rulesDelay=10ms",
        f"-httpListenAddr=127.0.0.1:{free_port()}", "-remoteWrite.flushInterval=100ms",
    ]  # fmt: skip
    got = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert got.returncode == 0, got.stderr[-2000:]
    query = {"query": '{__name__="zone:a:rate"}[10m]', "time": NOW // 1000}
    rows = httpx.get(f"{url}/api/v1/query", params=query, trust_env=False).json()["data"]["result"]
    assert {row["metric"]["zone"] for row in rows} == {"x", "y", "z"}
    assert all(row["metric"]["by"] == "vmalert" and len(row["values"]) >= 2 for row in rows), rows
    (y,) = (row for row in rows if row["metric"]["zone"] == "y")
    assert float(y["values"][-1][1]) == pytest.approx(2 / 15)


@pytest.mark.server("prometheus")
def test_another_prometheus_federates_from_us(tmp_path: Path) -> None:
    now = time.time_ns() // 1_000_000
    held = Collected(
        samples=SampleBlock.at(
            now - 5_000,
            [
                (labels_of({"__name__": "a:b", "zone": 'q"\\u', "instance": "i"}), 1.5),
                (labels_of({"__name__": "c", "job": "kept"}), float("inf")),
            ],
        )
    )
    with serving(tmp_path, held, now) as ours:
        port = free_port()
        (tmp_path / "p.yml").write_text(
            "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: f\n  honor_labels: true\n"
            "  metrics_path: /federate\n  params: {'match[]': ['{__name__=\"a:b\"}', 'c']}\n"
            f"  static_configs: [{{targets: ['{ours.removeprefix('http://')}']}}]\n"
        )
        arguments = [
            f"--config.file={tmp_path}/p.yml", f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        server = start("prometheus", arguments, port, "/-/ready", tmp_path / "prometheus.log")
        try:
            found: dict[str, Any] = {}
            deadline = time.monotonic() + 20
            while len(found) < 2:
                assert time.monotonic() < deadline, httpx.get(f"{server.url}/api/v1/targets", trust_env=False).text
                time.sleep(0.2)
                query = {"query": '{__name__=~"a:b|c"}', "time": now / 1000 + 1}
                rows = httpx.get(f"{server.url}/api/v1/query", params=query, trust_env=False).json()["data"]["result"]
                found = {row["metric"]["__name__"]: row for row in rows}
        finally:
            server.stop()
    assert found["a:b"]["metric"] == {"__name__": "a:b", "zone": 'q"\\u', "instance": "i", "job": "f"}
    assert (found["a:b"]["value"][1], found["c"]["value"][1], found["c"]["metric"]["job"]) == ("1.5", "+Inf", "kept")
