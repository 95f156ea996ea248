"""Native histograms: kept by the store, not read by queries. A query that needs them is told so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from aiops.core.errors import QueryError
from aiops.core.principal import Principal
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp
from aiops.promql.context import Notes
from aiops.promql.frame import label_value
from aiops.promql.places import place
from aiops.promql.plan import quote

Span = tuple[int, int]


@runtime_checkable
class HistogramReader(Protocol):
    """A reader that knows of which series it holds native histograms."""

    def histogram_series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[Labels]: ...


def refuse(
    reader: HistogramReader,
    text: str,
    asked: Sequence[tuple[tuple[Matcher, ...], Span, int]],
    who: Principal,
    notes: Notes,
) -> None:
    """Look for native histograms behind selectors: (matchers, the times that count, where in ``text``).

    Raises ``QueryError`` where a metric is asked for by its name. A selector of other labels may mean the float series
    beside them (an OpenTelemetry histogram is kept in both forms): it is answered from those, with a warning.
    """
    for matchers, (start_ms, end_ms), at in asked:
        series = reader.histogram_series(matchers, start_ms, end_ms, who)
        if not series:
            continue
        name = label_value(series[0], METRIC_NAME)
        message = f"{quote(name)} has native histograms, which queries do not support"
        if any(m.name == METRIC_NAME and m.op is MatchOp.EQUAL for m in matchers):
            hint = f"Where it is kept in classic form as well, ask {name}_bucket, {name}_sum and {name}_count."
            raise QueryError(f"{place(text, at)}: {message}", kind="execution", hint=hint)
        notes.add("warning", f"native histograms are left out: {message}", at)
