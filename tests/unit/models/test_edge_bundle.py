"""A bundle scores as the service does, with onnxruntime and numpy alone, and says when it was changed."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from aiops.core.anomaly import Batch
from aiops.core.errors import Conflict, InvalidInput
from aiops.core.model import ModelVersion
from aiops.models import edge_bundle
from aiops.models.detector_calls import Call, run_together
from aiops.models.loaded import Loaded
from aiops.models.signing import Signer
from tests.unit.models import serving_house as house

pytest.importorskip("onnxruntime")
NAME = "anomaly-60s"
NOW = house.START + house.STEPS * house.STEP


@pytest.fixture
def loaded() -> Loaded:
    version = ModelVersion(
        NAME, "1", "fusion", "0" * 32, "", NOW, parameters=(("options", house.fusion().options.model_dump_json()),)
    )
    state = house.state()
    rows = {key: row for row, key in enumerate(state.series_ids)}
    return Loaded(version, house.fusion(), state, rows, np.full(len(rows), house.THRESHOLD))


@pytest.fixture
def bundle(tmp_path: Path, loaded: Loaded) -> Path:
    folder = tmp_path / "bundle"
    edge_bundle.write(folder, loaded, Signer(tmp_path / "keys"), by="test", time_ms=NOW)
    return folder


def stretch() -> Batch:
    given = house.values(NOW, 300)
    mask = np.random.default_rng(1).random(given.mask.shape) > 0.05
    return Batch(given.values, mask, given.timestamps, given.step_ms, given.series_ids)


def compare(python: Path, bundle: Path, loaded: Loaded, tmp_path: Path, environment: dict[str, str]) -> None:
    """Run the bundle's scorer in a process of its own on a table of values, and compare with the service's scoring."""
    given = stretch()
    table = tmp_path / "values.csv"
    with table.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("timestamp", "series", "value"))
        for row, step in zip(*np.nonzero(given.mask), strict=True):
            out.writerow((given.timestamps[step], given.series_ids[row], repr(float(given.values[row, step]))))
        out.writerow((given.timestamps[0], "another", "1"))
    command = [str(python), str(bundle / "score.py"), str(table)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "left out: another" in done.stderr
    made = run_together([Call(loaded, given)])[0]
    row_of = {name: row for row, name in enumerate(given.series_ids)}
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == given.mask.sum()
    place = [(row_of[r["series"]], (int(r["timestamp"]) - NOW) // house.STEP) for r in rows]
    for name in ("score", "expected", "lower", "upper"):
        found = np.array([float(r[name]) for r in rows])
        wanted = getattr(made, name)[tuple(np.array(place).T)]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5, err_msg=name)
    assert {float(r["threshold"]) for r in rows} == {house.THRESHOLD}


def test_scorer_needs_only_onnxruntime_and_numpy(bundle: Path, loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "hook").mkdir()
    blocked = (
        "import sys\nfor name in ('aiops', 'detectors', 'torch', 'onnx', 'scipy', 'pandas'): sys.modules[name] = None\n"
    )
    (tmp_path / "hook" / "sitecustomize.py").write_text(blocked)
    compare(Path(sys.executable), bundle, loaded, tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path / "hook")})


@pytest.mark.nightly
def test_bundle_on_a_bare_machine(bundle: Path, loaded: Loaded, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", "onnxruntime", "numpy"], check=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    compare(python, bundle, loaded, tmp_path, environment)


def test_what_was_changed_is_refused(bundle: Path, tmp_path: Path) -> None:
    signer = Signer(tmp_path / "keys")
    told = edge_bundle.verify(bundle, signer)
    assert (told["name"], told["version"], told["exported_by"]) == (NAME, "1", "test")
    program = (bundle / "score.py").read_text()
    (bundle / "score.py").write_text(program + "\n")
    with pytest.raises(InvalidInput, match=r"changed after they were signed.*score\.py"):
        edge_bundle.verify(bundle, signer)
    done = subprocess.run(
        [sys.executable, str(bundle / "score.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "score.py is not the file that was exported" in done.stderr
    (bundle / "score.py").write_text(program)
    edge_bundle.verify(bundle, signer)
    (bundle / "more.py").write_text("")
    with pytest.raises(InvalidInput, match=r"more\.py"):
        edge_bundle.verify(bundle, signer)
    (bundle / "more.py").unlink()
    (bundle / "model.sig").unlink()
    with pytest.raises(InvalidInput, match="not signed"):
        edge_bundle.verify(bundle, signer)


def test_another_signer_is_not_trusted(bundle: Path, tmp_path: Path, loaded: Loaded) -> None:
    edge_bundle.write(tmp_path / "other", loaded, Signer(tmp_path / "elsewhere"), by="them", time_ms=NOW)
    with pytest.raises(InvalidInput, match="not trusted"):
        edge_bundle.verify(tmp_path / "other", Signer(tmp_path / "keys"))


def test_bundle_travels_as_a_zip(tmp_path: Path, loaded: Loaded) -> None:
    signer = Signer(tmp_path / "keys")
    data = edge_bundle.packed(loaded, signer, by="test", time_ms=NOW)
    edge_bundle.unpack(data, tmp_path / "there")
    edge_bundle.verify(tmp_path / "there", signer)
    with pytest.raises(Conflict, match="not empty"):
        edge_bundle.unpack(data, tmp_path / "there")
    with pytest.raises(InvalidInput, match="no bundle"):
        edge_bundle.unpack(b"PK", tmp_path / "elsewhere")
