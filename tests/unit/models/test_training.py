from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from aiops.core.anomaly import Batch
from aiops.core.errors import InvalidInput, NotFound
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.models.datasets import content_hash
from aiops.models.fitting import output_checks, parts_of, refusal
from aiops.models.registry import ModelRegistry
from aiops.models.serving import Scorer
from aiops.models.training import Trainer

STEP = 60_000
NAME = "anomaly-60s"


def batch(seed: int = 0, series: int = 3, length: int = 400, start: int = 0) -> Batch:
    values = np.random.default_rng(seed).normal(10, 1, (series, length)).astype(np.float32)
    times = start + STEP * np.arange(length, dtype=np.int64)
    return Batch(values, np.ones_like(values, bool), times, STEP, tuple(f"s{i}" for i in range(series)))


def detector(**options: Any) -> Detector[Any]:
    return cast(Detector[Any], build("detectors", "fusion", {"device": "cpu", **options}, PluginContext("test")))


def calibrate(batch: Batch, score: NDArray[np.float32] | None) -> dict[str, NDArray[np.generic]]:
    observed = {"habit.steps": batch.mask.sum(1)}
    return observed if score is None else {"calibration.top": np.nanmax(score, axis=1), **observed}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once."""
    folder = tmp_path_factory.mktemp("registry")
    ModelRegistry(folder).names()
    return folder


@pytest.fixture
def registry(tmp_path: Path, database: Path) -> ModelRegistry:
    return ModelRegistry(Path(shutil.copytree(database, tmp_path / "data")))


def test_the_first_is_champion_and_a_sound_second_takes_over(registry: ModelRegistry) -> None:
    trainer = Trainer(registry, detector())
    said: list[tuple[float, str]] = []
    first = trainer.train(
        NAME, batch(), query="up", calibrate=calibrate, progress=lambda share, text: said.append((share, text))
    )
    assert first.champion
    assert first.reference == f"{NAME}/1"
    assert first.end_ms == 399 * STEP
    assert first.version is not None
    parameters, metrics = dict(first.version.parameters), dict(first.version.metrics)
    assert parameters["query"] == "up"
    assert parameters["step_ms"] == str(STEP)
    assert metrics["series"] == 3.0
    assert metrics["points"] == 1200.0
    assert metrics["fit_seconds"] >= 0
    assert first.version.dataset == content_hash(batch())
    assert "calibration.top" in first.state.arrays
    assert said
    second = trainer.train(NAME, batch(1), query="up", calibrate=calibrate)
    assert second.champion
    assert second.version is not None
    assert dict(second.version.parameters)["parent"] == f"{NAME}/1"


def test_a_version_with_strange_output_stays_challenger(registry: ModelRegistry) -> None:
    trainer = Trainer(registry, detector())
    trainer.train(NAME, batch(), query="up", calibrate=calibrate)
    broken = batch(2)
    broken.values[:, 300:] += 500
    second = trainer.train(NAME, broken, query="up", calibrate=calibrate)
    assert not second.champion
    assert "held-out" in second.reason
    assert [v.aliases for v in registry.versions(NAME)] == [("challenger",), ("champion",)]


def test_output_checks() -> None:
    score, mask = np.zeros((1, 10), np.float32), np.ones((1, 10), bool)
    assert refusal(output_checks(score, mask, 6)) == ""
    score[0, 0] = np.nan
    assert "no score" in refusal(output_checks(score, mask, 6))


def test_an_empty_batch_is_refused_and_a_dead_registry_does_not_stop_detection(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    trainer = Trainer(ModelRegistry(tmp_path / "file"), detector())
    with pytest.raises(InvalidInput):
        trainer.train(NAME, batch(series=0), query="up", calibrate=calibrate)
    trained = trainer.train(NAME, batch(), query="up", calibrate=calibrate)
    assert trained.version is None
    assert trained.champion
    assert trained.reference == "unregistered"


def test_content_hash_sees_values_times_and_ids_but_not_what_is_masked() -> None:
    base = batch()
    other = batch()
    other.values[0, 0] += 1
    assert content_hash(base) != content_hash(other)
    assert content_hash(base) != content_hash(batch(start=STEP))
    other.mask[0, 0] = base.mask[0, 0] = False
    assert content_hash(base) == content_hash(other)


def test_the_scorer_serves_the_champion_and_moves_it_on(registry: ModelRegistry) -> None:
    scorer = Scorer(detector())
    assert scorer.load_champion(registry, NAME) is None
    with pytest.raises(NotFound):
        scorer.score_tick(NAME, batch(length=1))
    Trainer(registry, detector()).train(NAME, batch(), query="up", calibrate=calibrate)
    served = scorer.load_champion(registry, NAME)
    assert served is not None
    assert served.last_ms == 399 * STEP
    assert served.reference == f"{NAME}/1"
    assert scorer.served(NAME) is None
    scorer.serve(NAME, served.state, served.reference, served.last_ms)
    scores = scorer.score_tick(NAME, batch(5, length=1, start=400 * STEP))
    assert scores.score.shape == (3, 1)
    after = scorer.served(NAME)
    assert after is not None
    assert after.last_ms == 400 * STEP
    assert Scorer(detector(members=("ridge_ar",))).load_champion(registry, NAME) is None


def test_joined_series_are_scored_with_the_others(registry: ModelRegistry) -> None:
    trainer, scorer = Trainer(registry, detector()), Scorer(detector())
    trained = trainer.train(NAME, batch(series=2), query="up", calibrate=calibrate)
    scorer.serve(NAME, trained.state, trained.reference, trained.end_ms)
    three = batch(series=3)
    new = Batch(three.values[2:], three.mask[2:], three.timestamps, STEP, ("s2",))
    joined = scorer.join(NAME, trainer.fit(new, calibrate))
    assert joined.series_ids == ("s0", "s1", "s2")
    assert np.isfinite(scorer.score_tick(NAME, batch(9, length=1, start=400 * STEP)).score).all()


def test_groups_are_fitted_whole_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiops.models.fitting.CHUNK_POINTS", 4 * 400)
    one = batch(series=9)
    assert parts_of(one) == [(0, 4), (4, 8), (8, 9)]
    grouped = dataclasses.replace(one, groups=tuple("aabbbcccc"))
    assert parts_of(grouped) == [(0, 2), (2, 5), (5, 9)]
    assert parts_of(dataclasses.replace(one, groups=tuple("aaaaaaabb"))) == [(0, 4), (4, 7), (7, 9)]
