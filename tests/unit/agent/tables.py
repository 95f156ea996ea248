"""An in-memory metric source for the planner's tests: results by query text, series as given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from aiops.core.errors import TransientError
from aiops.core.ports import MetricQuerier
from aiops.core.principal import Principal
from aiops.core.series import (
    Labels,
    Matcher,
    MatchOp,
    MetricMetadata,
    QueryResult,
    ResultType,
    SampleBlock,
    labels_of,
)

Rows = Sequence[tuple[Mapping[str, str], float]]


class TableQuerier(MetricQuerier):
    """``rows`` maps a pattern to what a query that matches it gives; ``timestamp()`` gives ``newest_ms``."""

    name = "table"

    def __init__(
        self,
        rows: Mapping[str, Rows | Callable[[int], Rows]],
        series: Sequence[Mapping[str, str]],
        metadata: Sequence[MetricMetadata],
        newest_ms: int | None = None,
    ) -> None:
        self.rows, self._series, self._metadata = dict(rows), [labels_of(s) for s in series], list(metadata)
        self.newest_ms = newest_ms
        self.down = False
        self.asked: list[str] = []

    def _rows(self, query: str, time_ms: int) -> list[tuple[Labels, float]]:
        if self.down:
            raise TransientError("connection refused")
        self.asked.append(query)
        if "timestamp(" in query:
            return [] if self.newest_ms is None else [((), self.newest_ms / 1000)]
        for pattern, rows in self.rows.items():
            if re.search(pattern, query):
                found = rows(time_ms) if callable(rows) else rows
                return [(labels_of(labels), value) for labels, value in found]
        return []

    def instant(self, query: str, time_ms: int, principal: Principal) -> QueryResult:
        return QueryResult(ResultType.VECTOR, SampleBlock.at(time_ms, self._rows(query, time_ms)))

    def range(self, query: str, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> QueryResult:
        times = np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
        block = SampleBlock.build(
            (labels, times, np.full(len(times), value)) for labels, value in self._rows(query, end_ms)
        )
        return QueryResult(ResultType.MATRIX, block)

    def series(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal, limit: int = 0
    ) -> list[Labels]:
        if self.down:
            raise TransientError("connection refused")
        return [s for s in self._series if any(all(_holds(m, s) for m in one) for one in selectors)]

    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        return sorted({k for s in self._series for k, _ in s})

    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        if self.down:
            raise TransientError("connection refused")
        return sorted({v for s in self._series for k, v in s if k == name})

    def metadata(self, principal: Principal) -> list[MetricMetadata]:
        return self._metadata


def _holds(matcher: Matcher, labels: Labels) -> bool:
    value = dict(labels).get(matcher.name, "")
    return value == matcher.value if matcher.op is MatchOp.EQUAL else True
