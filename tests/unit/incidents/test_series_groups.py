from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from aiops.core.errors import ConfigError
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.incidents.detection import DetectionLoop
from aiops.incidents.readings import series_id
from aiops.incidents.series_groups import SeriesGroups
from aiops.models.registry import ModelRegistry
from aiops.models.serving import Scorer
from aiops.models.training import Request, Trainer
from aiops.settings import DetectionSettings, IncidentSettings, TrainingGroupSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.detection import DetectionRepository
from tests.unit.incidents.test_detection import LATENCY, RATE, START, STEP, Inbox, Shop

CHECKOUT = {"checkout": TrainingGroupSettings(match=('service_name="checkout"',))}


def key(entry: str, service: str) -> str:
    return series_id(entry, (("service_name", service), ("simulated", "true")))


def test_the_first_group_that_fits_takes_a_series() -> None:
    groups = SeriesGroups(
        {
            "slow": TrainingGroupSettings(match=('service_name=~"check.*"',), watch=("latency*",)),
            "checks": TrainingGroupSettings(match=('service_name=~"check.*"',)),
        }
    )
    assert groups.names == ("slow", "checks", "")
    assert groups.of(key("latency_p95", "checkout")) == "slow"
    assert groups.of(key("request_rate", "checkout")) == "checks"
    assert groups.of(key("request_rate", "cart")) == ""
    assert groups.entries("slow", (LATENCY, RATE)) == (LATENCY,)
    assert groups.entries("", (LATENCY, RATE)) == (LATENCY, RATE)


@pytest.mark.parametrize(
    "named",
    [{"Big Name": TrainingGroupSettings()}, {"a": TrainingGroupSettings(match=("service_name ~ x",))}],
)
def test_a_group_that_cannot_be_read_stops_the_start(named: dict[str, TrainingGroupSettings]) -> None:
    with pytest.raises(ConfigError, match=r"models\.training\.groups"):
        SeriesGroups(named)


class Bench:
    """A loop with groups over the shop."""

    def __init__(self, folder: Path, named: dict[str, TrainingGroupSettings]) -> None:
        database = StateDatabase(sqlite_url(folder))
        database.upgrade()
        self.now = START
        self.shop, self.inbox = Shop(), Inbox()
        self.registry = ModelRegistry(folder)
        detector = cast(Detector[Any], build("detectors", "ridge_ar", {"device": "cpu"}, PluginContext("test")))
        self.loop = DetectionLoop(
            self.shop,
            self.inbox,
            Trainer(self.registry, detector),
            Scorer(detector),
            DetectionRepository(database),
            DetectionSettings(step_s=STEP / 1000, train_window_s=0.3 * 86400, min_points=120),
            IncidentSettings(),
            lambda: self.now,
            watch=(LATENCY, RATE),
            lag_ms=0,
            named=named,
        )

    def run(self, steps: int) -> list[Any]:
        out: list[Any] = []
        for _ in range(steps):
            self.now += STEP
            out += self.loop.run_once(self.now)
        return out


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    ModelRegistry(folder).names()
    return folder


@pytest.fixture
def folder(tmp_path: Path, prepared: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "data"))


def test_each_group_has_its_own_model_and_its_own_series(folder: Path) -> None:
    bench = Bench(folder, CHECKOUT)
    assert bench.loop.models == ("anomaly-15s-checkout", "anomaly-15s")
    bench.loop.train(bench.now)
    assert bench.registry.names() == ["anomaly-15s", "anomaly-15s-checkout"]
    watched = {g.model: {one.id for one in g.series} for g in bench.loop.fleet.groups}
    assert watched["anomaly-15s-checkout"] == {key(e, "checkout") for e in ("latency_p95", "request_rate")}
    assert watched["anomaly-15s"] == {key(e, s) for e in ("latency_p95", "request_rate") for s in ("cart", "search")}
    bench.shop.asked.clear()
    bench.run(1)
    assert len(bench.shop.asked) == 2  # each query once, whatever the number of groups
    bench.run(30)
    bench.shop.factor["latency", "checkout"] = (bench.now + STEP, 8.0)
    told = bench.run(6)
    assert {anomaly.model.split("/")[0] for anomaly in told} == {"anomaly-15s-checkout"}

    bench.loop.train(bench.now, request=Request(reason="drift", as_challenger=True), model="anomaly-15s")
    assert [v.aliases for v in bench.registry.versions("anomaly-15s")] == [("challenger",), ("champion",)]
    assert len(bench.registry.versions("anomaly-15s-checkout")) == 1


def test_a_group_that_comes_later_takes_its_series_from_the_rest(folder: Path) -> None:
    first = Bench(folder, {})
    first.loop.train(first.now)
    later = Bench(folder, CHECKOUT)
    assert not later.loop.restore()
    own, rest = later.loop.fleet.groups
    assert own.judge is None
    assert {one.id for one in rest.series} == {
        key(e, s) for e in ("latency_p95", "request_rate") for s in ("cart", "search")
    }
    later.loop.train(later.now, model=own.model)
    assert {one.id for one in own.series} == {key(e, "checkout") for e in ("latency_p95", "request_rate")}
