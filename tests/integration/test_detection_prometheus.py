"""Detection over the user's own Prometheus: what it watches, and what it asks of the server by its own count."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from aiops.core.incident import Alert
from aiops.core.plugins import build
from aiops.core.ports import Detector, MetricQuerier, PluginContext
from aiops.incidents.detection import DetectionLoop
from aiops.incidents.source_load import BudgetedQuerier
from aiops.incidents.watch import default_watch
from aiops.models.registry import ModelRegistry
from aiops.models.serving import Scorer
from aiops.models.training import Trainer
from aiops.promql.parse import inject_matchers
from aiops.settings import DetectionSettings, IncidentSettings, LoadSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.detection import DetectionRepository
from tests.integration import servers

STEP_MS = 1000
RATE = 5.0
LEAST_POINTS = 20


class Inbox:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def submit(self, alerts: Sequence[Alert]) -> None:
        self.alerts.extend(alerts)


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[servers.Server]:
    exporter = servers.start_node_exporter()
    server = servers.start_prometheus(tmp_path, [exporter.address])
    yield server
    server.stop()
    exporter.stop()


def queries(server: servers.Server) -> float:
    """Queries that the server has counted itself."""
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("prometheus_http_requests_total")
        and any(f'handler="/api/v1/{name}"' in line for name in ("query", "query_range", "label/:name/values"))
    )


def watched(loop: DetectionLoop) -> set[str]:
    return {one.entry.metric for group in loop.fleet.groups for one in group.series}


@pytest.mark.server
def test_the_default_list_is_watched_over_prometheus_within_the_load_budget(
    tmp_path: Path, prometheus: servers.Server
) -> None:
    source = build("connectors.telemetry", "prometheus", {"url": prometheus.url}, PluginContext("prod"))
    querier = BudgetedQuerier(cast(MetricQuerier, source), LoadSettings(queries_per_s=RATE))
    state = StateDatabase(sqlite_url(tmp_path))
    state.upgrade()
    detector = cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("test")))
    loop = DetectionLoop(
        querier,
        Inbox(),
        Trainer(ModelRegistry(tmp_path), detector),
        Scorer(detector),
        DetectionRepository(state),
        DetectionSettings(step_s=STEP_MS / 1000, train_window_s=120, min_points=LEAST_POINTS),
        IncidentSettings(),
        narrow=inject_matchers,
        watch=default_watch(STEP_MS, 10_000),
        lag_ms=0,
    )
    wanted = {"cpu busy ratio", "memory used ratio", "filesystem used ratio"}
    deadline = time.monotonic() + 90
    while not wanted <= watched(loop):
        assert time.monotonic() < deadline
        now = round(time.time() * 1000)
        _ = loop.join_new(now) if loop.trained else loop.train(now)
        time.sleep(2)
    begun, before = time.monotonic(), queries(prometheus)
    for _ in range(20):
        loop.run_once(round(time.time() * 1000))
        time.sleep(0.2)
    seconds, asked = time.monotonic() - begun, queries(prometheus) - before
    status = loop.status()
    loop.stop()
    cast(Any, source).close()
    assert status.refused == ()
    assert wanted <= watched(loop)
    assert 0 < asked <= RATE * (seconds + 10) + 3
    assert f"of {RATE:g} queries/s" in status.load
