"""What the registry keeps and refuses: versions encrypted, swapped, unsigned, deleted; LLMs, prompts, traces."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiops.core.anomaly import Anomaly, Batch, State
from aiops.core.errors import ConfigError, Conflict, InvalidInput, NotFound, PermanentError, TransientError
from aiops.core.model import Deployment, DeploymentState, LlmCall, ModelVersion, Strategy
from aiops.models.checkpoints import Checkpoints
from aiops.models.code_version import code_version, of_checkout
from aiops.models.datasets import DatasetStore
from aiops.models.encryption import MAGIC, ArtifactKey, key_of, seal, unseal
from aiops.models.lineage import LineageReader
from aiops.models.prompt_registry import PromptRegistry, PromptText
from aiops.models.registry import LLM_FAMILY, ModelRegistry
from aiops.models.signing import SIGNATURE
from aiops.models.traces import LlmTraces
from aiops.settings import StoreSettings
from aiops.settings.models import RegistrySettings
from aiops.store.backup import TELEMETRY, back_up, restore
from aiops.store.state.checkpoints import CheckpointRepository
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.datasets import DatasetRepository
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NAME = "anomaly-60s"
NOW = 1_700_000_040_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database, made once: it takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    ModelRegistry(folder).names()
    return folder / "mlflow.db"


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    shutil.copy(made, tmp_path / "data" / "mlflow.db")
    return tmp_path / "data"


def fitted(value: float = 1.0) -> State:
    return State(("a", "b"), 60_000, {"x": np.array([[value, 2], [3, 4]], np.float32)}, {"g": np.array([7])})


def train(registry: ModelRegistry, value: float = 1.0, parent: str = "", dataset: str = "sha256:abc") -> ModelVersion:
    told = {"query": "up", "job": "job-1", "options": "{}"}
    return registry.log_training(
        NAME, fitted(value), family="ridge_ar", dataset=dataset, parameters=told, metrics={}, parent=parent
    )


def files(home: Path, version: ModelVersion) -> Path:
    return home / "models" / version.run_id / "artifacts"


def test_an_artifact_is_what_mlflow_loads(home: Path) -> None:
    registry = ModelRegistry(home)
    with registry.folder_of(train(registry)) as folder:
        names = {path.name for path in folder.iterdir()}
        told = (folder / "MLmodel").read_text()
    assert names == {
        "MLmodel", "input_example.json", "manifest.json", "model.sig", "python_env.yaml", "requirements.txt",
        "state.safetensors",
    }  # fmt: skip
    assert "loader_module: aiops.models.pyfunc" in told
    assert "pickle" not in told


def test_encrypted_artifacts_open_with_their_key_alone(home: Path) -> None:
    key = ArtifactKey(b"secret")
    registry = ModelRegistry(home, key=key)
    version = train(registry)
    raw = (files(home, version) / "state.safetensors").read_bytes()
    assert raw.startswith(MAGIC)
    assert b"series_ids" not in raw
    np.testing.assert_array_equal(registry.load_state(version).arrays["x"], fitted().arrays["x"])
    with pytest.raises(ConfigError, match="encrypted and no key"):
        ModelRegistry(home).load_state(version)
    with pytest.raises(InvalidInput, match="key is another"):
        ModelRegistry(home, key=ArtifactKey(b"other")).load_state(version)
    assert "secret" not in repr(key)


def test_a_sealed_file_is_bound_to_its_name_and_whole() -> None:
    key = ArtifactKey(b"k")
    sealed = seal(b"plain", "a", key)
    assert unseal(sealed, "a", key) == b"plain"
    for data, name in ((sealed, "b"), (sealed[:-1], "a"), (sealed[:10], "a")):
        with pytest.raises(InvalidInput):
            unseal(data, name, key)
    assert unseal(b"plain", "a", key) == b"plain"


def test_which_key_encrypts(tmp_path: Path) -> None:
    none, store = RegistrySettings(), StoreSettings(encryption_key="of the store")
    assert key_of(none, StoreSettings()) is None
    of_store = key_of(none, store)
    assert of_store is not None
    assert of_store.secret == b"of the store"
    (tmp_path / "key").write_text("own\n")
    own = key_of(RegistrySettings(encryption_key_file=tmp_path / "key"), store)
    assert own is not None
    assert own.secret == b"own"
    assert own.for_files != own.for_parquet
    with pytest.raises(ConfigError, match="Both models.registry"):
        key_of(RegistrySettings(encryption_key="x", encryption_key_file=tmp_path / "key"), store)
    with pytest.raises(ConfigError, match="cannot be read"):
        key_of(RegistrySettings(encryption_key_file=tmp_path / "none"), store)


def test_one_version_s_folder_in_place_of_another_s_is_refused(home: Path) -> None:
    registry = ModelRegistry(home)
    one, other = train(registry), train(registry, 5.0)
    shutil.rmtree(files(home, other))
    shutil.copytree(files(home, one), files(home, other))
    with pytest.raises(InvalidInput, match="is that of another version"):
        registry.load_state(other)
    registry.load_state(one)


def test_versions_from_before_signatures_are_refused_unless_allowed(home: Path) -> None:
    registry = ModelRegistry(home)
    version = train(registry)
    (files(home, version) / SIGNATURE).unlink()
    with pytest.raises(InvalidInput, match=f"{NAME}/1 is not signed"):
        registry.load_state(version)
    ModelRegistry(home, RegistrySettings(require_signature=False)).load_state(version)
    shutil.rmtree(files(home, version))
    with pytest.raises(TransientError, match="not there"):
        registry.load_state(version)


def test_a_backup_brought_back_elsewhere_verifies_and_goes_on(home: Path, tmp_path: Path) -> None:
    state = StateDatabase(sqlite_url(home))
    store = TelemetryStore(TelemetryDatabase(home / TELEMETRY, StoreSettings(), lambda: NOW))
    state.upgrade()
    registry = ModelRegistry(home)
    version = train(registry)
    Checkpoints(home, CheckpointRepository(state), registry.signer).save(NAME, version.reference, fitted(), "ridge_ar")
    try:
        back_up(home, store, state, tmp_path / "backup", NOW)
    finally:
        store.close()
        state.close()
    shutil.rmtree(home)
    restore(tmp_path / "backup", tmp_path / "elsewhere")
    again = ModelRegistry(tmp_path / "elsewhere")
    kept = StateDatabase(sqlite_url(tmp_path / "elsewhere"))
    checkpoints = Checkpoints(tmp_path / "elsewhere", CheckpointRepository(kept), again.signer)
    again.load_state(again.version(NAME, "1"))
    checkpoints.load(checkpoints.list(NAME)[0], fitted())
    assert stat.S_IMODE((tmp_path / "elsewhere" / "keys" / "signing.pem").stat().st_mode) == 0o600
    again.load_state(train(again))
    assert not home.exists()
    kept.close()


def test_only_what_carries_no_alias_is_deleted(home: Path) -> None:
    registry = ModelRegistry(home)
    one, two = train(registry), train(registry)
    registry.promote(NAME, two.version)
    with pytest.raises(Conflict, match="is the champion"):
        registry.delete_version(NAME, two.version)
    registry.delete_version(NAME, one.version)
    assert [v.version for v in registry.versions(NAME)] == ["2"]
    assert not files(home, one).exists()
    with pytest.raises((NotFound, PermanentError)):
        registry.version(NAME, one.version)
    registry.load_state(registry.version(NAME, "2"))


def test_a_name_that_no_model_can_have_is_not_found(home: Path) -> None:
    registry = ModelRegistry(home)
    for name in ("x' OR name='y", 'a"b', "none"):
        with pytest.raises(NotFound):
            registry.version(name, "1")


def test_an_llm_with_a_prompt_is_a_model_too(home: Path) -> None:
    registry = ModelRegistry(home)
    train(registry)
    first = registry.log_llm("openai", "gpt-5-mini", "plan_question", "1")
    assert registry.log_llm("openai", "gpt-5-mini", "plan_question", "1") == first
    second = registry.log_llm("openai", "gpt-5-mini", "plan_question", "2")
    assert (second.name, second.version, second.family) == ("llm-openai-gpt-5-mini", "2", LLM_FAMILY)
    assert second.aliases == ("champion",)
    assert dict(second.parameters)["prompt"] == "plan_question@2"
    registry.log_llm("ollama", "qwen3:8b/q4", "plan_question", "1")
    assert registry.names() == [NAME, "llm-ollama-qwen3-8b-q4", "llm-openai-gpt-5-mini"]
    with pytest.raises(NotFound, match="no artifact"):
        registry.load_state(second)


def test_a_prompt_s_version_is_its_text(home: Path) -> None:
    registry = ModelRegistry(home)
    prompts = PromptRegistry(registry.tracking)
    old = PromptText("plan_question", 'Now {now}. {"json": {x}}', ("now",), "1", "plans")
    new = replace(old, text="Now {now}, {zone}", inputs=("now", "zone"))
    assert prompts.register([old]) == {"plan_question": "1"}
    assert prompts.register([old]) == {"plan_question": "1"}
    assert prompts.register([new]) == {"plan_question": "2"}
    with registry.tracking.client() as client:
        used = client.load_prompt("prompts:/plan_question@champion")
    assert used.template == "Now {{now}}, {{zone}}"
    assert used.format(now="noon", zone="UTC") == "Now noon, UTC"
    assert prompts.register([old]) == {"plan_question": "1"}
    assert registry.names() == []


CALL = LlmCall("openai:gpt-5-mini", "plan_question@3", "key:1", NOW, NOW + 1500, 1200, 80, 0.002, "", "hush", "secret")


@pytest.mark.parametrize("contents", [False, True])
def test_calls_of_llms_become_traces(home: Path, contents: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: asked.append(a) or [])
    registry = ModelRegistry(home)
    traces = LlmTraces(registry.tracking, contents=contents)
    traces.record(CALL)
    traces.record(replace(CALL, error="APITimeoutError", asked="", answered=""))
    traces.stop()
    with registry.tracking.client() as client:
        found = client.search_traces(locations=[registry.tracking.experiment(client, "llm")])
    good, bad = sorted(found, key=lambda t: t.info.state, reverse=True)
    assert (good.info.state, bad.info.state) == ("OK", "ERROR")
    assert good.info.execution_duration == 1500
    assert good.info.token_usage == {"input_tokens": 1200, "output_tokens": 80, "total_tokens": 1280}
    told = good.data.spans[0].attributes
    assert told["gen_ai.request.model"] == "gpt-5-mini"
    assert told["gen_ai.provider.name"] == "openai"
    assert told["aiops.prompt.version"] == "3"
    assert ("hush" in json.dumps(told)) is contents
    assert ("secret" in json.dumps(told)) is contents
    assert "key:1" not in json.dumps(told)
    assert bad.data.spans[0].attributes["error.type"] == "APITimeoutError"
    assert asked == []  # MLflow would look up prices at its makers'


def test_an_mlflow_that_is_away_stops_no_call(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where a folder belongs")
    traces = LlmTraces(ModelRegistry(tmp_path).tracking)
    traces.record(CALL)
    traces.stop()


def anomaly(model: str) -> Anomaly:
    return Anomaly(
        "an-1", (("a", "b"),), "s", "m", "q", "latency", "up", NOW, NOW, None, 1, 2, 0, 3, 3, 0.1, model=model
    )  # fmt: skip


def test_the_lineage_of_an_anomaly(home: Path) -> None:
    database = StateDatabase("sqlite:///:memory:")
    database.upgrade()
    times = iter(range(NOW - 1000, NOW + 1000, 500))
    registry = ModelRegistry(home)
    datasets = DatasetStore(home, DatasetRepository(database))
    checkpoints = Checkpoints(home, CheckpointRepository(database), registry.signer, clock=lambda: next(times))
    values = np.ones((2, 3), np.float32)
    kept = datasets.snapshot(NAME, Batch(values, values > 0, NOW + 60_000 * np.arange(3), 60_000, ("a", "b")), "up")
    one = train(registry)
    two = registry.log_training(
        NAME, fitted(), family="ridge_ar", dataset=kept, parameters={"job": "job-2"}, metrics={"m": 1.0},
        parent=one.reference,
    )  # fmt: skip
    earlier, *_, later = (checkpoints.save(NAME, two.reference, fitted(n), "ridge_ar") for n in range(4))
    trials = [
        Deployment("d1", NAME, Strategy.CANARY, "1", "2", 0.1, DeploymentState.PROMOTED, NOW, "x"),
        Deployment("d2", NAME, Strategy.CANARY, "3", "4", 0.1, DeploymentState.RUNNING, NOW, "x"),
    ]
    reader = LineageReader(registry, datasets, checkpoints, lambda _: trials)
    found = reader.of(anomaly(two.reference))
    assert found.version == two
    assert found.verified
    assert found.dataset == kept
    assert found.code == code_version()
    assert found.job == "job-2"
    assert [p.reference for p in found.parents] == [one.reference]
    assert found.checkpoint is not None
    assert earlier.created_ms <= found.checkpoint.created_ms <= NOW < later.created_ms
    assert [d.id for d in found.deployments] == ["d1"]
    assert found.gaps == ()
    (files(home, two) / "manifest.json").write_text("{}")
    changed = reader.of(anomaly(two.reference))
    assert not changed.verified
    assert "changed after they were signed" in changed.gaps[0]
    assert "not kept any more" in reader.of(anomaly(one.reference)).gaps[0]
    assert "has been deleted" in reader.of(anomaly(f"{NAME}/9")).gaps[0]
    assert "is a rule" in reader.of(anomaly(f"{NAME}/presence")).gaps[0]
    assert reader.of(anomaly("")).version is None
    with registry.tracking.client() as client:
        inputs = client.get_run(two.run_id).inputs.dataset_inputs
    assert inputs[0].dataset.name == NAME
    assert kept.id.removeprefix("sha256:").startswith(inputs[0].dataset.digest)


def test_the_revision_of_a_checkout(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    assert of_checkout(tmp_path) == ""
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs\n{'a' * 40} refs/heads/main\n")
    assert of_checkout(tmp_path) == "a" * 40
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "main").write_text("b" * 40 + "\n")
    assert of_checkout(tmp_path) == "b" * 40
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert of_checkout(tmp_path) == "c" * 40


def test_the_token_of_a_server_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN", raising=False)
    settings = RegistrySettings(tracking_url="http://127.0.0.1:9", tracking_token="hush")
    assert "hush" not in repr(settings)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TransientError) as caught:
        ModelRegistry(tmp_path, settings).names()
    assert "hush" not in str(caught.value)
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "hush"
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
