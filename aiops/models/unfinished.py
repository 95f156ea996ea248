"""What a training has done so far, on disk, so that a job that was cut goes on from there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from aiops.core.errors import TransientError
from aiops.models.encryption import ArtifactKey, seal, unseal

PLAN = "plan.json"


class Unfinished:
    """The folder of one training: its plan, and its pieces as they are fitted.

    Args:
        folder: made on first use.
        key: seals the pieces.
    """

    def __init__(self, folder: Path, key: ArtifactKey | None = None) -> None:
        self.folder = folder
        self.key = key

    def plan(self) -> dict[str, str]:
        """What an earlier attempt had set out to do; empty where there was none."""
        try:
            found = json.loads((self.folder / PLAN).read_bytes())
        except (OSError, ValueError):
            return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def begin(self, plan: Mapping[str, str]) -> None:
        """Keep the pieces of an earlier attempt with the same plan, and drop those of any other.

        Raises:
            TransientError: the disk refuses.
        """
        if self.plan() == dict(plan):
            return
        self.forget()
        try:
            self.folder.mkdir(mode=0o700, parents=True)
            self._write(PLAN, json.dumps(dict(plan)).encode())
        except OSError as error:
            raise TransientError(f"The training cannot keep its pieces: {error.strerror}.") from error

    def has(self, number: int) -> bool:
        return self.path(number).is_file()

    def keep(self, number: int, data: bytes) -> None:
        """Write a piece; a half-written one never stands under its name. Raises ``TransientError``."""
        try:
            self._write(self.path(number).name, seal(data, self.path(number).name, self.key))
        except OSError as error:
            raise TransientError(f"The training cannot keep its pieces: {error.strerror}.") from error

    def read(self, number: int) -> bytes:
        """A piece as it was given to :meth:`keep`. Raises ``InvalidInput`` for a file that was changed."""
        place = self.path(number)
        return unseal(place.read_bytes(), place.name, self.key)

    def path(self, number: int) -> Path:
        return self.folder / f"piece-{number:05}.safetensors"

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, data: bytes) -> None:
        draft = self.folder / f".{name}.part"
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / name)
