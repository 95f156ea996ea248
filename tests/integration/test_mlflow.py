"""The registry to users of MLflow: by our own flavour in this process; by the whole of MLflow and its server, nightly.

The whole of MLflow pins other versions than we do and takes 850 MB, so it lives in an environment of its own:
``MLFLOW_PYTHON`` names one, otherwise it is built.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sysconfig
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest

from aiops.core.anomaly import Batch, State
from aiops.core.errors import InvalidInput
from aiops.core.model import Dataset, LlmCall, ModelVersion
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.models.prompt_registry import PromptRegistry, PromptText
from aiops.models.registry import ModelRegistry
from aiops.models.traces import LlmTraces
from aiops.models.tracking import import_mlflow
from aiops.settings.models import RegistrySettings
from tests.integration.servers import free_port

ROOT = Path(__file__).parents[2]
NAME, PROMPT, START = "anomaly-60s", "plan_question", 1_700_000_040_000
READY_S = 120.0


def window(steps: int = 1500) -> Batch:
    draw = np.random.default_rng(0)
    values = (np.sin(np.arange(steps) / 50) + draw.normal(size=(3, steps)) * 0.1).astype(np.float32)
    times = START + 60_000 * np.arange(steps)
    return Batch(values, np.ones(values.shape, bool), times, 60_000, ("a", "b", "c"))


@pytest.fixture(scope="module")
def detector() -> Detector[Any]:
    return cast(Detector[Any], build("detectors", "ridge_ar", {"device": "cpu"}, PluginContext("test")))


@pytest.fixture(scope="module")
def state(detector: Detector[Any]) -> State:
    return detector.fit(window())


def fill(registry: ModelRegistry, detector: Detector[Any], state: State) -> ModelVersion:
    """A champion, an LLM, a prompt and a trace."""
    data = Dataset("sha256:" + "ab" * 32, NAME, "up", START, START + 60_000, 60_000, 3, 3, "datasets/x.parquet", START)
    told = {"options": detector.options.model_dump_json(), "job": "job-1"}
    version = registry.log_training(NAME, state, family="ridge_ar", dataset=data, parameters=told, metrics={"x": 1.0})
    PromptRegistry(registry.tracking).register([PromptText(PROMPT, "It is {now}.", ("now",), "1")])
    registry.log_llm("openai", "gpt-5-mini", PROMPT, "1")
    call = LlmCall("openai:gpt-5-mini", f"{PROMPT}@1", "key:1", START, START + 1500, 1200, 80, 0.002)
    LlmTraces(registry.tracking).write(call)
    return registry.promote(NAME, version.version)


def expected(detector: Detector[Any], state: State) -> list[float | None]:
    values = np.sin(np.arange(50) / 50).astype(np.float32)[None]
    batch = Batch(values, np.ones((1, 50), bool), START + 60_000 * np.arange(50), 60_000, ("a",))
    return [None if np.isnan(v) else float(v) for v in detector.score(state.select(["a"]), batch).score[0]]


@pytest.mark.filterwarnings("ignore")  # what MLflow's own modules warn of when they are first imported
def test_mlflow_loads_the_champion_by_our_flavour(
    tmp_path: Path, detector: Detector[Any], state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd = pytest.importorskip("pandas")
    monkeypatch.setenv("AIOPS_DATA_DIR", str(tmp_path))
    registry = ModelRegistry(tmp_path)
    version = fill(registry, detector, state)
    mlflow = import_mlflow()
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry.tracking.uri)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    finally:
        mlflow.set_tracking_uri(before)
    assert [column.name for column in model.metadata.signature.inputs] == ["timestamp", "series", "value"]
    frame = pd.DataFrame(
        {
            "timestamp": START + 60_000 * np.arange(50),
            "series": ["a"] * 50,
            "value": np.sin(np.arange(50) / 50),
        }
    )
    scores = model.predict(frame.iloc[::-1])["score"].to_numpy()[::-1]
    np.testing.assert_allclose(scores, np.array(expected(detector, state), float), atol=1e-6)
    with pytest.raises(InvalidInput, match="not trained on"):
        model.predict(frame.assign(series="z"))
    with pytest.raises(InvalidInput, match="not spaced"):
        model.predict(frame.assign(timestamp=frame["timestamp"] + np.arange(50)))
    registry.load_state(version)  # MLflow leaves a note in the folder
    (tmp_path / "models" / version.run_id / "artifacts" / "manifest.json").write_text("{}")
    with pytest.raises(InvalidInput, match="changed"):
        mlflow.pyfunc.load_model(version.source)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the whole of MLflow, and behind its packages ours."""
    if given := os.environ.get("MLFLOW_PYTHON"):
        return Path(given)
    folder = tmp_path_factory.mktemp("mlflow") / "venv"
    venv.create(folder, with_pip=True)
    found = folder / "bin" / "python"
    release = import_mlflow().__version__
    subprocess.run([found, "-m", "pip", "install", "--quiet", f"mlflow=={release}"], check=True, timeout=600)
    packages = next((folder / "lib").glob("python3*")) / "site-packages"
    (packages / "zz-ours.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    return found


@contextmanager
def mlflow_server(python: Path, place: Path, backend: str) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [python, "-m", "mlflow", "server", "--backend-store-uri", backend, "--host", "127.0.0.1"]
    more = ["--port", str(port), "--workers", "1", "--artifacts-destination", str(place / "artifacts")]
    with (place / "server.log").open("wb") as out:
        process = subprocess.Popen(
            [*map(str, command), *more], cwd=place, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        until = time.monotonic() + READY_S
        while True:
            try:
                if httpx.get(f"{url}/health", timeout=2).is_success:
                    break
            except httpx.HTTPError:
                pass
            assert process.poll() is None, (place / "server.log").read_text()[-2000:]
            assert time.monotonic() < until, (place / "server.log").read_text()[-2000:]
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def read(python: Path, uri: str, home: Path) -> dict[str, Any]:
    environment = {**os.environ, "AIOPS_DATA_DIR": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
    script = [str(python), str(ROOT / "tests" / "integration" / "mlflow_reader.py"), uri, NAME, PROMPT]
    done = subprocess.run(script, capture_output=True, text=True, env=environment, cwd=home, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return cast(dict[str, Any], json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_whole_of_mlflow_opens_our_store(
    tmp_path: Path, python: Path, detector: Detector[Any], state: State
) -> None:
    home = tmp_path / "data"
    registry = ModelRegistry(home)
    version = fill(registry, detector, state)
    seen = read(python, registry.tracking.uri, home)
    assert seen["models"] == [NAME, "llm-openai-gpt-5-mini"]
    assert seen["inputs"] == ["timestamp", "series", "value"]
    assert seen["example"] == 5
    np.testing.assert_allclose(np.array(seen["score"], float), np.array(expected(detector, state), float), atol=1e-6)
    assert seen["dataset"] == "ab" * 16
    assert seen["parameters"]["job"] == "job-1"
    assert seen["prompt"] == "It is noon."
    assert seen["tokens"] == [{"input_tokens": 1200, "output_tokens": 80, "total_tokens": 1280}]
    with mlflow_server(python, tmp_path, registry.tracking.uri) as url:
        page = httpx.get(url, timeout=10)
        assert page.is_success
        assert "MLflow" in page.text
        listed = httpx.get(f"{url}/api/2.0/mlflow/registered-models/search", timeout=10).json()
        assert NAME in {item["name"] for item in listed["registered_models"]}
    registry.load_state(version)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_company_s_own_server_keeps_our_records(
    tmp_path: Path, python: Path, detector: Detector[Any], state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN", raising=False)
    home = tmp_path / "data"
    with mlflow_server(python, tmp_path, f"sqlite:///{tmp_path / 'theirs.db'}") as url:
        settings = RegistrySettings(tracking_url=url, tracking_token="hush")
        registry = ModelRegistry(home, settings)
        version = fill(registry, detector, state)
        assert not (home / "mlflow.db").exists()
        assert not (home / "models").exists()
        other = ModelRegistry(home, settings)
        champion = other.get(NAME)
        assert champion is not None
        assert dataclasses.replace(champion, aliases=()) == dataclasses.replace(version, aliases=())
        for name, array in other.load_state(champion).arrays.items():
            np.testing.assert_array_equal(array, state.arrays[name])
        seen = read(python, url, home)
        assert seen["models"] == [NAME, "llm-openai-gpt-5-mini"]
        assert seen["tokens"] == [{"input_tokens": 1200, "output_tokens": 80, "total_tokens": 1280}]
        place = next((tmp_path / "artifacts").rglob("state.safetensors"))
        place.write_bytes(place.read_bytes()[:-1] + b"\xff")
        with pytest.raises(InvalidInput, match=r"changed after they were signed \(state.safetensors\)"):
            other.load_state(champion)
        second = registry.log_training(NAME, state, family="ridge_ar", dataset="d", parameters={}, metrics={})
        registry.promote(NAME, second.version)
        assert registry.rollback(NAME).version == version.version
        registry.delete_version(NAME, second.version)
        assert [v.version for v in registry.versions(NAME)] == [version.version]
