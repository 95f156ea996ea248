"""What requests for scores cost: their values by the processor time that a value has taken up to now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from aiops.core.anomaly import Scores
from aiops.core.model import ModelUse, ModelVersion, UseKind
from aiops.core.ports import Clock, ModelMeter, system_clock
from aiops.models.detector_calls import Call, run_together

UNIT = "values"


class ScoreBill:
    """Thread-safe.

    Args:
        meter: where it is booked, and what refuses a request beforehand; without one nothing is.
        price: USD of seconds of one processor core.
    """

    def __init__(
        self,
        meter: ModelMeter | None = None,
        price: Callable[[float], float] = lambda _: 0.0,
        clock: Clock = system_clock,
    ) -> None:
        self._meter = meter
        self._price = price
        self._clock = clock
        self._busy_s, self._values = 0.0, 0
        self._lock = threading.Lock()

    def timed(self, calls: Sequence[Call]) -> list[Scores]:
        """Do the calls, and learn what a value costs."""
        begin = time.thread_time()
        found = run_together(calls)
        busy = time.thread_time() - begin
        with self._lock:
            self._busy_s += busy
            self._values += sum(call.batch.values.size for call in calls)
        return found

    def check(self, model: str, by: str) -> None:
        """Raises ``LimitExceeded`` where a budget is used up."""
        if self._meter is not None:
            self._meter.check(model, UseKind.SCORE, by, 0.0)

    def book(self, version: ModelVersion, values: int, by: str) -> None:
        """Book one request."""
        if self._meter is None:
            return
        with self._lock:
            seconds = values * self._busy_s / self._values if self._values else 0.0
        cost, now = self._price(seconds), self._clock()
        self._meter.record(ModelUse(version.name, version.version, UseKind.SCORE, by, now, float(values), UNIT, cost))
