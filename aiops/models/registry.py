"""Tracking and registry of models: embedded MLflow (``mlflow-skinny``) in the data folder, or a company's own by URL.

A version is a run (parameters, metrics, dataset hash), a safetensors artifact and a JSON manifest that names the
artifact's SHA-256; loading verifies it. ``champion`` serves, ``challenger`` waits. MLflow keeps its own SQLite file
beside ours, and its usage reporting is off.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiops.core.anomaly import State
from aiops.core.errors import InvalidInput, NotFound, PermanentError, TransientError
from aiops.core.model import ModelVersion
from aiops.core.ports import Clock, system_clock
from aiops.models import artifacts

CHAMPION, CHALLENGER = "champion", "challenger"
STATE_FILE, MANIFEST_FILE = "state.safetensors", "manifest.json"
_EXPERIMENT, _PREVIOUS, _SHA256 = "detection", "aiops.previous_champion", "aiops.sha256"


class ModelRegistry:
    """Thread-safe. MLflow is imported and its database made on the first use, some seconds: use a background thread.

    Args:
        data_dir: holds ``mlflow.db`` and ``models/``.
        tracking_url: an MLflow server to use instead.
    """

    def __init__(self, data_dir: Path, tracking_url: str = "", clock: Clock = system_clock) -> None:
        self._data_dir = data_dir
        self._url = tracking_url
        self._clock = clock
        self._lock = threading.RLock()
        self._made: Any = None

    def log_training(
        self,
        name: str,
        state: State,
        *,
        family: str,
        dataset: str,
        parameters: Mapping[str, str],
        metrics: Mapping[str, float],
        parent: str = "",
    ) -> ModelVersion:
        """Record a finished run and register its state as the next version of ``name``, with no alias yet."""
        data = artifacts.dumps(state)
        digest = hashlib.sha256(data).hexdigest()
        manifest = {
            "name": name,
            "family": family,
            "step_ms": state.step_ms,
            "series": len(state.series_ids),
            "sha256": digest,
            "dataset": dataset,
            "parent": parent,
            "parameters": dict(parameters),
        }
        with self._client() as client:
            run = client.create_run(self._experiment(client), run_name=name, tags={"mlflow.user": "aiops"})
            run_id = run.info.run_id
            for key, value in {**parameters, "family": family, "dataset": dataset, "parent": parent}.items():
                client.log_param(run_id, key, value)
            for key, number in metrics.items():
                client.log_metric(run_id, key, number)
            with tempfile.TemporaryDirectory(prefix="aiops-model-") as folder:
                (Path(folder) / STATE_FILE).write_bytes(data)
                (Path(folder) / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1, sort_keys=True))
                client.log_artifacts(run_id, folder)
            client.set_terminated(run_id)
            if name not in self._names(client):
                client.create_registered_model(name)
            made = client.create_model_version(name, run.info.artifact_uri, run_id=run_id, tags={_SHA256: digest})
            return self._record(client, made, ())

    def names(self) -> list[str]:
        with self._client() as client:
            return self._names(client)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions, the newest first; none for an unknown name."""
        with self._client() as client:
            if name not in self._names(client):
                return []
            found = client.search_model_versions(f"name='{name}'")
            aliases = self._aliases(client, name)
            found = sorted(found, key=lambda item: int(item.version), reverse=True)
            return [self._record(client, item, aliases.get(str(item.version), ())) for item in found]

    def get(self, name: str, alias: str = CHAMPION) -> ModelVersion | None:
        """The version that carries an alias."""
        with self._client() as client:
            if name not in self._names(client):
                return None
            aliases = self._aliases(client, name)
            number = next((v for v, held in aliases.items() if alias in held), None)
            return None if number is None else self._version(client, name, number, aliases)

    def version(self, name: str, number: str) -> ModelVersion:
        """Raises ``NotFound``."""
        with self._client() as client:
            if name not in self._names(client):
                raise NotFound(f"There is no model named '{name}'.")
            return self._version(client, name, number, self._aliases(client, name))

    def set_alias(self, name: str, alias: str, number: str) -> None:
        with self._client() as client:
            client.set_registered_model_alias(name, alias, number)

    def promote(self, name: str, number: str) -> ModelVersion:
        """Make a version the champion; the one before is remembered for :meth:`rollback`. Raises ``NotFound``."""
        self.version(name, number)
        with self._client() as client:
            held = {alias: v for v, names in self._aliases(client, name).items() for alias in names}
            before = held.get(CHAMPION, "")
            if before == number:
                return self.version(name, number)
            client.set_registered_model_tag(name, _PREVIOUS, before)
            client.set_registered_model_alias(name, CHAMPION, number)
            if held.get(CHALLENGER) == number:
                client.delete_registered_model_alias(name, CHALLENGER)
            return self.version(name, number)

    def rollback(self, name: str) -> ModelVersion:
        """Give ``champion`` back to the version that held it before. Raises ``NotFound`` where there was none."""
        with self._client() as client:
            if name not in self._names(client):
                raise NotFound(f"There is no model named '{name}'.")
            before = dict(client.get_registered_model(name).tags).get(_PREVIOUS, "")
        if not before:
            raise NotFound(f"The model '{name}' had no champion before the present one.")
        return self.promote(name, before)

    def load_state(self, version: ModelVersion) -> State:
        """The fitted state, checked against the manifest and the registry's own digest.

        Raises:
            InvalidInput: the artifact was changed or is malformed.
            TransientError: it cannot be read.
        """
        with self._client() as client:
            digest = dict(client.get_model_version(version.name, version.version).tags).get(_SHA256, "")
            with tempfile.TemporaryDirectory(prefix="aiops-model-") as folder:
                try:
                    data = self._fetch(client, version, STATE_FILE, folder)
                    manifest = json.loads(self._fetch(client, version, MANIFEST_FILE, folder))
                except OSError as error:
                    raise TransientError(f"The artifact of {version.reference} cannot be read: {error}.") from error
                except ValueError as error:
                    raise InvalidInput(f"The manifest of {version.reference} is not JSON.") from error
        found = hashlib.sha256(data).hexdigest()
        if not isinstance(manifest, dict) or not found == digest == manifest.get("sha256"):
            raise InvalidInput(
                f"The artifact of {version.reference} is not the one that was registered (its SHA-256 differs).",
                hint="Restore it from a backup, or roll back to another version.",
            )
        return artifacts.loads(data)

    # -------------------------------------------------------------- MLflow

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """The client, one caller at a time."""
        with self._lock:
            mlflow = _import_mlflow()
            try:
                if self._made is None:
                    with _quiet():
                        self._made = self._connect(mlflow)
                yield self._made
            except mlflow.exceptions.MlflowException as error:
                text = f"The model registry refused: {str(error).splitlines()[0][:300]}"
                if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"):
                    raise TransientError(text) from error
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    raise NotFound(text) from error
                raise PermanentError(text) from error

    def _connect(self, mlflow: Any) -> Any:
        if self._url:
            return mlflow.MlflowClient(tracking_uri=self._url, registry_uri=self._url)
        try:
            (self._data_dir / "models").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PermanentError(f"The folder {self._data_dir / 'models'} cannot be made: {error}.") from error
        uri = f"sqlite:///{self._data_dir.resolve() / 'mlflow.db'}"
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(_EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        place = None if self._url else (self._data_dir.resolve() / "models").as_uri()
        return str(client.create_experiment(_EXPERIMENT, artifact_location=place))

    @staticmethod
    def _names(client: Any) -> list[str]:
        return sorted(item.name for item in client.search_registered_models(max_results=1000))

    @staticmethod
    def _aliases(client: Any, name: str) -> dict[str, tuple[str, ...]]:
        held: dict[str, tuple[str, ...]] = {}
        for alias, number in client.get_registered_model(name).aliases.items():
            held[str(number)] = (*held.get(str(number), ()), alias)
        return held

    def _version(self, client: Any, name: str, number: str, aliases: Mapping[str, Sequence[str]]) -> ModelVersion:
        if not number.isdigit():
            raise NotFound(f"'{number}' is not a version of the model '{name}'.")
        return self._record(client, client.get_model_version(name, number), tuple(aliases.get(number, ())))

    @staticmethod
    def _record(client: Any, item: Any, aliases: tuple[str, ...]) -> ModelVersion:
        data = client.get_run(item.run_id).data
        return ModelVersion(
            name=item.name,
            version=str(item.version),
            family=data.params.get("family", ""),
            run_id=item.run_id,
            source=item.source,
            created_ms=int(item.creation_timestamp),
            aliases=tuple(sorted(aliases)),
            dataset=data.params.get("dataset", ""),
            parameters=tuple(sorted(data.params.items())),
            metrics=tuple(sorted(data.metrics.items())),
        )

    @staticmethod
    def _fetch(client: Any, version: ModelVersion, file: str, folder: str) -> bytes:
        return Path(client.download_artifacts(version.run_id, file, folder)).read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """Deprecation warnings of MLflow's own code, all raised on its first use, stay inside."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*deprecated.*")
        yield


@functools.cache
def _import_mlflow() -> Any:
    # MLflow reads this when it is first imported; without it it writes an installation id and reports its usage.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with _quiet():
        import mlflow
        import mlflow.exceptions
        import mlflow.telemetry

    telemetry: Any = mlflow.telemetry
    if telemetry.get_telemetry_client() is not None:
        telemetry.set_telemetry_client()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow
