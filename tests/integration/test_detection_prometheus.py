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
from aiops.core.principal import SYSTEM
from aiops.incidents.detection import DetectionLoop
from aiops.incidents.source_load import BudgetedQuerier
from aiops.models.registry import ModelRegistry
from aiops.models.serving import Scorer
from aiops.models.training import Trainer
from aiops.promql.parse import inject_matchers
from aiops.settings import DetectionSettings, IncidentSettings, LoadSettings, Settings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.detection import DetectionRepository
from aiops.wiring.watching import discovery
from tests.integration import servers

STEP_MS = 1000
RATE = 5.0
LEAST_POINTS = 20
FOUND = 8


class Inbox:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def submit(self, alerts: Sequence[Alert]) -> None:
        self.alerts.extend(alerts)


RULES = """
groups:
- name: people
  interval: 1s
  rules:
  - {record: "instance:load:share", expr: "node_load1 / 4"}
  - {alert: FewFilesLeft, expr: "process_max_fds - process_open_fds < 100 and on () vector(1)"}
  - {alert: Gone, expr: "up == 0"}
"""


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[servers.Server]:
    exporter = servers.start_node_exporter()
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    server = servers.start_prometheus(tmp_path, [exporter.address], rules=rules)
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
def test_what_a_prometheus_has_is_watched_within_the_load_budget(tmp_path: Path, prometheus: servers.Server) -> None:
    source = build("connectors.telemetry", "prometheus", {"url": prometheus.url}, PluginContext("prod"))
    querier = BudgetedQuerier(cast(MetricQuerier, source), LoadSettings(queries_per_s=RATE))
    state = StateDatabase(sqlite_url(tmp_path))
    state.upgrade()
    detector = cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("test")))
    settings = Settings(
        detection=DetectionSettings(
            step_s=STEP_MS / 1000, scrape_interval_s=2.5, train_window_s=120, min_points=LEAST_POINTS, watch_found=FOUND
        )
    )

    def make() -> DetectionLoop:
        return DetectionLoop(
            querier,
            Inbox(),
            Trainer(ModelRegistry(tmp_path), detector),
            Scorer(detector),
            DetectionRepository(state),
            settings.detection,
            IncidentSettings(),
            narrow=inject_matchers,
            lag_ms=0,
            discover=discovery(settings, querier, source),
        )

    while not cast(MetricQuerier, source).instant("node_load1", round(time.time() * 1000), SYSTEM).block.labels:
        time.sleep(0.5)
    loop = make()
    wanted = {
        "cpu busy ratio",
        "memory used ratio",
        "filesystem used ratio",
        "instance:load:share",
        "FewFilesLeft condition",
        "host memory committed",
    }
    deadline = time.monotonic() + 90
    while not wanted <= watched(loop):
        assert time.monotonic() < deadline, wanted - watched(loop)
        now = round(time.time() * 1000)
        _ = loop.join_new(now) if loop.trained else loop.train(now)
        time.sleep(2)
    begun, before = time.monotonic(), queries(prometheus)
    for _ in range(6):
        loop.run_once(round(time.time() * 1000))
        time.sleep(0.2)
    seconds, asked = time.monotonic() - begun, queries(prometheus) - before
    status = loop.status()
    loop.stop()
    assert status.refused == ()
    found = {entry.metric: entry for group in loop.fleet.groups for entry in group.entries if entry.found}
    assert len(found) == FOUND
    assert found["FewFilesLeft condition"].query == "process_max_fds - process_open_fds"
    assert found["FewFilesLeft condition"].direction == "down"
    assert 0 < asked <= RATE * (seconds + 10) + 3
    assert f"of {RATE:g} queries/s" in status.load
    again = make()
    assert again.restore()
    assert {e.metric for group in again.fleet.groups for e in group.entries if e.found} == set(found)
    assert watched(again) & set(found)
    cast(Any, source).close()
