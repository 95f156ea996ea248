"""Champions in memory, scored in micro-batches: one call a step for all series of a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.errors import NotFound
from aiops.core.ports import Detector
from aiops.models.registry import ModelRegistry


@dataclass(frozen=True, slots=True)
class Served:
    """A state in service, the version it came from, and the last step it has seen."""

    state: State
    reference: str
    last_ms: int


class Scorer:
    """Keeps one state a model name and moves it on with every step. Thread-safe.

    On the CPU the state's arrays are shared with torch and never copied. With CUDA what a tick leaves as it is stays on
    the device; what it changes, about half a kilobyte a series, comes back at each step.
    """

    def __init__(self, detector: Detector[Any], book: Callable[[str, int, float], None] | None = None) -> None:
        self._detector = detector
        self._book = book
        self._served: dict[str, Served] = {}
        self._lock = threading.RLock()

    def serve(self, name: str, state: State, reference: str, last_ms: int) -> None:
        """Put a state in service in place of the one before."""
        with self._lock:
            self._served[name] = Served(state, reference, last_ms)

    def load_champion(self, registry: ModelRegistry, name: str) -> Served | None:
        """The registry's champion, verified, ready for :meth:`serve`; ``None`` where there is none, or where another
        family or other options trained it."""
        version = registry.get(name)
        if version is None or version.family != self._detector.family:
            return None
        parameters = dict(version.parameters)
        if parameters.get("options") != self._detector.options.model_dump_json():
            return None
        state = registry.load_state(version)
        return Served(state, version.reference, int(parameters.get("end_ms", "0")))

    def served(self, name: str) -> Served | None:
        with self._lock:
            return self._served.get(name)

    def join(self, name: str, state: State) -> State:
        """Add series to the state in service, replacing those it already has; returns the joined state."""
        with self._lock:
            now = self._get(name)
            joined = now.state.concat(state)
            self._served[name] = Served(joined, now.reference, now.last_ms)
            return joined

    def score_tick(self, name: str, tick: Batch) -> Scores:
        """Score one step [S, 1] in the state's series order and keep the state that follows it."""
        with self._lock:
            now = self._get(name)
            began = time.thread_time()
            state, scores = self._detector.update(now.state, tick)
            took = time.thread_time() - began
            self._served[name] = Served(state, now.reference, int(tick.timestamps[-1]))
        if self._book is not None:
            self._book(now.reference, len(tick), took)
        return scores

    def trace(self, name: str, series_id: str, batch: Batch) -> Scores | None:
        """Scores [1, T] of a past stretch of one series, moving nothing on; ``None`` where it is not served."""
        now = self.served(name)
        if now is None or series_id not in now.state.series_ids:
            return None
        return self._detector.score(now.state.select([series_id]), batch)

    def score_with(self, state: State, batch: Batch) -> Scores:
        """Scores [S, T] of a stretch by a state that is not in service."""
        return self._detector.score(state.select(batch.series_ids), batch)

    def _get(self, name: str) -> Served:
        if name not in self._served:
            raise NotFound(f"No model named '{name}' is in service.")
        return self._served[name]
