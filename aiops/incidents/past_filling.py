"""What the look-out for full disks, quotas and certificates would have told in a past range.

Every level is read once over the whole range; then each look is taken at its own time with what was known then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Anomaly
from aiops.core.errors import QueryError
from aiops.core.ports import MetricQuerier
from aiops.core.principal import SYSTEM
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp
from aiops.incidents.episodes import Narrow
from aiops.incidents.explain import Explanation, Trace
from aiops.incidents.fill_watch import EVERY_MS, MOST_SERIES, FillWatch, Level
from aiops.incidents.filling import Filling, steps_of

MOST_STEPS = 11_000
"""Most steps asked in one range query: Prometheus' own limit."""


def past_warnings(
    querier: MetricQuerier,
    entries: Sequence[Filling],
    start_ms: int,
    end_ms: int,
    narrow: Narrow | None,
    refused: dict[str, str],
) -> list[Explanation]:
    """The warnings of ``[start_ms, end_ms)`` in their last form, each with its level's course.

    Args:
        refused: takes the entries that the source would not answer, and why.

    Raises:
        TransientError: the source cannot be read.
    """
    if not entries:
        return []
    first = steps_of(start_ms)[0]
    needed = sorted({name for entry in entries for name in entry.needs})
    chosen = [[Matcher(METRIC_NAME, MatchOp.REGEX, "|".join(needed))]]
    known = set(querier.label_values(METRIC_NAME, chosen, first, end_ms, SYSTEM))
    watch = FillWatch(querier, narrow, entries)
    out: list[Explanation] = []
    for entry in entries:
        if not known.issuperset(entry.needs):
            continue
        try:
            levels = _levels(querier, entry, first, end_ms)
        except QueryError as error:
            refused[entry.name] = str(error)
            continue
        told: dict[str, Anomaly] = {}
        for now in range(-(-start_ms // EVERY_MS) * EVERY_MS, end_ms, EVERY_MS):
            told |= {one.id: one for one in watch.judge(entry, _seen(levels, now), now)}
        out += [Explanation(one, _course(levels, one)) for one in told.values()]
    return out


def _levels(querier: MetricQuerier, entry: Filling, first_ms: int, end_ms: int) -> list[Level]:
    step = steps_of(end_ms)[2]
    parts: dict[Labels, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}
    for start in range(first_ms, end_ms, MOST_STEPS * step):
        last = min(start + (MOST_STEPS - 1) * step, end_ms)
        block = querier.range(entry.query, start, last, step, SYSTEM).block
        for row, labels in enumerate(block.labels[:MOST_SERIES]):
            parts.setdefault(labels, []).append(block.series(row))
    return [
        (labels, np.concatenate([ts for ts, _ in found]), np.concatenate([values for _, values in found]))
        for labels, found in parts.items()
    ]


def _seen(levels: Sequence[Level], now_ms: int) -> Iterator[Level]:
    """What a look at ``now_ms`` would have read."""
    start, end, _ = steps_of(now_ms)
    for labels, ts, values in levels:
        a, b = np.searchsorted(ts, [start, end + 1])
        yield labels, ts[a:b], values[a:b]


def _course(levels: Sequence[Level], anomaly: Anomaly) -> Trace | None:
    """The level from a day before the warning to its end."""
    for labels, ts, values in levels:
        if labels == anomaly.series:
            a, b = np.searchsorted(ts, [steps_of(anomaly.started_ms)[0], (anomaly.ended_ms or anomaly.updated_ms) + 1])
            nothing = np.full(b - a, np.nan)
            return Trace(ts[a:b], values[a:b].astype(np.float64), nothing, nothing, nothing, nothing)
    return None
