"""Trainings that are cut, cancelled, taken up again, warm-started, refused and paid for, in real processes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, State
from aiops.core.errors import LimitExceeded, TransientError
from aiops.core.model import ModelUse, UseKind
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.jobs.compute import InThread
from aiops.jobs.processes import Processes
from aiops.models import fitting
from aiops.models.datasets import DatasetStore
from aiops.models.encryption import ArtifactKey
from aiops.models.registry import ModelRegistry
from aiops.models.training import Request, Trainer
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.datasets import DatasetRepository
from detectors.ridge_ar import RidgeAr

STEP, LENGTH, SERIES = 60_000, 400, 9
NAME = "anomaly-60s"
NOW = 1_764_072_000_000
DAY_MS = 86_400_000


@dataclasses.dataclass(frozen=True)
class Tops:
    """Pickled to the worker processes by its name."""

    def __call__(self, batch: Batch, score: NDArray[np.float32] | None) -> Mapping[str, NDArray[np.generic]]:
        own = {"habit.steps": batch.mask.sum(1)}
        return own if score is None else {"calibration.top": np.nanmax(score, axis=1), **own}


class Purse:
    """A meter that keeps what it was told; the day's budget is ``left``."""

    def __init__(self) -> None:
        self.left = 1.0
        self.uses: list[ModelUse] = []

    def check(self, model: str, kind: UseKind, principal: str, expected_cost: float) -> None:
        if expected_cost > self.left:
            raise LimitExceeded("The day's budget is used up.", kind="budget")

    def record(self, use: ModelUse) -> None:
        self.uses.append(use)


def batch(seed: int = 0, series: int = SERIES) -> Batch:
    values = np.random.default_rng(seed).normal(10, 1, (series, LENGTH)).astype(np.float32)
    times = NOW + STEP * np.arange(LENGTH, dtype=np.int64)
    return Batch(values, np.ones_like(values, bool), times, STEP, tuple(f"s{i}" for i in range(series)))


def detector() -> Detector[Any]:
    return cast(Detector[Any], build("detectors", "ridge_ar", {"device": "cpu"}, PluginContext("test")))


class Mortal(RidgeAr):
    """Kills its process once, at the third piece."""

    flag: Path

    def fit(self, batch: Batch) -> State:
        if "s4" in batch.series_ids and self.flag.exists():
            self.flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(batch)


def mortal(flag: Path) -> Mortal:
    flag.touch()
    found = Mortal(RidgeAr.Options(device="cpu"), PluginContext("test"))
    found.flag = flag
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registry")
    ModelRegistry(folder).names()
    database = StateDatabase(sqlite_url(folder))
    database.upgrade()
    database.close()
    return folder


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    found = Processes()
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path: Path, prepared: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "data"))


@pytest.fixture
def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Trainer]]:
    monkeypatch.setattr(fitting, "CHUNK_POINTS", 2 * LENGTH)  # five pieces
    database = StateDatabase(sqlite_url(folder))
    registry = ModelRegistry(folder)

    def trainer(compute: Any = None, **more: Any) -> Trainer:
        datasets = DatasetStore(folder, DatasetRepository(database), key=more.pop("key", None))
        more = {"clock": lambda: NOW, **more}
        chosen = more.pop("chosen", None) or detector()
        return Trainer(registry, chosen, compute=compute or InThread(), datasets=datasets, **more)

    yield trainer
    database.close()


def train(trainer: Trainer, data: Batch, request: Request | None = None, progress: Any = None) -> Any:
    return trainer.train(NAME, data, query="up", calibrate=Tops(), progress=progress, request=request)


class Cut:
    """Progress that stops a training once a piece is done."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.shares: list[float] = []

    def __call__(self, share: float, text: str) -> None:
        self.shares.append(share)
        if share > 0.15:
            self.act()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiops.models.fit_run.REPORT_S", 0.0)


def test_a_process_gives_the_state_that_the_thread_gives(make: Callable[..., Trainer], processes: Processes) -> None:
    data = batch()
    here = train(make(), data)
    there = train(make(processes), data)
    assert here.state.series_ids == there.state.series_ids == data.series_ids
    assert set(here.state.arrays) == set(there.state.arrays) > {"calibration.top", "habit.steps"}
    for name, value in here.state.arrays.items():
        np.testing.assert_array_equal(value, there.state.arrays[name], err_msg=name)


def test_a_killed_worker_is_no_loss(
    make: Callable[..., Trainer], folder: Path, at_once: None, processes: Processes
) -> None:
    request = Request(folder=folder / "training" / "run", job="j1")
    trainer = make(processes, key=ArtifactKey(b"secret"), chosen=mortal(folder / "flag"))
    with pytest.raises(TransientError, match="worker process ended"):
        train(trainer, batch(), request)
    done = sorted(request.folder.glob("piece-*"))  # type: ignore[union-attr]
    assert [path.name for path in done] == ["piece-00000.safetensors", "piece-00001.safetensors"]
    assert done[0].read_bytes().startswith(b"AIOPSEN1")
    before = {path: path.stat().st_mtime_ns for path in done}
    # Another attempt, perhaps after a restart, has only the folder.
    again = make(processes, key=ArtifactKey(b"secret"))
    found = again.unfinished(request.folder)  # type: ignore[arg-type]
    assert found is not None
    window, query = found
    np.testing.assert_array_equal(window.values, batch().values)
    assert query == "up"
    shares: list[float] = []

    def look(share: float, text: str) -> None:
        shares.append(share)
        if share == 0.85:  # all pieces are there, the folder not yet gone
            assert {path: path.stat().st_mtime_ns for path in done} == before

    trained = train(again, window, request, look)
    assert shares[0] > 0
    assert trained.champion
    assert not request.folder.exists()  # type: ignore[union-attr]
    whole = train(make(key=ArtifactKey(b"secret")), batch())
    for name, value in whole.state.arrays.items():
        np.testing.assert_array_equal(value, trained.state.arrays[name])


def test_what_was_registered_when_it_was_cut_is_not_registered_again(
    make: Callable[..., Trainer], folder: Path, at_once: None
) -> None:
    request = Request(folder=folder / "training" / "run", job="j1")
    assert request.folder is not None
    saved = folder / "saved"

    def keep(share: float, text: str) -> None:
        if text == "registering the model":
            shutil.copytree(folder / "training" / "run", saved)

    first = train(make(), batch(), request, keep)
    shutil.copytree(saved, request.folder)  # as if the service had died before the job was closed
    again = train(make(), batch(), request)
    assert first.reference == again.reference == f"{NAME}/1"
    assert again.champion
    assert len(make().registry.versions(NAME)) == 1


def test_another_window_begins_anew(make: Callable[..., Trainer], folder: Path, at_once: None) -> None:
    request = Request(folder=folder / "training" / "run")

    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train(make(), batch(), request, Cut(stop))
    assert list(request.folder.glob("piece-*"))  # type: ignore[union-attr]
    shares: list[float] = []
    trained = train(make(), batch(1), request, lambda share, text: shares.append(share))
    assert shares[0] == 0
    fresh = train(make(), batch(1))
    np.testing.assert_array_equal(trained.state.arrays["calibration.top"], fresh.state.arrays["calibration.top"])


def test_a_warm_start_keeps_the_calibration_of_known_series(make: Callable[..., Trainer]) -> None:
    first = train(make(), batch(series=8))
    later = dataclasses.replace(batch(1), values=batch(1).values * 3)
    warm = train(make(), later, Request(warm=True))
    cold = train(make(), later)
    top = "calibration.top"
    np.testing.assert_array_equal(warm.state.arrays[top][:8], first.state.arrays[top])
    assert warm.state.arrays[top][8] == cold.state.arrays[top][8]
    assert not np.array_equal(cold.state.arrays[top][:8], first.state.arrays[top])
    for name, value in cold.state.arrays.items():
        if name != top:
            np.testing.assert_array_equal(warm.state.arrays[name], value, err_msg=name)
    told = dict(warm.version.parameters)
    assert told["calibrated_ms"] == dict(first.version.parameters)["calibrated_ms"]


def test_an_old_calibration_is_made_anew(make: Callable[..., Trainer]) -> None:
    train(make(), batch())
    late = make(calibration_days=7.0, clock=lambda: NOW + 7 * DAY_MS + 1)
    again = train(late, batch(1), Request(warm=True))
    np.testing.assert_array_equal(
        again.state.arrays["calibration.top"], train(make(), batch(1)).state.arrays["calibration.top"]
    )


def test_what_is_asked_for_as_a_challenger_stays_one(make: Callable[..., Trainer]) -> None:
    asked = Request(by="drift", reason="the season changed", as_challenger=True)
    assert not train(make(), batch(), asked).champion
    train(make(), batch())
    second = train(make(), batch(1), asked)
    assert not second.champion
    assert second.version.aliases == () or "champion" not in second.version.aliases
    assert dict(second.version.parameters)["reason"] == "the season changed"
    assert make().registry.get(NAME).version == "2"
    assert make().registry.get(NAME, "challenger").version == "3"


def test_the_seconds_are_paid_for_and_a_budget_refuses_beforehand(
    make: Callable[..., Trainer], processes: Processes
) -> None:
    purse = Purse()
    train(make(processes, meter=purse), batch(), Request(by="key:1", job="j7"))
    [paid] = purse.uses
    assert (paid.model, paid.version, paid.kind, paid.principal) == (NAME, "1", UseKind.TRAIN, "key:1")
    assert paid.quantity > 0
    assert paid.cost == pytest.approx(paid.quantity * 0.04 / 3600)
    assert dict(paid.detail)["job"] == "j7"
    purse.left = paid.cost / 10
    with pytest.raises(LimitExceeded):
        train(make(processes, meter=purse), batch(1))
    assert len(purse.uses) == 1


def test_a_training_that_is_cut_is_paid_for_as_well(make: Callable[..., Trainer], at_once: None) -> None:
    purse = Purse()

    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train(make(meter=purse), batch(), progress=Cut(stop))
    assert [(paid.version, paid.quantity > 0) for paid in purse.uses] == [("", True)]
