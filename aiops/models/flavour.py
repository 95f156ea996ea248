"""An artifact's folder as MLflow knows it: our state, an ``MLmodel`` that names our loader, no pickle.

``mlflow.pyfunc.load_model("models:/NAME@champion")`` gives a scorer of data frames wherever this package and MLflow
are installed. The folder's files: ``state.safetensors`` (sealed where a key is set), ``manifest.json``, ``MLmodel``,
``requirements.txt``, ``python_env.yaml``, an input example that is made up, and ``model.sig``.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aiops import __version__
from aiops.core.anomaly import State
from aiops.core.errors import InvalidInput, TransientError
from aiops.models import artifacts
from aiops.models.encryption import ArtifactKey, seal, unseal

STATE_FILE, MANIFEST_FILE, MODEL_FILE, EXAMPLE_FILE = (
    "state.safetensors",
    "manifest.json",
    "MLmodel",
    "input_example.json",
)
LOADER = "aiops.models.pyfunc"
_INPUTS = (("timestamp", "long"), ("series", "string"), ("value", "double"))
_OUTPUTS = (
    ("timestamp", "long"),
    ("series", "string"),
    ("score", "double"),
    ("expected", "double"),
    ("lower", "double"),
    ("upper", "double"),
)
_EXAMPLE_STEPS = 5


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself; signed with it.

    ``run_id`` and ``name`` bind it to its version: another version's folder, put in its place, is refused.
    """

    name: str
    run_id: str
    family: str
    options: str
    step_ms: int
    series: int
    sha256: str
    dataset: str
    parent: str
    code: str

    @classmethod
    def of(cls, data: Any) -> Manifest:
        """Raises ``InvalidInput`` where a field is missing or of another kind."""
        try:
            found = cls(**{name: data[name] for name in cls.__slots__})
        except (KeyError, TypeError) as error:
            raise InvalidInput(f"The manifest lacks {error}.") from error
        numbers = {"step_ms", "series"}
        if any(isinstance(getattr(found, n), int) is not (n in numbers) for n in cls.__slots__):
            raise InvalidInput("The manifest's fields are not of their kinds.")
        return found


def write(folder: Path, state: State, manifest: Manifest, created_ms: int, key: ArtifactKey | None) -> None:
    """Write an artifact's files, all but the signature. ``manifest.sha256`` is set here."""
    data = artifacts.dumps(state)
    (folder / STATE_FILE).write_bytes(seal(data, STATE_FILE, key))
    said = {name: getattr(manifest, name) for name in Manifest.__slots__}
    said["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(said, indent=1, sort_keys=True))
    (folder / EXAMPLE_FILE).write_text(json.dumps(_example(state, created_ms)))
    requirements = f"aiops-assistant=={__version__}\nmlflow\n"
    (folder / "requirements.txt").write_text(requirements)
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(yaml.safe_dump(environment, sort_keys=False))
    (folder / MODEL_FILE).write_text(yaml.safe_dump(_description(said, created_ms), sort_keys=False))


def read(folder: Path, key: ArtifactKey | None) -> tuple[State, Manifest]:
    """The state and what is said of it; the folder's signature has been checked before.

    Raises:
        InvalidInput: a file is malformed, or the state is not the manifest's.
        ConfigError: it is encrypted and no key is set.
        TransientError: it cannot be read.
    """
    try:
        data = (folder / STATE_FILE).read_bytes()
        manifest = Manifest.of(json.loads((folder / MANIFEST_FILE).read_bytes()))
    except OSError as error:
        raise TransientError(f"The artifact in {folder.name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The manifest in {folder.name} is not JSON.") from error
    plain = unseal(data, STATE_FILE, key)
    if hashlib.sha256(plain).hexdigest() != manifest.sha256:
        raise InvalidInput(f"The state in {folder.name} is not the manifest's (its SHA-256 differs).")
    return artifacts.loads(plain), manifest


def _description(manifest: dict[str, Any], created_ms: int) -> dict[str, Any]:
    columns = {
        side: json.dumps([{"type": kind, "name": name, "required": True} for name, kind in listed])
        for side, listed in (("inputs", _INPUTS), ("outputs", _OUTPUTS))
    }
    return {
        "flavors": {
            "python_function": {
                "loader_module": LOADER,
                "python_version": platform.python_version(),
                "env": {"virtualenv": "python_env.yaml"},
            },
            "aiops": {k: manifest[k] for k in ("family", "options", "step_ms", "series", "dataset", "parent", "code")},
        },
        "run_id": manifest["run_id"],
        "utc_time_created": _utc(created_ms),
        "signature": {**columns, "params": None},
        "saved_input_example_info": {"artifact_path": EXAMPLE_FILE, "type": "dataframe", "pandas_orient": "split"},
    }


def _example(state: State, created_ms: int) -> dict[str, Any]:
    """A few steps of the first series, with values that nobody measured."""
    series = state.series_ids[0] if state.series_ids else ""
    start = created_ms // state.step_ms * state.step_ms
    rows = [[start + k * state.step_ms, series, float(k)] for k in range(_EXAMPLE_STEPS)]
    return {"columns": [name for name, _ in _INPUTS], "data": rows}


def _utc(time_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
