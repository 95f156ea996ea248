"""Both versions of a trial on the same series, beside the requests: what they say, and how long they take."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aiops.core.anomaly import Batch, Scores
from aiops.models.detector_calls import Call, latest_alarms, run_together
from aiops.models.loaded import Loaded
from aiops.models.trial_record import Observation, TrialRecord

log = logging.getLogger(__name__)

WAITING = 64
"""Requests that wait to be compared; further ones are not."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The versions of a trial, and where their answers are counted."""

    stable: Loaded
    candidate: Loaded
    record: TrialRecord


class Comparison:
    """Compares on one thread of its own; what it cannot keep up with is left out."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Pair, Batch] | None] = queue.Queue(WAITING)
        self.left_out = 0

    def start(self) -> None:
        threading.Thread(target=self._run, name="scoring-beside", daemon=True).start()

    def stop(self) -> None:
        """End after what is in hand; what waits is dropped."""
        while True:
            try:
                self._queue.put_nowait(None)
                return
            except queue.Full:
                self._queue.get_nowait()

    def offer(self, pair: Pair, batch: Batch) -> None:
        """Compare these series, all known to both versions, some time soon."""
        try:
            self._queue.put_nowait((pair, batch))
        except queue.Full:
            self.left_out += 1

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                compare(*work)
            except Exception:
                log.exception("two versions could not be compared")


def compare(pair: Pair, batch: Batch) -> None:
    """Score with both and count what they say; a candidate that raises has failed a call."""
    scores, seconds, processor = _timed(pair.stable, batch)
    try:
        tried, its_seconds, its_processor = _timed(pair.candidate, batch)
    except Exception as error:  # noqa: BLE001  (that is what is counted)
        log.warning("%s failed on %d series: %r", pair.candidate.reference, len(batch), error)
        pair.record.failed()
        return
    missing = batch.mask & np.isfinite(scores.score) & ~np.isfinite(tried.score)
    pair.record.observe(
        Observation(
            series_ids=batch.series_ids,
            points=int((batch.mask & np.isfinite(scores.score)).sum()),
            missing=missing.sum(axis=1),
            stable=latest_alarms(pair.stable, batch, scores),
            candidate=latest_alarms(pair.candidate, batch, tried),
            seconds=(seconds, its_seconds),
            processor=(processor, its_processor),
        )
    )


def _timed(
    loaded: Loaded, batch: Batch, stopwatch: Callable[[], float] = time.perf_counter
) -> tuple[Scores, float, float]:
    begin, busy = stopwatch(), time.thread_time()
    scores = run_together([Call(loaded, batch)])[0]
    return scores, stopwatch() - begin, time.thread_time() - busy
