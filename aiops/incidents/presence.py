"""Series that fall silent or stand still: no score says it, so it is judged apart from the scores.

A series that was there through its history and now stays away is told of once its silence is far longer than any
it had. Whether its target is down is looked up in ``up``: then the target is the news, one for all its series, and
where a whole query falls silent one series speaks for the others. A series that never stood still for long and now
repeats one value is stuck; a rate that is stuck at zero is a counter that stalls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Anomaly, Batch, State
from aiops.core.incident import fingerprint
from aiops.core.series import METRIC_NAME, Labels, labels_of
from aiops.incidents.episodes import Narrow, Series, narrowed
from aiops.incidents.habits import PREFIX

LEAST_STEPS, LEAST_MS = 20, 300_000
"""A silence or a flat line is never told of before so many steps and so long."""
LONGER = 3
"""Times the longest one of the series' history."""
WINDOW_SHARE = 0.02
"""Share of the history that it must outlast besides."""
LEAST_HISTORY = 1000
"""Steps of history without which a flat line says nothing."""
TARGET_LABELS = ("job", "instance")
WORDS = ("missing", "stuck", "stalled")
"""What the metric of such an anomaly ends in."""
Target = Callable[[Labels], bool | None]
"""Whether the targets of these labels are up: ``None`` where nothing is known of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Steps after which silence and stillness are news, [S] each; the largest int64 where never."""

    gap: NDArray[np.int64]
    flat: NDArray[np.int64]


def limits_of(state: State, step_ms: int) -> Limits | None:
    """By the habits in a state; ``None`` for a state that has none."""
    if PREFIX + "gap" not in state.arrays:
        return None
    gap, flat, steps = (np.asarray(state.arrays[PREFIX + name], np.int64) for name in ("gap", "flat", "steps"))
    least = max(LEAST_STEPS, -(-LEAST_MS // step_ms))
    share = (WINDOW_SHARE * steps).astype(np.int64)
    still = np.maximum(LONGER * flat, np.maximum(least, share))
    never = np.iinfo(np.int64).max
    return Limits(np.maximum(LONGER * gap, least), np.where(steps >= LEAST_HISTORY, still, never))


class Presence:
    """Runs of silence and stillness of a group of series, step by step. Not thread-safe.

    Args:
        series: the group's.
        limits: from :func:`limits_of`.
        step_ms: the group's step.
    """

    def __init__(
        self, series: Sequence[Series], limits: Limits, step_ms: int, narrow: Narrow | None, model: str
    ) -> None:
        size = len(series)
        self._series, self._limits, self._step_ms = series, limits, step_ms
        self._narrow, self._model = narrow, model
        self.silent = np.zeros(size, np.int64)
        self.still = np.zeros(size, np.int64)
        self._last = np.full(size, np.nan, np.float32)
        self._told: dict[tuple[int, str], Anomaly] = {}

    def carry(self, before: Presence) -> None:
        """Go on with the runs and the open anomalies of the series that were watched before."""
        rows = {one.id: row for row, one in enumerate(before._series)}
        here = {one.id: row for row, one in enumerate(self._series)}
        for key, row in here.items():
            if (old := rows.get(key)) is not None:
                self.silent[row], self.still[row] = before.silent[old], before.still[old]
                self._last[row] = before._last[old]
        for (row, kind), anomaly in before._told.items():
            if (new := here.get(before._series[row].id)) is not None:
                self._told[new, kind] = anomaly

    def step(self, tick: Batch, target: Target) -> dict[str, Anomaly]:
        """Judge one step [S, 1]; the anomalies that began or ended, by id."""
        now, value, known = int(tick.timestamps[0]), tick.values[:, 0], tick.mask[:, 0]
        same = known & (value == self._last)
        self.silent = np.where(known, 0, self.silent + 1)
        self.still = np.where(same, self.still + 1, np.where(known, 0, self.still))
        self._last = np.where(known, value, self._last)
        changed: dict[str, Anomaly] = {}
        for row, kind in list(self._told):
            if (kind == "missing" and known[row]) or (kind == "stuck" and known[row] and not same[row]):
                ended = replace(self._told.pop((row, kind)), updated_ms=now, ended_ms=now)
                changed[ended.id] = ended
        gone = np.flatnonzero(self.silent == self._limits.gap)
        stuck = np.flatnonzero(same & (self.still == self._limits.flat))
        # All at once is one piece of news: the query, its exporter or the source is gone, not each series.
        by_entry: dict[str, list[int]] = {}
        for row in gone.tolist():
            by_entry.setdefault(self._series[row].entry.name, []).append(row)
        for rows in by_entry.values():
            one = self._missing(rows, now, target)
            changed[one.id] = self._told[rows[0], "missing"] = one
        for row in stuck.tolist():
            one = self._stuck(row, now)
            changed[one.id] = self._told[row, "stuck"] = one
        return changed

    def _missing(self, rows: Sequence[int], now: int, target: Target) -> Anomaly:
        series = self._series[rows[0]]
        alive = target(series.labels)
        why = {True: "its target is up", False: "its target is down", None: "whether its target is up is not known"}
        others = f", with {len(rows) - 1} other series of this query" if len(rows) > 1 else ""
        started = now - (int(self.silent[rows[0]]) - 1) * self._step_ms
        text = f"missing: {why[alive]}{others}"
        return self._anomaly(series, "missing", text, started, now, float("nan"), float(self._last[rows[0]]))

    def _stuck(self, row: int, now: int) -> Anomaly:
        series, value = self._series[row], float(self._last[row])
        stalled = value == 0 and "rate(" in series.entry.query
        text = "stalled: its counter does not move" if stalled else "stuck: one value over and over"
        started = now - int(self.still[row]) * self._step_ms
        return self._anomaly(series, "stuck", text, started, now, value, value)

    def _anomaly(
        self, series: Series, kind: str, text: str, started: int, now: int, value: float, expected: float
    ) -> Anomaly:
        mark = fingerprint(labels_of([*series.labels, (METRIC_NAME, f"{series.entry.metric} {kind}")]))
        return Anomaly(
            id=f"{mark}-{started}",
            series=series.labels,
            service=series.service,
            metric=f"{series.entry.metric} {text.partition(':')[0]}",
            query=narrowed(series, self._narrow),
            kind=series.entry.kind,
            direction="down",
            started_ms=started,
            updated_ms=now,
            ended_ms=None,
            value=value,
            expected=expected,
            lower=float("nan"),
            upper=float("nan"),
            score=float("nan"),
            p_value=0.0,
            model=self._model,
            unit=series.entry.unit,
            note=text.partition(": ")[2],
        )


def targets_up(up: Mapping[Labels, float]) -> Target:
    """Answers by the samples of ``up``: true where any target that shares the series' job or instance is up."""

    def answer(labels: Labels) -> bool | None:
        own = {k: v for k, v in labels if k in TARGET_LABELS}
        found = [
            value > 0
            for target, value in up.items()
            if own and all(dict(target).get(k, v) == v for k, v in own.items())
        ]
        return any(found) if found else None

    return answer
