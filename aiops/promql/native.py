"""Native histograms where a query cannot read them: it is told so, and gets no number without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from aiops.core.errors import QueryError
from aiops.core.principal import Principal
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp, NativeHistogram
from aiops.promql.context import Notes
from aiops.promql.frame import label_value
from aiops.promql.places import place
from aiops.promql.plan import quote

Span = tuple[int, int]


@runtime_checkable
class HistogramReader(Protocol):
    """A reader that holds native histograms. Times are ms, both ends of a window in it."""

    def may_hold_histograms(self, matchers: Sequence[Matcher]) -> bool:
        """Whether any metric that ever had native histograms may match; told from memory."""
        ...

    def histogram_series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[Labels]:
        """Series that match and have native histograms in the window."""
        ...

    def all_histograms(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal, most: int
    ) -> list[NativeHistogram]:
        """All native histograms of the window, oldest first. Raises ``QueryError`` for more than ``most``."""
        ...


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
        message = f"{quote(name)} has native histograms, which only functions of histograms read"
        if any(m.name == METRIC_NAME and m.op is MatchOp.EQUAL for m in matchers):
            hint = (
                f"Ask histogram_quantile(0.9, sum(rate({name}[5m]))), histogram_count({name}) or their like; where it "
                f"is kept in classic form as well, {name}_bucket, {name}_sum and {name}_count."
            )
            raise QueryError(f"{place(text, at)}: {message}", kind="execution", hint=hint)
        notes.add("warning", f"native histograms are left out: {message}", at)
