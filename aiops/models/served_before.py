"""What was served when the process before this one ended, so that the first score waits for no registry.

The record names a version; its artifact is verified as at every load, and the registry is asked a little later whether
that version is champion still.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from aiops.core.model import ModelVersion

log = logging.getLogger(__name__)

_KEPT = TypeAdapter(dict[str, ModelVersion])


class ServedBefore:
    """Champions by model, in one file. Thread-safe; a file that cannot be read or written is done without."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._kept = self._read()

    def _read(self) -> dict[str, ModelVersion]:
        try:
            return _KEPT.validate_json(self._path.read_bytes())
        except OSError:
            return {}
        except ValueError as error:
            log.warning("%s is not read: %s", self._path.name, str(error).splitlines()[0])
            return {}

    def get(self, name: str) -> ModelVersion | None:
        with self._lock:
            return self._kept.get(name)

    def put(self, name: str, version: ModelVersion) -> None:
        """Remember a model's champion."""
        with self._lock:
            if self._kept.get(name) == version:
                return
            self._kept[name] = version
            draft = self._path.with_suffix(".part")
            try:
                draft.write_text(json.dumps({key: asdict(kept) for key, kept in self._kept.items()}))
                draft.replace(self._path)
            except OSError as error:
                log.warning("%s cannot be written: %s", self._path.name, error.strerror)

    def forget(self, name: str) -> None:
        """Not to be served any more."""
        with self._lock:
            self._kept.pop(name, None)
