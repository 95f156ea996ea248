"""The way to MLflow: its client over the database in the data folder, or over a company's server.

MLflow is imported and its database made on the first use, some seconds; its usage reporting is off.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiops.core.errors import NotFound, PermanentError, TransientError
from aiops.settings.models import RegistrySettings

ARTIFACTS = "models"
_PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
_REQUEST_S, _RETRIES = "15", "2"


class Tracking:
    """One caller at a time. Thread-safe.

    Args:
        data_dir: holds ``mlflow.db`` and ``models/`` where no server is set.
        settings: the server, and the token for it.
    """

    def __init__(self, data_dir: Path, settings: RegistrySettings | None = None) -> None:
        self._data_dir = data_dir
        self._settings = settings or RegistrySettings()
        self._lock = threading.RLock()
        self._made: Any = None
        self._experiments: dict[str, str] = {}

    @property
    def remote(self) -> bool:
        """Whether a server keeps the records and the artifacts."""
        return bool(self._settings.tracking_url)

    @property
    def made(self) -> bool:
        """Whether there is something to ask already: a server, or the database."""
        return self.remote or (self._data_dir / "mlflow.db").is_file()

    @property
    def uri(self) -> str:
        """What MLflow calls a tracking URI."""
        return self._settings.tracking_url or f"sqlite:///{self._data_dir.resolve() / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Where artifacts are where no server keeps them."""
        return self._data_dir.resolve() / ARTIFACTS

    @contextmanager
    def client(self) -> Iterator[Any]:
        """MLflow's client.

        Raises:
            NotFound, TransientError, PermanentError: what MLflow refuses.
        """
        with self._lock:
            mlflow = import_mlflow()
            try:
                if self._made is None:
                    with _quiet():
                        self._made = self._connect(mlflow)
                yield self._made
            except mlflow.exceptions.MlflowException as error:
                text = f"The model registry refused: {(str(error).splitlines() or [''])[0][:300]}"
                if error.error_code in _PASSING:
                    raise TransientError(text) from error
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    raise NotFound(text) from error
                raise PermanentError(text) from error

    def experiment(self, client: Any, name: str) -> str:
        """The id of an experiment, made where there is none."""
        if name not in self._experiments:
            found = client.get_experiment_by_name(name)
            place = None if self.remote else self.artifacts.as_uri()
            made = found.experiment_id if found else client.create_experiment(name, artifact_location=place)
            self._experiments[name] = str(made)
        return self._experiments[name]

    def _connect(self, mlflow: Any) -> Any:
        if self.remote:
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", _REQUEST_S)
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _RETRIES)
            if token := self._settings.tracking_token.get_secret_value():
                os.environ["MLFLOW_TRACKING_TOKEN"] = token  # the one way in which MLflow takes it
        else:
            try:
                self.artifacts.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise PermanentError(f"The folder {self.artifacts} cannot be made: {error}.") from error
        return mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)


@contextmanager
def _quiet() -> Iterator[None]:
    """Deprecation warnings of MLflow's own code, all raised on its first use, stay inside."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*deprecated.*")
        yield


@functools.cache
def import_mlflow() -> Any:
    """MLflow, silent, telling nobody of its use and fetching nothing."""
    # MLflow reads this when it is first imported; without it it writes an installation id and reports its usage.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # It prices the tokens of a trace, and would fetch the prices from its makers first; it brings some along.
    os.environ["MLFLOW_MODEL_CATALOG_URI"] = ""
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
