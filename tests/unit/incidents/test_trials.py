from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiops.core.anomaly import Anomaly, Batch, Scores, State
from aiops.core.model import DeploymentState, ModelVersion, Strategy
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.core.principal import SYSTEM
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.model_faults import ModelFaults
from aiops.incidents.trials import Trials
from aiops.models.deployments import Deployments, share_of
from aiops.models.loaded import LoadedModels
from aiops.settings import IncidentSettings
from aiops.settings.models import DeploymentSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.deployments import DeploymentRepository
from aiops.store.state.incidents import IncidentRepository
from tests.unit.incidents.test_detection import STEP, Bench, databases, folder  # noqa: F401  (fixtures)

MODEL = "anomaly-15s"


class Alarming(Detector[Any]):
    """The fusion, but whatever it sees is far from what it expects, in the direction that is bad."""

    def __init__(self, inner: Detector[Any]) -> None:
        super().__init__(inner.options, PluginContext("alarming"))
        self._inner = inner

    def fit(self, batch: Batch) -> State:
        return self._inner.fit(batch)

    def _loud(self, ids: Sequence[str], scores: Scores) -> Scores:
        factors = [[0.01] if "latency" in key else [100.0] for key in ids]
        far = np.array(factors, np.float32) * np.abs(scores.expected)
        return replace(scores, score=scores.score + np.float32(1000), expected=far)

    def score(self, state: State, batch: Batch) -> Scores:
        return self._loud(batch.series_ids, self._inner.score(state, batch))

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        after, scores = self._inner.update(state, tick)
        return after, self._loud(tick.series_ids, scores)


class Stage:
    """The bench with two versions, trials and incidents; version 3 is planted."""

    def __init__(self, place: Path) -> None:
        self.bench = bench = Bench(place)
        database = StateDatabase(sqlite_url(place))
        self.incidents = IncidentService(
            IncidentRepository(database), None, (), IncidentSettings(), lambda: bench.now, background=False
        )
        bench.inbox.submit = self.incidents.submit  # type: ignore[method-assign]
        bench.loop.train(bench.now)
        champion = bench.registry.get(MODEL)
        assert champion is not None
        for planted in ("", "alarms"):
            bench.registry.log_training(
                MODEL,
                bench.registry.load_state(champion),
                family="fusion",
                dataset="sha256:0",
                parameters={**dict(champion.parameters), "planted": planted},
                metrics={},
            )
        inner: Any = build("detectors", "fusion", {"device": "cpu"}, PluginContext("trial"))

        def detector_of(version: ModelVersion) -> Detector[Any]:
            return Alarming(inner) if dict(version.parameters).get("planted") == "alarms" else inner

        self.models = LoadedModels(bench.registry, detector_of, lambda _: None, 4)
        self.repository = DeploymentRepository(database)
        self.deployments = self.made()
        self.trials = self.watching()

    def made(self) -> Deployments:
        return Deployments(
            self.repository,
            self.bench.registry,
            DeploymentSettings(min_sample=60, min_time_s=150),
            clock=lambda: self.bench.now,
            blame=ModelFaults(self.incidents).blame,
        )

    def watching(self) -> Trials:
        load = lambda model, number: self.models.get(self.bench.registry.version(model, number))  # noqa: E731
        return Trials(self.bench.loop.fleet, self.deployments, load)

    def run(self, steps: int) -> list[Anomaly]:
        """Steps of the loop, with the ticks that a service makes meanwhile; until a trial ends."""
        out: list[Anomaly] = []
        for _ in range(steps):
            self.trials.follow()
            out += self.bench.run(1)
            if self.deployments.tick(self.bench.now):
                break
        return out

    def reference(self) -> str:
        return self.bench.loop.status().groups[0].reference


@pytest.fixture
def stage(folder: Path) -> Stage:  # noqa: F811
    return Stage(folder)


def test_a_fair_candidate_in_the_shadow_says_nothing_and_is_promoted_warm(stage: Stage) -> None:
    trial = stage.deployments.start(MODEL, "2", Strategy.SHADOW, by="key:ann")
    assert stage.run(40) == []
    over = stage.deployments.get(trial.id)
    assert over.state is DeploymentState.PROMOTED and dict(over.measures)["points"] >= 60
    assert stage.reference() == f"{MODEL}/2"
    stage.bench.shop.factor["latency", "checkout"] = (stage.bench.now + STEP, 5.0)
    found = stage.run(5)
    assert {a.service for a in found} == {"checkout"} and {a.model for a in found} == {f"{MODEL}/2"}


def test_a_canary_raises_its_anomalies_under_its_own_name(stage: Stage) -> None:
    ids = [one.id for one in stage.bench.loop.fleet.groups[0].series]
    latency = {key: share_of(MODEL, key) for key in ids if key.startswith('["latency')}
    mine, theirs = min(latency, key=lambda k: latency[k]), max(latency, key=lambda k: latency[k])
    stage.deployments.start(MODEL, "2", Strategy.CANARY, (latency[mine] + latency[theirs]) / 2, "key:ann")
    stage.run(2)
    for key in (mine, theirs):
        service = next(s for s in stage.bench.shop.services if s in key)
        stage.bench.shop.factor["latency", service] = (stage.bench.now + STEP, 5.0)
    found = {f'["latency_p95",[["service_name","{a.service}"],["simulated","true"]]]': a.model for a in stage.run(6)}
    assert found == {mine: f"{MODEL}/2", theirs: f"{MODEL}/1"}


def test_a_candidate_that_alarms_everywhere_is_rolled_back_and_its_incident_is_marked(stage: Stage) -> None:
    stage.run(3)
    trial = stage.deployments.start(MODEL, "3", Strategy.BLUE_GREEN, by="key:ann")
    found = stage.run(30)
    assert found and {a.model for a in found} == {f"{MODEL}/3"}
    over = stage.deployments.get(trial.id)
    assert over.state is DeploymentState.ROLLED_BACK and over.reason.startswith("alone: 6 of 6")
    assert stage.reference() == f"{MODEL}/1"
    incident = stage.incidents.get(over.incident, SYSTEM)
    assert not incident.active
    said = [entry.detail for entry in incident.timeline]
    assert any(f"caused by model {MODEL}/3, which was rolled back: alone" in text for text in said)
    assert stage.run(3) and stage.bench.repository.open_anomalies() == ()
    assert stage.run(20) == []


def test_an_anomaly_that_the_champion_sees_too_outlives_the_candidate(stage: Stage) -> None:
    trial = stage.deployments.start(MODEL, "2", Strategy.BLUE_GREEN, by="key:ann")
    stage.run(2)
    stage.bench.shop.factor["latency", "checkout"] = (stage.bench.now + STEP, 5.0)
    (before, *_) = stage.run(4)
    assert before.model == f"{MODEL}/2"
    stage.deployments.roll_back(trial.id, "key:ann", "changed my mind")
    later = stage.run(2)
    assert {(a.id, a.ended_ms) for a in later} == {(before.id, None)}
    (kept,) = stage.incidents.list(SYSTEM)
    assert kept.active and any("were raised by model" in entry.detail for entry in kept.timeline)


def test_a_trial_goes_on_after_a_restart(stage: Stage) -> None:
    trial = stage.deployments.start(MODEL, "2", Strategy.CANARY, 0.5, "key:ann")
    stage.run(6)
    stage.deployments.tick(stage.bench.now + 5_000)
    points = dict(stage.repository.get(trial.id).measures)["points"]  # type: ignore[union-attr]
    stage.bench.loop = stage.bench.make()
    stage.bench.loop.restore()
    stage.deployments = stage.made()
    stage.deployments.restore()
    stage.trials = stage.watching()
    stage.run(3)
    running = stage.deployments.running(MODEL)
    assert running is not None and running.id == trial.id
    assert dict(stage.deployments.get(trial.id).measures)["points"] > points > 0
