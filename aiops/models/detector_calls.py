"""Calls of a detector for series of a loaded version, several requests' in one.

A series' scores do not depend on what it was scored together with: calls are joined only on the same time grid and
for detectors that look at each series alone, and a call never has fewer than ``LEAST_ROWS`` rows, since linear
algebra takes another path for a single row, which differs in the last digit.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, Scores, State
from aiops.models.loaded import Loaded

LEAST_ROWS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Series to be scored, all known to the version."""

    loaded: Loaded
    batch: Batch

    @property
    def key(self) -> Hashable:
        """Calls of equal keys may be joined."""
        if self.loaded.detector.joint:
            return id(self)
        return self.loaded.reference, self.batch.step_ms, self.batch.timestamps.tobytes()


def rows_of(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some series of a batch."""
    place = np.array(rows, np.int64)
    return Batch(
        batch.values[place],
        batch.mask[place],
        batch.timestamps,
        batch.step_ms,
        tuple(batch.series_ids[row] for row in rows),
        tuple(batch.groups[row] for row in rows) if batch.groups else (),
    )


def run_together(calls: Sequence[Call]) -> list[Scores]:
    """The scores of each call; all are of one key."""
    first = calls[0]
    ids = [key for call in calls for key in call.batch.series_ids]
    values = np.concatenate([call.batch.values for call in calls])
    mask = np.concatenate([call.batch.mask for call in calls])
    groups = tuple(g for call in calls for g in call.batch.groups)
    places = [first.loaded.rows[key] for key in ids]
    if not first.loaded.detector.joint and len(places) < LEAST_ROWS:
        fill = np.resize(np.arange(len(places)), LEAST_ROWS)
        values, mask = values[fill], mask[fill]
        ids, places = [ids[row] for row in fill], [places[row] for row in fill]
        groups = tuple(groups[row] for row in fill) if groups else ()
    batch = Batch(values, mask, first.batch.timestamps, first.batch.step_ms, tuple(ids), groups)
    scores = first.loaded.detector.score(_rows(first.loaded.state, places, ids), batch)
    out, start = [], 0
    for call in calls:
        end = start + len(call.batch)
        out.append(part_of(scores, np.arange(start, end)))
        start = end
    return out


def part_of(scores: Scores, rows: NDArray[np.int64]) -> Scores:
    """Some rows of the scores."""
    return Scores(
        scores.score[rows],
        scores.expected[rows],
        scores.lower[rows],
        scores.upper[rows],
        {name: values[rows] for name, values in scores.terms.items()},
    )


def latest_alarms(loaded: Loaded, batch: Batch, scores: Scores) -> NDArray[np.bool_]:
    """Whether each series' score at its latest observed step is above the version's threshold, [S]; false where the
    version is not calibrated."""
    if loaded.thresholds is None or not batch.mask.shape[1]:
        return np.zeros(len(batch), bool)
    last = batch.mask.shape[1] - 1 - batch.mask[:, ::-1].argmax(axis=1)
    score = scores.score[np.arange(len(batch)), last]
    limits = loaded.thresholds[[loaded.rows[key] for key in batch.series_ids]]
    return np.asarray(np.isfinite(score) & (np.where(np.isfinite(score), score, 0.0) >= limits))


def _rows(state: State, places: Sequence[int], ids: Sequence[str]) -> State:
    chosen = np.array(places, np.int64)
    return State(tuple(ids), state.step_ms, {k: v[chosen] for k, v in state.arrays.items()}, state.shared)
