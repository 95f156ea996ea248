"""Versions of models in memory, verified when they were loaded, ready to score."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import State
from aiops.core.errors import NotFound
from aiops.core.model import ModelVersion
from aiops.core.ports import Detector

log = logging.getLogger(__name__)

DetectorOf = Callable[[ModelVersion], Detector[Any]]
"""Builds the detector that trained a version. Raises ``ConfigError`` where its family is not installed."""
Thresholds = Callable[[State], NDArray[np.float64] | None]
"""The score [S] at which each series of a state is anomalous; ``None`` where the state is not calibrated."""


class Versions(Protocol):
    """The registry, as far as serving needs it."""

    def names(self) -> list[str]: ...

    def get(self, name: str, alias: str = "champion") -> ModelVersion | None: ...

    def version(self, name: str, number: str) -> ModelVersion: ...

    def load_state(self, version: ModelVersion) -> State: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that can score; ``rows`` is the row of each series in the state."""

    version: ModelVersion
    detector: Detector[Any]
    state: State
    rows: Mapping[str, int]
    thresholds: NDArray[np.float64] | None

    @property
    def reference(self) -> str:
        return self.version.reference


class LoadedModels:
    """A cache by reference. Thread-safe; a version that many ask for is loaded once.

    Args:
        kept: versions held; the one asked for least lately makes room.
    """

    def __init__(self, registry: Versions, detector_of: DetectorOf, thresholds: Thresholds, kept: int) -> None:
        self.registry = registry
        self._detector_of = detector_of
        self._thresholds = thresholds
        self._kept = kept
        self._held: OrderedDict[str, Loaded] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, version: ModelVersion) -> Loaded:
        """The version, loaded on the first call.

        Raises:
            NotFound: it is the record of something that has no state, such as an LLM.
            InvalidInput: its artifact is not the one that was registered.
            ConfigError: its family is not installed.
        """
        key = version.reference
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            with self._lock:
                if key in self._held:
                    return self._held[key]
            made = self._load(version)
            with self._lock:
                self._held[key] = made
                self._loading.pop(key, None)
                while len(self._held) > self._kept:
                    log.info("%s is not kept in memory any more", self._held.popitem(last=False)[0])
            return made

    def _load(self, version: ModelVersion) -> Loaded:
        if version.family == "llm":
            raise NotFound(f"{version.reference} is an LLM, which scores no series.")
        state = self.registry.load_state(version)
        rows = {key: row for row, key in enumerate(state.series_ids)}
        return Loaded(version, self._detector_of(version), state, rows, self._thresholds(state))

    def drop(self, reference: str) -> None:
        """Forget a version, such as one that was rolled back."""
        with self._lock:
            self._held.pop(reference, None)

    def references(self) -> tuple[str, ...]:
        """What is held, the one asked for least lately first."""
        with self._lock:
            return tuple(self._held)
