"""Detection over the real store and PromQL engine, on the simulated shop's telemetry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from aiops.core.anomaly import Anomaly
from aiops.core.incident import Alert
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.core.principal import SYSTEM
from aiops.demo.fault import KINDS, draw
from aiops.demo.shop import ShopSource
from aiops.incidents.detection import DetectionLoop
from aiops.incidents.watch import default_watch
from aiops.models.registry import ModelRegistry
from aiops.models.serving import Scorer
from aiops.models.training import Trainer
from aiops.promql.engine import PromqlEngine
from aiops.promql.parse import inject_matchers
from aiops.settings import DetectionSettings, IncidentSettings, PromqlSettings, StoreSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.detection import DetectionRepository
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

STEP_MS = 5000
START = 1_795_521_000_000
HISTORY_MS = 2 * 3_600_000


class Inbox:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def submit(self, alerts: Sequence[Alert]) -> None:
        self.alerts.extend(alerts)


class Live:
    """A shop with two hours of history, the default watch list trained on it, and a clock to be moved."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: self.now))
        self.engine = PromqlEngine(self.store, PromqlSettings(), lambda: self.now)
        self.shop = ShopSource(3, lambda: self.now)
        for collected in self.shop.backfill(START - HISTORY_MS, START):
            self.store.append(collected)
        state = StateDatabase(sqlite_url(folder))
        state.upgrade()
        self.inbox = Inbox()
        detector = cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("test")))
        self.loop = DetectionLoop(
            self.engine,
            self.inbox,
            Trainer(ModelRegistry(folder), detector),
            Scorer(detector),
            DetectionRepository(state),
            DetectionSettings(step_s=STEP_MS / 1000, train_window_s=HISTORY_MS / 1000),
            IncidentSettings(),
            lambda: self.now,
            narrow=inject_matchers,
            watch=default_watch(STEP_MS, 30_000),
            lag_ms=0,
        )
        self.watched = self.loop.train(self.now)

    def run(self, seconds: int) -> list[Anomaly]:
        out: list[Anomaly] = []
        for _ in range(seconds * 1000 // STEP_MS):
            self.now += STEP_MS
            self.store.append(self.shop.live(self.now))
            out += self.loop.run_once(self.now)
        return out


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = Live(tmp_path_factory.mktemp("live"))
    yield live
    live.loop.stop()
    live.store.database.close()


def test_the_default_list_finds_the_shop_and_is_silent_while_it_is_well(live: Live) -> None:
    assert live.watched >= 30
    assert live.loop.status().refused == ()
    assert live.run(300) == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_of_fault_is_seen_within_a_minute_and_passes(live: Live, kind: str) -> None:
    fault = draw(3, kind)
    assert fault is not None
    live.shop.inject(fault, live.now)
    found = live.run(60)
    assert found
    assert all(anomaly.ended_ms is None for anomaly in found[:1])
    assert all(anomaly.series and anomaly.model.startswith("anomaly-5s/") for anomaly in found)
    block = live.engine.range(found[0].query, live.now - 60_000, live.now, STEP_MS, SYSTEM).block
    assert [dict(labels) for labels in block.labels] == [dict(found[0].series)]
    live.shop.fault = None
    live.run(240)
    assert live.loop.status().groups[0].open == 0
    assert not live.inbox.alerts[-1].firing
