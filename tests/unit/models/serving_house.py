"""A model with two versions and more in a real registry, its series, and planted bad detectors."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.model import Deployment, ModelVersion
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.models.deployments import Deployments
from aiops.models.loaded import LoadedModels
from aiops.models.registry import ModelRegistry
from aiops.models.scoring import ScoringService
from aiops.models.served_before import ServedBefore
from aiops.settings.models import DeploymentSettings, ServingSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.deployments import DeploymentRepository

STEP = 60_000
START = 1_760_000_000_000 // STEP * STEP
SERIES, STEPS = 24, 600
THRESHOLD = 5.0
IDS = tuple(f"series-{number}" for number in range(SERIES))


def values(start_ms: int, steps: int, series: int = SERIES, seed: int = 1) -> Batch:
    """Noise about a daily rhythm, the same at the same times."""
    times = start_ms + STEP * np.arange(steps, dtype=np.int64)
    rng = np.random.default_rng([seed, start_ms // STEP])
    level = 10 + np.arange(series)[:, None] + 2 * np.sin(2 * np.pi * times / 86_400_000)
    noise = rng.normal(size=(series, steps))
    found = (level + 0.5 * noise).astype(np.float32)
    return Batch(found, np.ones(found.shape, bool), times, STEP, IDS[:series])


@cache
def fusion() -> Detector[Any]:
    return cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("test")))


@cache
def state() -> State:
    return fusion().fit(values(START, STEPS))


class Planted(Detector[Any]):
    """The fusion with a fault of the given kind."""

    def __init__(self, kind: str) -> None:
        super().__init__(fusion().options, PluginContext(kind))
        self.kind = kind

    def fit(self, batch: Batch) -> State:
        return fusion().fit(batch)

    def _spoilt(self, scores: Scores) -> Scores:
        match self.kind:
            case "slow":
                time.sleep(0.15)
            case "nan":
                return replace(scores, score=np.full_like(scores.score, np.nan))
            case "alarms":
                return replace(scores, score=scores.score + np.float32(100))
            case "fails":
                raise RuntimeError("planted")
        return scores

    def score(self, state: State, batch: Batch) -> Scores:
        return self._spoilt(fusion().score(state, batch))

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        after, scores = fusion().update(state, tick)
        return after, self._spoilt(scores)


def detector_of(version: ModelVersion) -> Detector[Any]:
    """The fusion, or what a parameter of the version says is wrong with it."""
    kind = dict(version.parameters).get("planted", "")
    return Planted(kind) if kind else fusion()


class Ground:
    """A registry and a state database, which take seconds to make: one for many houses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = ModelRegistry(folder)
        database = StateDatabase(sqlite_url(folder))
        database.upgrade()
        self.repository = DeploymentRepository(database)
        self._numbers = itertools.count(1)

    def name(self) -> str:
        return f"anomaly-60s-{next(self._numbers)}"


class House:
    """A model of its own with deployments and a scoring service, on its own clock."""

    def __init__(
        self, ground: Ground, deployment: Mapping[str, Any] | None = None, serving: Mapping[str, Any] | None = None
    ) -> None:
        self.now = START
        self.name = ground.name()
        self.told: list[tuple[str, str, str, Mapping[str, str]]] = []
        self.registry, self.repository = ground.registry, ground.repository
        self.settings = DeploymentSettings(**dict(deployment or {}))
        self.models = LoadedModels(self.registry, detector_of, lambda s: np.full(len(s.series_ids), THRESHOLD), 4)
        self.blamed: list[Deployment] = []
        self.deployments = Deployments(
            self.repository,
            self.registry,
            self.settings,
            clock=lambda: self.now,
            audit=lambda *entry: self.told.append(entry),
            blame=self._blame,
            check=self.models.get,
        )
        self.before = ServedBefore(ground.folder / f"{self.name}.json")
        self.service = self.made(serving)
        self.service.start()

    def made(self, serving: Mapping[str, Any] | None = None) -> ScoringService:
        chosen = ServingSettings(**dict(serving or {}))
        return ScoringService(self.models, self.deployments, chosen, before=self.before)

    def _blame(self, deployment: Deployment) -> str:
        self.blamed.append(deployment)
        return "INC-1"

    def add(self, planted: str = "", scale: float = 1.0) -> str:
        """Register another version; returns its number."""
        found = state()
        if scale != 1.0:
            arrays = {**found.arrays, "seasonal_residual:sigma": found.arrays["seasonal_residual:sigma"] * scale}
            found = State(found.series_ids, found.step_ms, arrays, found.shared)
        return self.registry.log_training(
            self.name,
            found,
            family="fusion",
            dataset="sha256:0",
            parameters={"options": fusion().options.model_dump_json(), **({"planted": planted} if planted else {})},
            metrics={},
        ).version

    def champion(self) -> None:
        self.registry.promote(self.name, self.add())

    def close(self) -> None:
        self.service.stop()
