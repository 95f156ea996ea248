"""Who had what scored: one line of the audit log for each principal, model and hour, with counts.

The first request of an hour is written at once, so that a use is on record even where the process dies; the rest is
counted and written when the hour is over, or at the stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from aiops.core.ports import Clock, system_clock

HOUR_MS = 3_600_000
VERB = "model.score"
Audit = Callable[[str, str, str, Mapping[str, str]], object]


class ScoreLog:
    """Thread-safe."""

    def __init__(self, audit: Audit, clock: Clock = system_clock) -> None:
        self._audit = audit
        self._clock = clock
        self._counts: dict[tuple[str, str, int], list[int]] = {}
        self._lock = threading.Lock()

    def note(self, principal: str, model: str, series: int, values: int) -> None:
        """Count one request."""
        now = self._clock()
        key = (principal, model, now // HOUR_MS)
        with self._lock:
            first = key not in self._counts
            counts = self._counts.setdefault(key, [0, 0, 0])
            if not first:
                counts[0] += 1
                counts[1] += series
                counts[2] += values
        if first:
            self.flush(over_ms=now)
            self._write(principal, model, key[2], (1, series, values))

    def flush(self, over_ms: int | None = None) -> None:
        """Write what was counted: of the hours that ended by ``over_ms``, or of all."""
        with self._lock:
            due = [key for key in self._counts if over_ms is None or key[2] < over_ms // HOUR_MS]
            found = [(key, self._counts.pop(key)) for key in due]
        for (principal, model, hour), (requests, series, values) in found:
            if requests:
                self._write(principal, model, hour, (requests, series, values))

    def _write(self, principal: str, model: str, hour: int, counts: tuple[int, ...]) -> None:
        names = ("requests", "series", "values")
        figures = {name: str(count) for name, count in zip(names, counts, strict=True)}
        self._audit(principal, VERB, model, {"hour_ms": str(hour * HOUR_MS), **figures})
