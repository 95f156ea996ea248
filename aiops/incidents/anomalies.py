"""Anomalies as people work with them: list, explain, mark; and what the marks say of the models."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from aiops.core.anomaly import Anomaly, Batch, Judgement, Mark, Scores
from aiops.core.errors import Conflict, InvalidInput, NotFound, QueryError, TransientError
from aiops.core.ports import Clock, MetricQuerier
from aiops.core.principal import Principal
from aiops.core.series import METRIC_NAME, Labels, labels_of
from aiops.incidents.explain import AFTER_STEPS, BEFORE_STEPS, Explanation, similar_windows, trace_of
from aiops.incidents.feedback import Quality, quality
from aiops.incidents.matchers import in_scope
from aiops.incidents.readings import MAX_STEPS, series_id

log = logging.getLogger(__name__)

HISTORY_MS = 14 * 86_400_000
HISTORY_STEPS = 20_160
NOTE_CAP = 1000
_STEP = re.compile(r"-(\d+)(ms|s)/")


class Episodes(Protocol):
    def anomaly(self, anomaly_id: str) -> Anomaly | None: ...

    def anomalies(self, start_ms: int, end_ms: int, limit: int = 500) -> Sequence[Anomaly]: ...


class Marks(Protocol):
    def save(self, mark: Mark) -> None: ...

    def of(self, anomaly_id: str) -> Sequence[Mark]: ...

    def since(self, time_ms: int) -> Sequence[Mark]: ...


class Watching(Protocol):
    """The detection loop, as far as it is needed here."""

    def scores(self, anomaly: Anomaly, batch: Batch) -> Scores | None: ...

    def follow_marks(self, paid_back_ms: int | None = None) -> None: ...


class Anomalies:
    """Thread-safe.

    Args:
        loop: the running detection, ``None`` where there is none: then explanations lack the expected course.
    """

    def __init__(
        self,
        episodes: Episodes,
        marks: Marks,
        querier: MetricQuerier,
        clock: Clock,
        loop: Callable[[], Watching | None] = lambda: None,
    ) -> None:
        self._episodes = episodes
        self._marks = marks
        self._querier = querier
        self._clock = clock
        self._loop = loop

    def list(
        self, principal: Principal, start_ms: int, end_ms: int, limit: int = 100, service: str = ""
    ) -> list[Anomaly]:
        """Those that began in ``[start_ms, end_ms)`` and that the principal may see, the newest first."""
        found = self._episodes.anomalies(start_ms, end_ms, limit if not (service or principal.scope) else 10 * limit)
        return [a for a in found if in_scope(a.series, principal.scope) and (not service or a.service == service)][
            :limit
        ]

    def get(self, anomaly_id: str, principal: Principal) -> Anomaly:
        """Raises ``NotFound`` also for one outside the principal's scope."""
        found = self._episodes.anomaly(anomaly_id)
        if found is None or not in_scope(found.series, principal.scope):
            raise NotFound(f"There is no anomaly '{anomaly_id}'.", hint="`aiops detect list` shows them.")
        return found

    def marks(self, anomaly_id: str) -> tuple[Mark, ...]:
        return tuple(self._marks.of(anomaly_id))

    def mark(self, anomaly_id: str, principal: Principal, judgement: Judgement, note: str = "") -> Mark:
        """Keep a person's judgement; it moves the threshold of the anomaly's series. Raises ``NotFound``."""
        if judgement is Judgement.MISSED:
            raise InvalidInput("An anomaly that was found was not missed.")
        found = self.get(anomaly_id, principal)
        mark = Mark(
            anomaly_id,
            judgement,
            principal.name,
            self._clock(),
            found.metric,
            found.series,
            found.service,
            found.started_ms,
            found.ended_ms or found.updated_ms,
            found.model,
            note[:NOTE_CAP],
        )
        self._keep(mark, found.started_ms if judgement is Judgement.TRUE else None)
        return mark

    def missed(
        self, principal: Principal, metric: str, labels: Labels, start_ms: int, end_ms: int, note: str = ""
    ) -> Mark:
        """Keep that a series should have raised an anomaly and did not.

        Raises:
            InvalidInput: an empty span, or one that has not begun.
            Conflict: an anomaly of that series was raised then.
            NotFound: the labels lie outside the principal's scope.
        """
        if not start_ms < end_ms or start_ms > self._clock():
            raise InvalidInput("The time of a missed anomaly must begin in the past and end after its beginning.")
        if not in_scope(labels, principal.scope):
            raise NotFound("There is no such series.")
        near = self._episodes.anomalies(start_ms - 86_400_000, end_ms, 1000)
        for one in near:
            if one.metric == metric and one.series == labels and (one.ended_ms or one.updated_ms) >= start_ms:
                raise Conflict(f"It was found: {one.id}.", hint="Mark that one as true.")
        service = next((v for k, v in labels if k in ("service_name", "service", "job", "instance")), "")
        mark = Mark(
            "", Judgement.MISSED, principal.name, self._clock(), metric, labels, service, start_ms, end_ms,
            self._model_near(metric, end_ms), note[:NOTE_CAP],
        )  # fmt: skip
        self._keep(mark, None)
        return mark

    def quality(self) -> Sequence[Quality]:
        """Precision and recall by the labels: of all together first, then of each model version."""
        return quality(tuple(self._marks.since(0)))

    def explain(self, anomaly_id: str, principal: Principal) -> Explanation:
        """The steps around an episode with what was expected, similar earlier windows, marks.

        A source that does not answer leaves the picture out, not the anomaly. Raises ``NotFound``.
        """
        found = self.get(anomaly_id, principal)
        marks = self.marks(anomaly_id)
        step = step_of(found.model)
        end = min((found.ended_ms or found.updated_ms) + AFTER_STEPS * step, self._clock()) // step * step
        start = end - min(HISTORY_MS // step, HISTORY_STEPS) * step
        try:
            batch = self._read(found, start, end, step, principal)
        except (QueryError, TransientError) as error:
            log.warning("the series of %s cannot be read: %s", anomaly_id, error)
            return Explanation(found, None, marks=marks)
        loop = self._loop()
        first = max(found.started_ms - BEFORE_STEPS * step, start)
        near = _last(batch, (end - first) // step + 512)
        trace = trace_of(near, loop.scores(found, near) if loop else None, first)
        known = np.flatnonzero(batch.mask[0])
        earlier = [
            a
            for a in self._episodes.anomalies(start, found.started_ms, 1000)
            if a.series == found.series and a.metric == found.metric and a.id != found.id
        ]
        similar = similar_windows(found, batch, earlier, self._marks.of)
        return Explanation(found, trace, similar, marks, int(end - batch.timestamps[known[0]]) if len(known) else 0)

    def _keep(self, mark: Mark, paid_back_ms: int | None) -> None:
        self._marks.save(mark)
        if (loop := self._loop()) is not None:
            loop.follow_marks(paid_back_ms)

    def _model_near(self, metric: str, time_ms: int) -> str:
        """The version that was in service, by the episodes that it raised."""
        found = self._episodes.anomalies(time_ms - HISTORY_MS, time_ms + 86_400_000, 1000)
        return next((a.model for a in found if a.metric == metric), found[0].model if found else "")

    def _read(self, anomaly: Anomaly, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> Batch:
        times = np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
        row = np.full(len(times), np.nan, np.float32)
        wanted = labels_of(p for p in anomaly.series if p[0] != METRIC_NAME)
        for first in range(0, len(times), MAX_STEPS):
            last = min(first + MAX_STEPS, len(times)) - 1
            block = self._querier.range(anomaly.query, int(times[first]), int(times[last]), step_ms, principal).block
            for number, labels in enumerate(block.labels):
                if len(block) == 1 or labels_of(p for p in labels if p[0] != METRIC_NAME) == wanted:
                    ts, values = block.series(number)
                    place = (ts - start_ms) // step_ms
                    good = np.isfinite(values) & (place >= 0) & (place < len(row))
                    row[place[good]] = values[good]
        key = series_id(anomaly.metric, anomaly.series)
        return Batch(row[None], np.isfinite(row)[None], times, step_ms, (key,))


def _last(batch: Batch, steps: int) -> Batch:
    return replace(
        batch, values=batch.values[:, -steps:], mask=batch.mask[:, -steps:], timestamps=batch.timestamps[-steps:]
    )


def step_of(model: str) -> int:
    """The step in ms of a detector's reference, ``anomaly-60s/3``; a minute where it says none."""
    found = _STEP.search(model)
    return (int(found[1]) * (1000 if found[2] == "s" else 1) or 60_000) if found else 60_000
