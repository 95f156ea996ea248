"""One anomaly explained: what was expected, why it fired, and when its series last looked like this."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Anomaly, Batch, Mark, Scores, SimilarWindow
from aiops.incidents.similar import nearest

BEFORE_STEPS, AFTER_STEPS = 120, 30
"""Steps shown before the episode and after it."""
LEAST_WINDOW, LARGEST_WINDOW = 12, 240
LIMIT = 0.7
"""Distance above which two stretches are not alike."""
COUNT = 3
TERMS = {
    "residual": "distance from the usual value at this time of day and week",
    "shift": "a lasting change of level",
    "surprise": "distance from what the last steps foretold",
    "burst": "several steps in a row that the last ones did not foretell",
    "energy": "the size of its deviations over the last {} steps",
    "window": "a course over the last {} steps that this series does not take",
}


@dataclass(frozen=True, slots=True)
class Trace:
    """Steps around an episode, all [T]: times (ms), value, expected, band, score; NaN where unknown."""

    times: NDArray[np.int64]
    value: NDArray[np.float64]
    expected: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    score: NDArray[np.float64]

    def until(self, last_ms: int) -> Trace:
        """The steps up to then."""
        keep = self.times <= last_ms
        return Trace(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


@dataclass(frozen=True, slots=True)
class Explanation:
    anomaly: Anomaly
    trace: Trace | None
    similar: tuple[SimilarWindow, ...] = ()
    marks: tuple[Mark, ...] = ()
    history_ms: int = 0
    """How much of the past was searched for similar windows."""


def trace_of(batch: Batch, scores: Scores | None, first_ms: int) -> Trace:
    """The trace of a batch of one series from ``first_ms`` on; without scores the values alone."""
    keep = batch.timestamps >= first_ms
    value = np.where(batch.mask[0], batch.values[0], np.nan)[keep].astype(np.float64)
    if scores is None:
        nothing = np.full(len(value), np.nan)
        return Trace(batch.timestamps[keep], value, nothing, nothing, nothing, nothing)
    expected, lower, upper, score = (
        np.asarray(a[0][keep], np.float64) for a in (scores.expected, scores.lower, scores.upper, scores.score)
    )
    return Trace(batch.timestamps[keep], value, expected, lower, upper, score)


def similar_windows(
    anomaly: Anomaly, batch: Batch, earlier: Sequence[Anomaly], marks: Callable[[str], Sequence[Mark]]
) -> tuple[SimilarWindow, ...]:
    """The nearest earlier windows in a batch of the anomaly's own series, and what they were.

    Args:
        earlier: episodes of the same series.
        marks: what people said of an episode, by its id.
    """
    step = batch.step_ms
    end = (anomaly.ended_ms or anomaly.updated_ms) + step
    length = int(np.clip(2 * (end - anomaly.started_ms) // step, LEAST_WINDOW, LARGEST_WINDOW))
    value = np.where(batch.mask[0], batch.values[0], np.nan).astype(np.float64)
    stop = int(np.searchsorted(batch.timestamps, end))
    window = value[max(stop - length, 0) : stop]
    filled = _filled(window)
    if len(filled) < LEAST_WINDOW:
        return ()
    history = value[: max(stop - 2 * length, 0)]
    out = []
    for place, distance in nearest(history, filled, COUNT, LIMIT):
        start_ms = int(batch.timestamps[place])
        end_ms = start_ms + len(filled) * step
        out.append(SimilarWindow(start_ms, end_ms, distance, _known(start_ms, end_ms, earlier, marks)))
    return tuple(out)


def _filled(window: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(window)
    if known.sum() < LEAST_WINDOW:
        return np.empty(0)
    places = np.arange(len(window))
    return np.interp(places, places[known], window[known])


def _known(start_ms: int, end_ms: int, earlier: Sequence[Anomaly], marks: Callable[[str], Sequence[Mark]]) -> str:
    for one in earlier:
        if one.started_ms < end_ms and (one.ended_ms or one.updated_ms) >= start_ms:
            said = marks(one.id)
            if said:
                return f"an anomaly, marked {said[-1].judgement.value} by {said[-1].principal}"
            return "an anomaly that nobody marked"
    return "nothing was raised then"


def reason(anomaly: Anomaly) -> str:
    """Which term fired, in words; empty where the model gives none."""
    if not anomaly.terms:
        return ""
    name = anomaly.terms[0][0].rpartition(".")[2]
    word, _, steps = name.partition("_")
    if word in TERMS and ("{}" not in TERMS[word] or steps):
        return TERMS[word].format(steps)
    return name.replace("_", " ")


def similar_line(window: SimilarWindow, zone: datetime.tzinfo = datetime.UTC) -> str:
    """``2026-11-20 14:05 to 14:20: nothing was raised then``."""
    start, end = (datetime.datetime.fromtimestamp(t / 1000, zone) for t in (window.start_ms, window.end_ms))
    return f"{start:%Y-%m-%d %H:%M} to {end:%H:%M} {start:%Z}: {window.known}"
