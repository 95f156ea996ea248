"""Looks every quarter of an hour at what fills up, and tells the one door of incidents."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Anomaly
from aiops.core.errors import QueryError
from aiops.core.ports import MetricQuerier
from aiops.core.principal import SYSTEM
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp
from aiops.incidents.episodes import Narrow
from aiops.incidents.filling import DEFAULTS, Filling, ended, forecast, steps_of, warning
from aiops.incidents.readings import RECENT_MS

log = logging.getLogger(__name__)

EVERY_MS = 900_000
MOST_SERIES = 5000
Level = tuple[Labels, NDArray[np.int64], NDArray[np.float64]]
"""Labels, times (ms) and values of one level."""


class FillWatch:
    """Not thread-safe: one caller at a time."""

    def __init__(
        self, querier: MetricQuerier, narrow: Narrow | None = None, entries: Sequence[Filling] = DEFAULTS
    ) -> None:
        self._querier = querier
        self._narrow = narrow
        self._entries = entries
        self._open: dict[tuple[str, Labels], Anomaly] = {}
        self._looked_ms = 0

    def take_up(self, kept: Sequence[Anomaly]) -> None:
        """Go on with warnings that were open before a restart."""
        names = {entry.metric: entry.name for entry in self._entries}
        for one in kept:
            if one.model == "filling" and (name := names.get(one.metric.partition(" ")[0])) is not None:
                self._open[name, one.series] = one

    def look(self, now_ms: int) -> list[Anomaly]:
        """Warnings that began, changed or ended; none where it is not time yet.

        Raises:
            TransientError: the source cannot be read.
        """
        if now_ms - self._looked_ms < EVERY_MS:
            return []
        needed = sorted({name for entry in self._entries for name in entry.needs})
        chosen = [[Matcher(METRIC_NAME, MatchOp.REGEX, "|".join(needed))]]
        known = set(self._querier.label_values(METRIC_NAME, chosen, now_ms - RECENT_MS, now_ms, SYSTEM))
        self._looked_ms = now_ms
        out: list[Anomaly] = []
        for entry in self._entries:
            if known.issuperset(entry.needs):
                try:
                    out += self._entry(entry, now_ms)
                except QueryError as error:
                    log.warning("what fills up cannot be asked of %s: %s", entry.name, error)
        return out

    def _entry(self, entry: Filling, now_ms: int) -> list[Anomaly]:
        start, end, step = steps_of(now_ms)
        block = self._querier.range(entry.query, start, end, step, SYSTEM).block
        return self.judge(entry, ((labels, *block.series(row)) for row, labels in enumerate(block.labels)), now_ms)

    def judge(self, entry: Filling, levels: Iterable[Level], now_ms: int) -> list[Anomaly]:
        """Warnings of one entry that began, changed or ended, by its levels over the window of :func:`steps_of`."""
        _, end, step = steps_of(now_ms)
        found: dict[Labels, Anomaly] = {}
        for labels, ts, values in itertools.islice(levels, MOST_SERIES):
            if not len(ts) or end - int(ts[-1]) > 2 * step:
                continue
            level = np.asarray(values, np.float64)
            said = forecast(ts / 1000.0, level, entry.limit, rising=entry.rising, horizon_s=entry.horizon_s)
            if said is None:
                continue
            matchers = [Matcher(k, MatchOp.EQUAL, v) for k, v in labels]
            query = self._narrow(entry.query, matchers) if self._narrow else entry.query
            before = self._open.get((entry.name, labels))
            one = warning(entry, labels, said, now_ms, query, before.started_ms if before else None)
            if one is not None:
                found[labels] = one
        mine = {labels: one for (name, labels), one in self._open.items() if name == entry.name}
        over = [ended(one, now_ms) for labels, one in mine.items() if labels not in found]
        for labels in mine:
            del self._open[entry.name, labels]
        self._open |= {(entry.name, labels): one for labels, one in found.items()}
        return [*found.values(), *over]
