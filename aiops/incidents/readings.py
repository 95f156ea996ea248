"""Watched queries to batches: what the metrics source said of each series at each closed step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch
from aiops.core.ports import MetricQuerier
from aiops.core.principal import SYSTEM, Principal
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp, labels_of
from aiops.core.signals import label
from aiops.incidents.watch import WatchEntry, present

MAX_STEPS = 11_000
"""Most steps asked in one range query: Prometheus' own limit."""
RECENT_MS = 3_600_000
"""A metric not seen for this long does not exist any more."""


def series_id(name: str, labels: Labels) -> str:
    """Stable text of a watched series, and back by :func:`series_of`."""
    return json.dumps([name, labels], ensure_ascii=True, separators=(",", ":"))


def series_of(text: str) -> tuple[str, Labels]:
    """Entry name and labels. Raises ``ValueError`` for text that :func:`series_id` did not make."""
    name, pairs = json.loads(text)
    return str(name), labels_of((str(k), str(v)) for k, v in pairs)


GROUP_LABELS = ("service_name", "service", "job", "instance")


def group_of(labels: Labels) -> str:
    """What a series belongs to: its service, else its job, else its host; empty where no label says it."""
    return next((found for name in GROUP_LABELS if (found := label(labels, name))), "")


def together(ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """The same series, those of one group one after the other, and their groups; a series of none is its own."""
    pairs = sorted((group_of(series_of(one)[1]) or one, one) for one in ids)
    return [one for _, one in pairs], [group for group, _ in pairs]


@dataclass
class Readings:
    """Finite values by series over the steps ``times``; NaN where nothing was said."""

    times: NDArray[np.int64]
    step_ms: int
    rows: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def batch(self, ids: Sequence[str], groups: Sequence[str] = ()) -> Batch:
        """Those series in that order; a series that said nothing is all masked."""
        empty = np.full(len(self.times), np.nan, np.float32)
        values = np.stack([self.rows.get(i, empty) for i in ids]) if ids else np.empty((0, len(self.times)), np.float32)
        return Batch(values, np.isfinite(values), self.times, self.step_ms, tuple(ids), tuple(groups))


class Reader:
    """Asks one metrics source. Errors of the source pass through: ``QueryError``, ``TransientError``, ``Forbidden``."""

    def __init__(self, querier: MetricQuerier, principal: Principal = SYSTEM) -> None:
        self._querier = querier
        self._principal = principal
        self._ids: dict[tuple[str, Labels], str] = {}

    def existing(self, entries: Sequence[WatchEntry], now_ms: int) -> tuple[WatchEntry, ...]:
        """Entries whose metrics have lately been seen."""
        return self.existing_in(entries, now_ms - RECENT_MS, now_ms)

    def existing_in(self, entries: Sequence[WatchEntry], start_ms: int, end_ms: int) -> tuple[WatchEntry, ...]:
        """Entries whose metrics were seen between the two times."""
        needed = sorted({name for entry in entries for name in entry.needs})
        if not needed:
            return tuple(entries)
        chosen = [[Matcher(METRIC_NAME, MatchOp.REGEX, "|".join(needed))]]
        found = self._querier.label_values(METRIC_NAME, chosen, start_ms, end_ms, self._principal)
        return present(entries, found)

    def recorded(self, now_ms: int) -> list[str]:
        """Names of recorded metrics, those with a colon, that have lately been seen."""
        chosen = [[Matcher(METRIC_NAME, MatchOp.REGEX, ".+:.+")]]
        return self._querier.label_values(METRIC_NAME, chosen, now_ms - RECENT_MS, now_ms, self._principal)

    def now(self, query: str, time_ms: int) -> dict[Labels, float]:
        """The values of an instant query, by labels without the metric's name."""
        block = self._querier.instant(query, time_ms, self._principal).block
        return {
            tuple(p for p in labels if p[0] != METRIC_NAME): float(block.values[block.offsets[i + 1] - 1])
            for i, labels in enumerate(block.labels)
            if block.offsets[i + 1] > block.offsets[i]
        }

    def read(self, entries: Iterable[WatchEntry], start_ms: int, end_ms: int, step_ms: int, cap: int) -> Readings:
        """All series of the entries at the steps of ``[start_ms, end_ms]``, at most ``cap`` of them."""
        steps = (end_ms - start_ms) // step_ms + 1
        times = start_ms + step_ms * np.arange(max(steps, 0), dtype=np.int64)
        out = Readings(times, step_ms)
        for entry in entries:
            for first in range(0, len(times), MAX_STEPS):
                last = min(first + MAX_STEPS, len(times)) - 1
                self._fill(out, entry, int(times[first]), int(times[last]), cap)
        return out

    def _fill(self, out: Readings, entry: WatchEntry, start_ms: int, end_ms: int, cap: int) -> None:
        block = self._querier.range(entry.query, start_ms, end_ms, out.step_ms, self._principal).block
        with np.errstate(over="ignore"):
            values = block.values.astype(np.float32)
        for i, labels in enumerate(block.labels):
            key = self._id(entry.name, labels)
            row = out.rows.get(key)
            if row is None:
                if len(out.rows) >= cap:
                    continue
                row = out.rows[key] = np.full(len(out.times), np.nan, np.float32)
            a, b = int(block.offsets[i]), int(block.offsets[i + 1])
            place = (block.ts[a:b] - out.times[0]) // out.step_ms
            good = np.isfinite(values[a:b]) & (place >= 0) & (place < len(row))
            row[place[good]] = values[a:b][good]

    def _id(self, name: str, labels: Labels) -> str:
        key = (name, labels)
        found = self._ids.get(key)
        if found is None:
            if len(self._ids) > 200_000:
                self._ids.clear()
            found = self._ids[key] = series_id(name, tuple(p for p in labels if p[0] != METRIC_NAME))
        return found
