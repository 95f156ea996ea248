"""Batches that detectors see, the scores they give, and the episodes that policy makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from aiops.core.series import Labels


@dataclass(frozen=True, slots=True)
class Batch:
    """Regular series for a detector.

    Attributes:
        values: float32 [S, T]; anything where ``mask`` is false.
        mask: bool [S, T], true where a value was observed.
        timestamps: int64 [T], ms UTC, spaced by ``step_ms``.
        step_ms: the grid.
        series_ids: length S, stable across calls (the canonical label text).
        groups: length S, whose series belong together, such as a service's; empty where nobody asks.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    timestamps: NDArray[np.int64]
    step_ms: int
    series_ids: tuple[str, ...]
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.series_ids)

    def rows(self, start: int, end: int) -> Batch:
        """Some of the series."""
        cut = slice(start, end)
        return replace(
            self,
            values=self.values[cut],
            mask=self.mask[cut],
            series_ids=self.series_ids[cut],
            groups=self.groups[cut],
        )

    def steps(self, start: int, end: int) -> Batch:
        """Some of the steps."""
        cut = slice(start, end)
        return replace(self, values=self.values[:, cut], mask=self.mask[:, cut], timestamps=self.timestamps[cut])


@dataclass(frozen=True, slots=True)
class State:
    """What a detector learnt: arrays with the series axis first, and arrays shared by all series."""

    series_ids: tuple[str, ...]
    step_ms: int
    arrays: Mapping[str, NDArray[np.generic]]
    shared: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def select(self, ids: Sequence[str]) -> State:
        """The rows of ``ids`` in that order; raises ``KeyError`` for an unknown id."""
        index = {s: i for i, s in enumerate(self.series_ids)}
        rows = np.array([index[s] for s in ids], np.int64)
        return State(tuple(ids), self.step_ms, {k: v[rows] for k, v in self.arrays.items()}, self.shared)

    def concat(self, other: State) -> State:
        """Rows of ``self`` that ``other`` does not replace, then those of ``other``."""
        if self.step_ms != other.step_ms:
            raise ValueError(f"states at different steps: {self.step_ms} and {other.step_ms} ms")
        new = set(other.series_ids)
        keep = [s for s in self.series_ids if s not in new]
        mine = self.select(keep)
        return State(
            mine.series_ids + other.series_ids,
            self.step_ms,
            {k: np.concatenate([mine.arrays[k], other.arrays[k]]) for k in self.arrays},
            other.shared or self.shared,
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """Higher is more anomalous; NaN where nothing can be said (unobserved, or warming up).

    Attributes:
        score, expected, lower, upper: float32 [S, T]; the last three in the units of the values.
        terms: named contributions to the score, each [S, T].
    """

    score: NDArray[np.float32]
    expected: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    terms: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One episode on one series, as judged by policy.

    Attributes:
        series: labels of the watched result series.
        service: who it belongs to, for correlation; may be empty.
        metric: short name of what deviates.
        query: the PromQL that shows it.
        kind: what sort of metric: latency, errors, traffic, saturation, cost, other.
        direction: ``up`` or ``down``.
        started_ms, updated_ms: first and latest anomalous step.
        ended_ms: when the episode closed, else ``None``.
        p_value: false-alarm probability of the episode's peak.
        model: registry name and version of the detector that scored it.
    """

    id: str
    series: Labels
    service: str
    metric: str
    query: str
    kind: str
    direction: str
    started_ms: int
    updated_ms: int
    ended_ms: int | None
    value: float
    expected: float
    lower: float
    upper: float
    score: float
    p_value: float
    model: str = ""
    unit: str = ""
    terms: tuple[tuple[str, float], ...] = ()
    threshold: float = float("nan")
    """The score at which an episode of this series opened then."""
    note: str = ""
    """What it is, in words, where figures do not say it: ``its target is down``, ``will be full in 6 h``."""
    beside: tuple[tuple[str, float], ...] = ()
    """Other metrics of the same service that leave their usual range at that step, with their scores, the largest
    first."""


class Judgement(StrEnum):
    """What a person says of an episode, or of a time at which there should have been one."""

    TRUE = "true"
    FALSE = "false"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Mark:
    """One person's judgement, kept as a label. ``anomaly_id`` is empty where an episode was missed.

    ``start_ms`` to ``end_ms`` is the time judged, ``time_ms`` when it was judged.
    """

    anomaly_id: str
    judgement: Judgement
    principal: str
    time_ms: int
    metric: str
    series: Labels
    service: str
    start_ms: int
    end_ms: int
    model: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class SimilarWindow:
    """An earlier stretch of the same series that looks like the episode.

    ``distance`` is 0 for the same course and about 1.4 for an unrelated one (root mean square of the differences of
    the courses, in the spread of the episode's window). ``known`` says what it was.
    """

    start_ms: int
    end_ms: int
    distance: float
    known: str
