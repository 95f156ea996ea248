"""A season changes: drift is found, confirmed, answered by a training whose result is a challenger, and over when
that is promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from aiops.core.anomaly import Batch, Judgement, Mark
from aiops.core.errors import InvalidInput, NotFound
from aiops.core.model import DriftReport, ModelVersion
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.models.compare import compare
from aiops.models.datasets import DatasetStore
from aiops.models.drift import DriftWatch
from aiops.models.loaded import Loaded, LoadedModels
from aiops.models.registry import CHALLENGER
from aiops.models.training import Request, Trainer
from aiops.settings.models import DriftSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.datasets import DatasetRepository
from aiops.store.state.drift import DriftRepository
from tests.unit.models.serving_house import Ground

STEP, DAY = 300_000, 86_400_000
MONDAY = 1_700_438_400_000
SERIES, TRAINED = 20, 7
IDS = tuple(f"series-{n}" for n in range(SERIES))
GROUPS = tuple(f"service-{n // 5}" for n in range(SERIES))
CHANGE = MONDAY + 10 * DAY
"""When the daily peak moves from noon to midnight on half of the series."""


def values(start_ms: int, end_ms: int, *, changes: bool = True) -> Batch:
    """Noise with memory about a daily rhythm, the same at the same times."""
    times = np.arange(start_ms, end_ms, STEP, dtype=np.int64)
    first = MONDAY - 8 * DAY
    noise = np.random.default_rng(7).standard_normal((SERIES, (MONDAY + 30 * DAY - first) // STEP))
    for t in range(1, noise.shape[1]):
        noise[:, t] += 0.6 * noise[:, t - 1]
    season = 4 * np.sin(2 * np.pi * times / DAY)[None] * np.ones((SERIES, 1))
    if changes:
        season[: SERIES // 2] *= np.where(times >= CHANGE, -1.0, 1.0)
    place = (times - first) // STEP
    found = (50 + season + noise[:, place]).astype(np.float32)
    return Batch(found, np.ones(found.shape, bool), times, STEP, IDS, GROUPS)


class House:
    """The parts of the product that drift concerns, on a clock of their own."""

    def __init__(self, folder: Path, ground: Ground, *, changes: bool = True) -> None:
        self.now = MONDAY
        self.changes = changes
        self.marks: list[Mark] = []
        self.asked: list[tuple[str, str]] = []
        self.registry, self.name = ground.registry, ground.name()
        database = StateDatabase(sqlite_url(folder))
        database.upgrade()
        self.datasets = DatasetStore(folder, DatasetRepository(database), clock=lambda: self.now)
        detector = cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("test")))
        self.trainer = Trainer(self.registry, detector, datasets=self.datasets, clock=lambda: self.now)
        self.models = LoadedModels(
            self.registry, lambda _: detector, lambda state: np.full(len(state.series_ids), 2.0), 4
        )
        self.watch = DriftWatch(
            self.registry,
            self.models.get,
            self.datasets.load,
            self.recent,
            DriftRepository(database),
            DriftSettings(),
            marks=lambda _: self.marks,
            retrain=self.retrain,
            clock=lambda: self.now,
        )

    def recent(self, loaded: Loaded, query: str, start_ms: int, end_ms: int) -> Batch:
        return values(start_ms, end_ms, changes=self.changes)

    def train(self, request: Request) -> None:
        window = values(self.now - TRAINED * DAY, self.now, changes=self.changes)
        self.trainer.train(self.name, window, query="up", calibrate=lambda batch, score: {}, request=request)

    def retrain(self, model: str, reason: str) -> None:
        self.asked.append((model, reason))
        self.train(Request(by="system:drift", reason=reason, as_challenger=True))

    def day(self, number: int) -> DriftReport:
        self.now = MONDAY + number * DAY
        return self.watch.check(self.name)

    def champion(self) -> ModelVersion:
        found = self.registry.get(self.name)
        assert found is not None
        return found


def signal(report: DriftReport, name: str) -> bool:
    return next(one.drifted for one in report.signals if one.name == name)


def test_changed_season_ends_in_a_promoted_challenger(tmp_path: Path, ground: Ground) -> None:
    house = House(tmp_path, ground)
    house.train(Request())
    first = house.champion()
    quiet = [house.day(number) for number in (1, 5, 10)]
    assert [report.drifted for report in quiet] == [False] * 3
    assert quiet[0].series == quiet[0].tested == SERIES

    seen = house.day(11)
    assert seen.drifted
    assert not seen.confirmed
    assert not house.asked
    assert signal(seen, "inputs")
    assert {one.series for one in seen.worst} <= set(IDS[: SERIES // 2])
    assert len(seen.worst) >= SERIES // 4

    again = house.day(12)
    assert again.confirmed
    assert again.action.startswith("training asked for")
    assert house.asked[0][0] == house.name
    assert "inputs" in house.asked[0][1]
    made = house.registry.get(house.name, CHALLENGER)
    assert made is not None
    assert dict(made.parameters)["by"] == "system:drift"
    assert house.champion() == first  # a challenger, never a champion

    assert house.day(13).action.startswith("rest")
    assert len(house.asked) == 1
    for number in range(14, 19):
        house.day(number)
    assert len(house.asked) == 3  # every 72 hours while it lasts
    newest = house.registry.get(house.name, CHALLENGER)
    assert newest is not None
    assert house.champion() == first

    told = compare(
        house.models.get(first),
        house.models.get(newest),
        house.recent,
        (),
        hours=24,
        label="half",
        labels=lambda key: {"half": "changed" if IDS.index(key) < SERIES // 2 else "same"},
        clock=lambda: house.now,
    )
    whole, changed, same = told.agreement
    assert (changed.group, same.group, whole.series) == ("changed", "same", SERIES)
    assert changed.correlation < same.correlation
    assert changed.first_above[0] > 3 * max(changed.second_above[0], 1e-9)

    house.registry.promote(house.name, newest.version)
    after = house.day(19)
    assert after.version == newest.reference
    assert not after.drifted
    assert [one.time_ms for one in house.watch.history(house.name, 2)] == [MONDAY + 19 * DAY, MONDAY + 18 * DAY]


def test_false_alarms_that_people_mark_are_drift(tmp_path: Path, ground: Ground) -> None:
    house = House(tmp_path, ground, changes=False)
    house.train(Request())
    reference = house.champion().reference

    def mark(number: int, said: Judgement) -> Mark:
        return Mark(str(number), said, "p", MONDAY, "up", (), "", MONDAY, MONDAY, reference)

    house.marks = [mark(n, Judgement.FALSE) for n in range(9)]
    assert not house.day(1).drifted  # too few
    house.marks = [mark(n, Judgement.FALSE if n < 28 else Judgement.TRUE) for n in range(30)]
    report = house.day(2)
    assert signal(report, "confirmed precision")
    assert report.drifted


def test_what_cannot_be_checked_says_why(tmp_path: Path, ground: Ground) -> None:
    house = House(tmp_path, ground)
    with pytest.raises(NotFound, match="champion"):
        house.watch.check(house.name)
    house.train(Request())
    house.now += DAY
    empty = values(house.now - DAY, house.now)
    empty.mask[:] = False
    house.recent = lambda *_: empty  # type: ignore[method-assign]
    silent = DriftWatch(
        house.registry, house.models.get, house.datasets.load, house.recent, cast(Any, None), DriftSettings(),
        clock=lambda: house.now,
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="has values now"):
        silent.check(house.name)


def test_last_hours_of_a_young_model_are_compared_with_the_rest_of_its_window(tmp_path: Path, ground: Ground) -> None:
    house = House(tmp_path, ground, changes=False)
    house.train(Request())
    report = house.day(0)
    assert (report.reference_start_ms, report.reference_end_ms) == (MONDAY - TRAINED * DAY, MONDAY - DAY)
    assert (report.start_ms, report.end_ms) == (MONDAY - DAY, MONDAY)
    assert not report.drifted
