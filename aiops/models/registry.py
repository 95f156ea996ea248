"""Tracking and registry of models: embedded MLflow (``mlflow-skinny``) in the data folder, or a company's own by URL.

A version is a run (parameters, metrics, dataset) and a signed folder of artifacts (``flavour``); loading verifies it.
``champion`` serves, ``challenger`` waits.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiops.core.anomaly import State
from aiops.core.errors import Conflict, InvalidInput, NotFound, TransientError
from aiops.core.model import Dataset, ModelVersion
from aiops.core.ports import Clock, system_clock
from aiops.models import flavour
from aiops.models.code_version import code_version
from aiops.models.encryption import ArtifactKey
from aiops.models.flavour import MANIFEST_FILE, STATE_FILE
from aiops.models.run_inputs import training_input
from aiops.models.signing import KEY_FOLDER, Signer
from aiops.models.tracking import Tracking
from aiops.settings.models import RegistrySettings

__all__ = ["CHALLENGER", "CHAMPION", "LLM_FAMILY", "MANIFEST_FILE", "STATE_FILE", "ModelRegistry"]

CHAMPION, CHALLENGER = "champion", "challenger"
LLM_FAMILY = "llm"
"""Family of the records of LLMs, which have no artifact."""
_EXPERIMENT, _PREVIOUS, _SHA256 = "detection", "aiops.previous_champion", "aiops.sha256"
_PARAMETER = "aiops.parameter."
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_PAGE = 1000


class ModelRegistry:
    """Thread-safe. MLflow is imported and its database made on the first use, some seconds: use a background thread.

    Args:
        data_dir: holds ``mlflow.db``, ``models/`` and the signing key.
        settings: another MLflow, keys, whether signatures are required.
        key: encrypts artifacts.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: RegistrySettings | None = None,
        *,
        key: ArtifactKey | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.settings = settings or RegistrySettings()
        self.tracking = Tracking(data_dir, self.settings)
        self.signer = Signer(data_dir / KEY_FOLDER, self.settings)
        self._key = key
        self._clock = clock

    # -------------------------------------------------------------- writing

    def log_training(
        self,
        name: str,
        state: State,
        *,
        family: str,
        dataset: Dataset | str,
        parameters: Mapping[str, str],
        metrics: Mapping[str, float],
        parent: str = "",
    ) -> ModelVersion:
        """Record a finished run and register its state as the next version of ``name``, signed, with no alias yet.

        Args:
            dataset: the snapshot that it was trained on, or its hash where none is kept.
            parameters: ``options`` are the detector's, as JSON; ``job`` names the training job.
            parent: reference of the version before it.
        """
        digest = dataset.id if isinstance(dataset, Dataset) else dataset
        told = {**parameters, "family": family, "dataset": digest, "parent": parent, "code": code_version()}
        now = self._clock()
        with self.tracking.client() as client, tempfile.TemporaryDirectory(prefix="aiops-model-") as place:
            from mlflow.entities import Metric, Param

            experiment = self.tracking.experiment(client, _EXPERIMENT)
            run = client.create_run(experiment, run_name=name, tags={"mlflow.user": "aiops"})
            run_id = str(run.info.run_id)
            client.log_batch(
                run_id,
                params=[Param(key, value) for key, value in told.items()],
                metrics=[Metric(key, number, now, 0) for key, number in metrics.items()],
            )
            if isinstance(dataset, Dataset):
                client.log_inputs(run_id, [training_input(dataset)])
            manifest = flavour.Manifest(
                name=name,
                run_id=run_id,
                family=family,
                options=parameters.get("options", "{}"),
                step_ms=state.step_ms,
                series=len(state.series_ids),
                sha256="",
                dataset=digest,
                parent=parent,
                code=code_version(),
            )
            folder = Path(place)
            flavour.write(folder, state, manifest, now, self._key)
            self.signer.sign(folder)
            sealed = json.loads((folder / MANIFEST_FILE).read_bytes())["sha256"]
            source = self._store(client, folder, run_id)
            client.set_terminated(run_id)
            self._ensure(client, name)
            made = client.create_model_version(name, source, run_id=run_id, tags={_SHA256: sealed})
            return self._record(client, made, ())

    def log_llm(self, provider: str, model: str, prompt: str, prompt_version: str) -> ModelVersion:
        """The record of an LLM with a version of a prompt, made champion; the same again is the same version."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"llm-{provider}-{model}")
        told = {"provider": provider, "model": model, "prompt": f"{prompt}@{prompt_version}", "code": code_version()}
        for version in self.versions(name):
            if dict(version.parameters).get("prompt") == told["prompt"]:
                return self.promote(name, version.version)
        with self.tracking.client() as client:
            self._ensure(client, name)
            tags = {f"{_PARAMETER}{key}": value for key, value in {**told, "family": LLM_FAMILY}.items()}
            made = client.create_model_version(name, f"prompts:/{prompt}/{prompt_version}", tags=tags)
        return self.promote(name, str(made.version))

    def delete_version(self, name: str, number: str) -> None:
        """Delete a version with its run and artifact; the last one takes the name with it.

        Raises:
            NotFound: there is no such version.
            Conflict: it carries an alias, so that it serves or is on trial.
        """
        version = self.version(name, number)
        if version.aliases:
            raise Conflict(
                f"{version.reference} is the {version.aliases[0]} and cannot be deleted.",
                hint="Promote another version first.",
            )
        with self.tracking.client() as client:
            client.delete_model_version(name, number)
            if version.run_id:
                client.delete_run(version.run_id)
            if not client.search_model_versions(_named(name), max_results=1):
                client.delete_registered_model(name)
        if version.run_id and not self.tracking.remote:
            shutil.rmtree(self._local(version).parent, ignore_errors=True)

    # -------------------------------------------------------------- reading

    def names(self) -> list[str]:
        with self.tracking.client() as client:
            found: list[str] = []
            token = None
            while True:
                page = client.search_registered_models(max_results=_PAGE, page_token=token)
                found += [item.name for item in page]
                if not (token := page.token):
                    return sorted(found)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions, the newest first; none for an unknown name."""
        with self.tracking.client() as client:
            aliases = self._aliases(client, name)
            if aliases is None:
                return []
            found = sorted(client.search_model_versions(_named(name)), key=lambda v: int(v.version), reverse=True)
            return [self._record(client, item, aliases.get(str(item.version), ())) for item in found]

    def get(self, name: str, alias: str = CHAMPION) -> ModelVersion | None:
        """The version that carries an alias."""
        with self.tracking.client() as client:
            aliases = self._aliases(client, name) or {}
            number = next((v for v, held in aliases.items() if alias in held), None)
            return None if number is None else self._version(client, name, number, aliases)

    def version(self, name: str, number: str) -> ModelVersion:
        """Raises ``NotFound``."""
        with self.tracking.client() as client:
            aliases = self._aliases(client, name)
            if aliases is None:
                raise NotFound(f"There is no model named '{name}'.")
            return self._version(client, name, number, aliases)

    def lookup(self, reference: str) -> ModelVersion:
        """The version that ``<name>/<number>`` names. Raises ``NotFound``."""
        name, _, number = reference.partition("/")
        return self.version(name, number)

    # -------------------------------------------------------------- aliases

    def set_alias(self, name: str, alias: str, number: str) -> None:
        with self.tracking.client() as client:
            client.set_registered_model_alias(name, alias, number)

    def drop_alias(self, name: str, alias: str, number: str) -> None:
        """Take an alias from a version, if it carries it."""
        with self.tracking.client() as client:
            if alias in (self._aliases(client, name) or {}).get(number, ()):
                client.delete_registered_model_alias(name, alias)

    def promote(self, name: str, number: str) -> ModelVersion:
        """Make a version the champion; the one before is remembered for :meth:`rollback`. Raises ``NotFound``."""
        now = self.version(name, number)
        if CHAMPION in now.aliases:
            return now
        with self.tracking.client() as client:
            held = {alias: v for v, names in (self._aliases(client, name) or {}).items() for alias in names}
            client.set_registered_model_tag(name, _PREVIOUS, held.get(CHAMPION, ""))
            client.set_registered_model_alias(name, CHAMPION, number)
            if held.get(CHALLENGER) == number:
                client.delete_registered_model_alias(name, CHALLENGER)
        return self.version(name, number)

    def rollback(self, name: str) -> ModelVersion:
        """Give ``champion`` back to the version that held it before. Raises ``NotFound`` where there was none."""
        with self.tracking.client() as client:
            if self._aliases(client, name) is None:
                raise NotFound(f"There is no model named '{name}'.")
            before = dict(client.get_registered_model(name).tags).get(_PREVIOUS, "")
        if not before:
            raise NotFound(f"The model '{name}' had no champion before the present one.")
        return self.promote(name, before)

    # -------------------------------------------------------------- artifacts

    @contextmanager
    def folder_of(self, version: ModelVersion) -> Iterator[Path]:
        """A version's artifacts in a local folder, verified; gone afterwards where a server keeps them.

        Raises:
            NotFound: the version has no artifact.
            InvalidInput: it is refused, with the reason.
            TransientError: it cannot be read.
        """
        if not version.run_id:
            raise NotFound(f"{version.reference} has no artifact: it is the record of an LLM.")
        with tempfile.TemporaryDirectory(prefix="aiops-model-") as place:
            folder = Path(place) / version.run_id if self.tracking.remote else self._local(version)
            try:
                if self.tracking.remote:
                    folder.mkdir()
                    with self.tracking.client() as client:
                        client.download_artifacts(version.run_id, "", str(folder))
                elif not folder.is_dir():
                    raise TransientError(f"The artifact of {version.reference} is not there.")
                self.signer.verify(folder)
            except OSError as error:
                raise TransientError(f"The artifact of {version.reference} cannot be read: {error}.") from error
            except InvalidInput as error:
                raise InvalidInput(
                    error.message.replace(f"in {folder.name}", version.reference), hint=error.hint
                ) from error
            yield folder

    def load_state(self, version: ModelVersion) -> State:
        """The fitted state of a version, verified and decrypted. Raises as :meth:`folder_of` does, or ``ConfigError``
        where it is encrypted and no key is set."""
        with self.folder_of(version) as folder:
            state, manifest = flavour.read(folder, self._key)
        if (manifest.name, manifest.run_id) != (version.name, version.run_id):
            raise InvalidInput(
                f"The artifact of {version.reference} is that of another version.",
                hint="Restore it from a backup, or roll back to another version.",
            )
        return state

    # -------------------------------------------------------------- MLflow

    def _store(self, client: Any, folder: Path, run_id: str) -> str:
        """Put the artifacts where they belong; returns their URI.

        Not by MLflow where the folder is ours: it goes by a path that it noted when its database was made, and the
        data folder may have been brought back elsewhere since.
        """
        if self.tracking.remote:
            client.log_artifacts(run_id, str(folder))
            return str(client.get_run(run_id).info.artifact_uri)
        place = self.tracking.artifacts / run_id / "artifacts"
        try:
            shutil.copytree(folder, place)
        except OSError as error:
            raise TransientError(f"The artifacts cannot be written to {place}: {error.strerror}.") from error
        return place.as_uri()

    def _local(self, version: ModelVersion) -> Path:
        """Where the artifacts are, by the run alone: a path from the database would be followed anywhere."""
        if not _RUN_ID.fullmatch(version.run_id):
            raise InvalidInput(f"The run of {version.reference} has no valid id.")
        return self.tracking.artifacts / version.run_id / "artifacts"

    @staticmethod
    def _ensure(client: Any, name: str) -> None:
        if not client.search_registered_models(_named(name), max_results=1):
            client.create_registered_model(name)

    @staticmethod
    def _aliases(client: Any, name: str) -> dict[str, tuple[str, ...]] | None:
        """Version to its aliases; ``None`` where there is no such model."""
        found = client.search_registered_models(_named(name), max_results=1)
        if not found:
            return None
        held: dict[str, tuple[str, ...]] = {}
        for alias, number in found[0].aliases.items():
            held[str(number)] = (*held.get(str(number), ()), alias)
        return held

    def _version(self, client: Any, name: str, number: str, aliases: Mapping[str, Sequence[str]]) -> ModelVersion:
        if not number.isdigit():
            raise NotFound(f"'{number}' is not a version of the model '{name}'.")
        return self._record(client, client.get_model_version(name, number), tuple(aliases.get(number, ())))

    @staticmethod
    def _record(client: Any, item: Any, aliases: tuple[str, ...]) -> ModelVersion:
        found = ModelVersion(
            name=item.name,
            version=str(item.version),
            family="",
            run_id=item.run_id or "",
            source=item.source or "",
            created_ms=int(item.creation_timestamp),
            aliases=tuple(sorted(aliases)),
        )
        if item.run_id:
            data = client.get_run(item.run_id).data
            told, metrics = dict(data.params), tuple(sorted(data.metrics.items()))
        else:
            told = {k.removeprefix(_PARAMETER): v for k, v in dict(item.tags).items() if k.startswith(_PARAMETER)}
            metrics = ()
        return dataclasses.replace(
            found,
            family=told.get("family", ""),
            dataset=told.get("dataset", ""),
            parameters=tuple(sorted(told.items())),
            metrics=metrics,
        )


def _named(name: str) -> str:
    """MLflow's filter for one name. Raises ``NotFound`` for a name that no model can have."""
    if "'" in name or '"' in name:
        raise NotFound(f"There is no model named {name!r}.")
    return f"name='{name}'"
