"""Checkpoints of what serves: kept when series join, taken up at a start, restored by a person, never when poisoned."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiops.core.anomaly import State
from aiops.core.errors import Conflict, InvalidInput, NotFound
from aiops.store.state.checkpoints import Checkpoint
from aiops.store.state.database import StateDatabase, sqlite_url
from tests.unit.incidents.test_detection import STEP, Bench

MODEL = "anomaly-15s"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a trained champion."""
    folder = tmp_path_factory.mktemp("trained")
    StateDatabase(sqlite_url(folder)).upgrade()
    made = Bench(folder)
    made.loop.train(made.now)
    return folder


@pytest.fixture
def bench(home: Path, tmp_path: Path) -> Bench:
    """A loop that serves a copy of it."""
    made = Bench(Path(shutil.copytree(home, tmp_path / "data")))
    assert made.loop.restore()
    return made


def served(bench: Bench) -> State:
    found = bench.loop.fleet.scorer.served(MODEL)
    assert found is not None
    return found.state


def keep(bench: Bench, state: State) -> Checkpoint:
    """A checkpoint that is signed as it should be, whatever it holds."""
    version = bench.registry.get(MODEL)
    assert version is not None
    detail = {"end_ms": str(bench.now), "options": dict(version.parameters)["options"]}
    return bench.checkpoints.save(MODEL, version.reference, state, version.family, detail)


def with_arrays(state: State, change: Callable[[str, np.ndarray], np.ndarray]) -> State:
    return replace(state, arrays={name: change(name, array) for name, array in state.arrays.items()})


def as_low_tails(name: str, array: np.ndarray) -> np.ndarray:
    """Calibration by which every score is a rare one."""
    if name == "calibration.level":
        return np.full_like(array, -50.0)
    return np.full_like(array, 1e-3) if name in ("calibration.mean", "calibration.top") else array


POISON: dict[str, tuple[Callable[[State], State], str]] = {
    "alerts on everything": (lambda s: with_arrays(s, as_low_tails), "above the threshold"),
    "not a number": (
        lambda s: with_arrays(s, lambda _, a: np.full_like(a, np.nan) if a.dtype.kind == "f" else a),
        "no finite number",
    ),
    "not a number in one series": (
        lambda s: with_arrays(
            s,
            lambda n, a: (
                np.where(np.arange(len(a)).reshape(-1, *[1] * (a.ndim - 1)) == 0, np.nan, a).astype(a.dtype)
                if a.dtype.kind == "f" and not n.startswith("calibration")
                else a
            ),
        ),
        "get no score",
    ),
    "another shape": (
        lambda s: with_arrays(s, lambda _, a: np.repeat(a, 2, axis=1) if a.ndim > 1 else a),
        "not .*",
    ),
    "another type": (
        lambda s: with_arrays(s, lambda _, a: a.astype(np.float64) if a.dtype == np.float32 else a),
        "float64",
    ),
    "an array less": (lambda s: replace(s, arrays=dict(list(s.arrays.items())[1:])), "not those of its version"),
    "a series less": (lambda s: s.select(s.series_ids[1:]), "1 series of its version are missing"),
    "another step": (lambda s: replace(s, step_ms=s.step_ms * 2), "its step is"),
}


@pytest.mark.parametrize("kind", sorted(POISON))
def test_a_poisoned_checkpoint_is_refused_with_the_reason(bench: Bench, kind: str) -> None:
    bench.run(3)
    poison, reason = POISON[kind]
    bad = keep(bench, poison(served(bench)))
    with pytest.raises(InvalidInput, match=reason):
        bench.loop.keeper.restore(MODEL, bad.id, "someone")
    bench.loop = bench.make()
    assert bench.loop.restore()  # by the version itself
    assert bench.run(5) == []


def test_a_checkpoint_is_restored_and_scores_as_it_did(bench: Bench) -> None:
    bench.run(4)
    good = keep(bench, served(bench))
    before = {name: array.copy() for name, array in served(bench).arrays.items()}
    bench.run(10)
    made = bench.loop.keeper.restore(MODEL, good.id, "key:1")
    assert dict(made.detail)["why"] == f"restored from {good.id}"
    assert dict(made.detail)["by"] == "key:1"
    assert made.digest == good.digest
    for name, array in served(bench).arrays.items():
        np.testing.assert_array_equal(array, before[name])
    assert bench.checkpoints.list(MODEL)[0] == made
    bench.shop.factor["latency", "checkout"] = (bench.now + STEP, 5.0)
    assert {a.service for a in bench.run(6)} == {"checkout"}


def test_one_that_was_changed_on_disk_is_passed_over(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    first, second = keep(bench, served(bench)), keep(bench, served(bench))
    place = bench.folder / second.path / "state.safetensors"
    place.write_bytes(place.read_bytes()[:-1] + b"\xff")
    bench.loop = bench.make()
    assert bench.loop.restore()
    assert "changed after they were signed" in caplog.text
    with pytest.raises(InvalidInput, match="checkpoint 2 of anomaly-15s/1 is refused: files were changed after"):
        bench.loop.keeper.restore(MODEL, second.id, "someone")
    (bench.folder / first.path / "model.sig").unlink()
    with pytest.raises(InvalidInput, match="not signed"):
        bench.loop.keeper.restore(MODEL, first.id, "someone")


def test_what_cannot_be_restored(bench: Bench) -> None:
    old = keep(bench, served(bench))
    bench.now += 40 * STEP
    bench.loop.train(bench.now)
    with pytest.raises(NotFound, match="no checkpoint 99"):
        bench.loop.keeper.restore(MODEL, 99, "someone")
    with pytest.raises(Conflict, match="not in service"):
        bench.loop.keeper.restore("other", 1, "someone")
    with pytest.raises(Conflict, match="Promote anomaly-15s/1 first"):
        bench.loop.keeper.restore(MODEL, old.id, "someone")


def test_few_are_kept_and_their_folders_with_them(bench: Bench) -> None:
    for _ in range(7):
        bench.now += 1
        keep(bench, served(bench))
    kept = bench.checkpoints.list(MODEL)
    assert len(kept) == 5
    assert sorted(p.name for p in (bench.folder / "checkpoints").iterdir()) == sorted(Path(c.path).name for c in kept)


def test_a_champion_from_before_signatures_is_trained_again(bench: Bench) -> None:
    """What a data folder of an earlier release sees: nothing is signed afterwards, since nobody knows what it is."""
    (signature,) = bench.folder.glob("models/*/artifacts/model.sig")
    signature.unlink()
    bench.loop = bench.make()
    assert not bench.loop.restore()
    assert bench.loop.train(bench.now) == 6
    champion = bench.registry.get(MODEL)
    assert champion is not None
    assert champion.version == "2"
    bench.loop = bench.make()
    assert bench.loop.restore()
