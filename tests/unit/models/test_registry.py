from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

from aiops.core.anomaly import State
from aiops.core.errors import InvalidInput, NotFound
from aiops.core.model import ModelVersion
from aiops.models.registry import CHALLENGER, CHAMPION, ModelRegistry


def state(value: float = 1.0) -> State:
    return State(("a", "b"), 60_000, {"x": np.array([[value, 2], [3, 4]], np.float32)}, {"g": np.array([7])})


def train(registry: ModelRegistry, value: float = 1.0) -> ModelVersion:
    return registry.log_training(
        "anomaly-60s",
        state(value),
        family="fusion",
        dataset="sha256:abc",
        parameters={"query": "up"},
        metrics={"fit_seconds": 0.5},
    )


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    seen: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        seen.append(address)
        raise OSError("no outbound sockets in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return seen


def test_versions_aliases_and_state(tmp_path: Path, no_network: list[object]) -> None:
    registry = ModelRegistry(tmp_path)
    assert registry.get("anomaly-60s") is None
    assert registry.versions("anomaly-60s") == []
    first, second = train(registry), train(registry, 5.0)
    assert (first.version, second.version) == ("1", "2")
    registry.promote("anomaly-60s", first.version)
    registry.set_alias("anomaly-60s", CHALLENGER, second.version)
    champion = registry.get("anomaly-60s", CHAMPION)
    assert champion is not None
    assert champion.reference == "anomaly-60s/1"
    assert champion.dataset == "sha256:abc"
    assert dict(champion.metrics) == {"fit_seconds": 0.5}
    assert dict(champion.parameters)["query"] == "up"
    assert [v.aliases for v in registry.versions("anomaly-60s")] == [(CHALLENGER,), (CHAMPION,)]
    registry.promote("anomaly-60s", second.version)
    loaded = ModelRegistry(tmp_path).load_state(registry.version("anomaly-60s", "2"))
    np.testing.assert_array_equal(loaded.arrays["x"], state(5.0).arrays["x"])
    assert loaded.series_ids == ("a", "b")
    assert loaded.shared["g"][0] == 7
    assert registry.get("anomaly-60s", CHALLENGER) is None
    assert registry.rollback("anomaly-60s").version == "1"
    assert registry.names() == ["anomaly-60s"]
    assert no_network == []


def test_a_changed_artifact_is_refused(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path)
    version = train(registry)
    path = Path(unquote(urlparse(version.source).path)) / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InvalidInput, match="changed after they were signed .state.safetensors"):
        registry.load_state(version)


def test_unknown_names_and_versions(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path)
    with pytest.raises(NotFound):
        registry.version("none", "1")
    train(registry)
    for number in ("9", "x"):
        with pytest.raises(NotFound):
            registry.promote("anomaly-60s", number)
    registry.promote("anomaly-60s", "1")
    with pytest.raises(NotFound, match="no champion before"):
        registry.rollback("anomaly-60s")


_QUIET = """
import socket, sys, threading
from pathlib import Path
seen = []
def note(*arguments, **_):
    seen.append(arguments)
    raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = note
import numpy as np
from aiops.core.anomaly import State
from aiops.models.registry import ModelRegistry
registry = ModelRegistry(Path(sys.argv[1]) / "data")
state = State(("a",), 1000, {"x": np.zeros((1, 2), np.float32)})
version = registry.log_training("m", state, family="f", dataset="d", parameters={}, metrics={})
registry.promote("m", version.version)
registry.load_state(registry.get("m"))
assert not seen, seen
assert not [t.name for t in threading.enumerate() if "elemetry" in t.name]
"""


def test_mlflow_reports_nothing_home(tmp_path: Path) -> None:
    """In a process of its own: MLflow is silent under pytest anyway."""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", _QUIET, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".config").exists()
