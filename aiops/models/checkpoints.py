"""State checkpoints: what a version became in service, signed, kept a few deep, and what may be restored.

A checkpoint is a folder of the same files as a version's, under ``checkpoints/``; a new version is made by a training
job alone. What comes back from one is checked like a new version: its shape here, its scores by who reads the metrics.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from aiops.core.anomaly import State
from aiops.core.errors import InvalidInput, NotFound, TransientError
from aiops.core.ports import Clock, system_clock
from aiops.models import flavour
from aiops.models.code_version import code_version
from aiops.models.encryption import ArtifactKey
from aiops.models.flavour import MANIFEST_FILE, Manifest
from aiops.models.signing import Signer
from aiops.store.state.checkpoints import Checkpoint

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
_EARLIER = "Restore an earlier one; see `aiops models checkpoints`."


class CheckpointRecords(Protocol):
    """Where the records are kept."""

    def add(self, checkpoint: Checkpoint, keep: int = 5) -> tuple[Checkpoint, tuple[Checkpoint, ...]]: ...

    def of(self, model: str) -> tuple[Checkpoint, ...]: ...


class Checkpoints:
    """Saves, lists and loads. Thread-safe.

    Args:
        data_dir: the folders go into ``checkpoints/`` below it.
        keep: newest checkpoints kept of each model.
        key: encrypts the states.
    """

    def __init__(
        self,
        data_dir: Path,
        records: CheckpointRecords,
        signer: Signer,
        *,
        keep: int = 5,
        key: ArtifactKey | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._data_dir = data_dir
        self._records = records
        self._signer = signer
        self._keep = keep
        self._key = key
        self._clock = clock

    def save(
        self, model: str, version: str, state: State, family: str, detail: Mapping[str, str] | None = None
    ) -> Checkpoint:
        """Keep a state under a version's reference.

        Args:
            detail: what it is for: ``why``, ``end_ms`` (the last step that it has seen), ``options``.

        Raises:
            TransientError: it cannot be written.
        """
        told = dict(detail or {})
        now = self._clock()
        manifest = Manifest(
            name=model,
            run_id=version,
            family=family,
            options=told.pop("options", "{}"),
            step_ms=state.step_ms,
            series=len(state.series_ids),
            sha256="",
            dataset="",
            parent=version,
            code=code_version(),
        )
        root = self._data_dir / FOLDER
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=root))
            try:
                flavour.write(draft, state, manifest, now, self._key)
                self._signer.sign(draft)
                digest = str(json.loads((draft / MANIFEST_FILE).read_bytes())["sha256"])
                place = root / f"{now}-{digest[:16]}"
                if place.exists():
                    shutil.rmtree(place)
                draft.rename(place)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except OSError as error:
            raise TransientError(f"The checkpoint of {version} cannot be written: {error.strerror}.") from error
        made = Checkpoint(model, version, now, f"{FOLDER}/{place.name}", digest, tuple(sorted(told.items())))
        added, dropped = self._records.add(made, self._keep)
        for old in dropped:
            shutil.rmtree(self._data_dir / old.path, ignore_errors=True)
        return added

    def list(self, model: str) -> tuple[Checkpoint, ...]:
        """The newest first."""
        return self._records.of(model)

    def get(self, model: str, checkpoint_id: int) -> Checkpoint:
        """Raises ``NotFound``."""
        found = next((one for one in self._records.of(model) if one.id == checkpoint_id), None)
        if found is None:
            raise NotFound(f"The model '{model}' has no checkpoint {checkpoint_id}.")
        return found

    def load(self, checkpoint: Checkpoint, reference: State) -> State:
        """The state of a checkpoint, verified, of the same make as ``reference``, the state of its version.

        Raises:
            InvalidInput: it was changed, is not signed, is another model's, or has another shape.
            TransientError: it cannot be read.
        """
        folder = self._data_dir / checkpoint.path
        name = f"The checkpoint {checkpoint.id} of {checkpoint.version}"
        if not folder.is_dir():
            raise TransientError(f"{name} is not there.")
        try:
            self._signer.verify(folder)
        except OSError as error:
            raise TransientError(f"{name} cannot be read: {error.strerror}.") from error
        except InvalidInput as error:
            raise InvalidInput(error.message.replace(f"The model in {folder.name}", name), hint=_EARLIER) from error
        state, manifest = flavour.read(folder, self._key)
        if (manifest.name, manifest.run_id, manifest.sha256) != (
            checkpoint.model,
            checkpoint.version,
            checkpoint.digest,
        ):
            raise InvalidInput(f"{name} is refused: its folder holds another one.")
        if reason := misshapen(state, reference):
            raise InvalidInput(f"{name} is refused: {reason}.")
        return state


def misshapen(state: State, reference: State) -> str:
    """Why a state cannot serve in place of ``reference``; empty where it can."""
    if state.step_ms != reference.step_ms:
        return f"its step is {state.step_ms} ms, not {reference.step_ms} ms"
    if not state.series_ids:
        return "it holds no series"
    for kind, mine, theirs in (
        ("array", state.arrays, reference.arrays),
        ("shared array", state.shared, reference.shared),
    ):
        if set(mine) != set(theirs):
            names = ", ".join(sorted(set(mine) ^ set(theirs))[:5])
            return f"its {kind}s are not those of its version ({names})"
        for name, array in mine.items():
            other = theirs[name]
            skip = 1 if kind == "array" else 0
            if array.shape[skip:] != other.shape[skip:] or array.dtype != other.dtype:
                return (
                    f"its {kind} '{name}' is {array.dtype.name}{list(array.shape[skip:])}, "
                    f"not {other.dtype.name}{list(other.shape[skip:])}"
                )
            if _nothing(array) and not _nothing(other):
                return f"its {kind} '{name}' holds no finite number"
    return ""


def _nothing(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bool:
    """Whether there is no finite number in an array of numbers."""
    return array.dtype.kind == "f" and array.size > 0 and not np.isfinite(array).any()
