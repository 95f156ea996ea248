"""The cost service: summaries, comparison, forecast, anomalies and budgets over a ``CostReader``.

Only complete days are judged. A day is complete when the newest charge period seen reaches past it; where a
provider that charges every day has not billed the last days yet, those days count as not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiops.core.cost import (
    Budget,
    BudgetState,
    CostAnomaly,
    CostComparison,
    CostForecast,
    CostMover,
    CostQuery,
    CostSeries,
)
from aiops.core.errors import InvalidInput
from aiops.core.incident import Alert
from aiops.core.ports import AnomalySink, Clock, CostReader, system_clock
from aiops.core.principal import Principal
from aiops.cost import anomalies, budgets, forecast
from aiops.cost.calendar import DAY_MS, Days, Money, day_of, month_end, month_start
from aiops.settings import CostSettings

HISTORY_DAYS = 200
LATE_DAYS = 3
"""A provider silent for longer has stopped, one silent for less may be late."""
ALERT_DAYS = 3
"""An episode that touched one of the last days is firing; one that ended within a week after is resolved."""

Where = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _History:
    """Consecutive days up to the last complete one, and what came after it so far."""

    days: Days
    amounts: Money
    groups: tuple[tuple[str, ...], ...]
    currency: str
    newest_ms: int
    partial: Money


class CostService:
    """Questions about money, each within the principal's scope.

    Args:
        reader: daily costs; it enforces the scope and refuses to add up several currencies.
        sink: where :meth:`check` sends alerts, if anywhere.
        values: distinct values of a cost column, to list currencies; without it one currency is assumed.
    """

    def __init__(
        self,
        reader: CostReader,
        settings: CostSettings,
        clock: Clock = system_clock,
        sink: AnomalySink | None = None,
        values: Callable[[str, Principal], Sequence[str]] | None = None,
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._clock = clock
        self._sink = sink
        self._values = values

    def currencies(self, principal: Principal) -> tuple[str, ...]:
        """Currencies of the stored costs, the one with most spent first; empty where they are not known."""
        return tuple(self._values("BillingCurrency", principal)) if self._values is not None else ()

    def summary(
        self, start_ms: int, end_ms: int, group_by: Sequence[str], principal: Principal, where: Where = ()
    ) -> CostSeries:
        """Daily cost per group in the half-open window, largest group first."""
        if end_ms <= start_ms:
            raise InvalidInput("The cost window is empty: its end is not after its start.")
        found = self._reader.daily(CostQuery(start_ms, end_ms, tuple(group_by), where), principal)
        if not found.groups:
            return replace(found, columns=tuple(group_by))
        order = np.argsort(-found.amounts.sum(axis=1), kind="stable")
        groups = tuple(found.groups[int(i)] for i in order)
        return replace(found, groups=groups, amounts=found.amounts[order], columns=tuple(group_by))

    def compare(
        self, start_ms: int, end_ms: int, group_by: Sequence[str], principal: Principal, where: Where = ()
    ) -> CostComparison:
        """The window's complete days against as many days just before it; movers by size of change."""
        first, last = day_of(start_ms), -(-end_ms // DAY_MS)
        span = last - first
        found = self.summary((first - span) * DAY_MS, last * DAY_MS, group_by, principal, where)
        complete = min(last, found.newest_ms // DAY_MS, day_of(self._clock()))
        shown = max(complete - first, 0)
        day = found.days // DAY_MS
        now = found.amounts[:, (day >= first) & (day < first + shown)].sum(axis=1)
        before = found.amounts[:, (day >= first - span) & (day < first - span + shown)].sum(axis=1)
        movers = [CostMover(g, float(a), float(b)) for g, a, b in zip(found.groups, now, before, strict=True)]
        movers.sort(key=lambda m: -abs(m.change))
        return CostComparison(
            first * DAY_MS, (first + shown) * DAY_MS, float(now.sum()), float(before.sum()), found.currency,
            tuple(group_by), tuple(movers),
        )  # fmt: skip

    def forecast(self, principal: Principal, now_ms: int | None = None, where: Where = ()) -> CostForecast:
        """Cost of the current UTC month, with a 90 % interval; method ``no costs`` where none match."""
        now = self._clock() if now_ms is None else now_ms
        today = day_of(now)
        start, end = month_start(today), month_end(today)
        history = self._history(principal, now, ("ServiceProviderName",), where)
        if history is None:
            return CostForecast(start * DAY_MS, 0.0, 0.0, 0.0, 0.0, "", budgets.NO_COSTS)
        total = history.amounts.sum(axis=0)
        partial = history.partial.sum(axis=0)
        complete = int(history.days[-1]) + 1
        in_month = total[history.days >= start].sum() if complete > start else 0.0
        seen_after = partial[max(0, start - complete) :].sum()
        # With the bill late by days over a month's end, what lies before the month is forecast and not counted.
        gap = max(0, start - complete)
        ahead = forecast.estimate(history.days, total, end - max(complete, start) + gap)
        share = 1.0 if not gap else (end - start) / (end - complete)
        rest = max(ahead.total * share, float(seen_after))
        spent = float(in_month + seen_after)
        return CostForecast(
            start * DAY_MS,
            spent,
            float(in_month + rest),
            float(in_month + max(ahead.lower * share, float(seen_after))),
            float(in_month + max(ahead.upper * share, rest)),
            history.currency,
            ahead.method,
        )

    def anomalies(
        self,
        start_ms: int,
        end_ms: int,
        principal: Principal,
        group_by: Sequence[str] = ("ServiceName",),
        where: Where = (),
    ) -> list[CostAnomaly]:
        """Episodes that touch a complete day in the half-open window, newest first."""
        history = self._history(principal, min(end_ms, self._clock()), tuple(group_by), where)
        if history is None:
            return []
        daily = float(np.median(history.amounts.sum(axis=0)[-28:]))
        smallest = max(0.01, 0.005 * daily)
        first = start_ms // DAY_MS
        found = anomalies.find(history.days, history.amounts, self._settings.monthly_variation, smallest)
        return [
            CostAnomaly(
                int(history.days[e.first]) * DAY_MS,
                history.groups[e.group],
                e.amount,
                e.expected,
                history.currency,
                tuple(group_by),
                e.kind,
                e.last - e.first + 1,
                e.excess,
            )
            for e in reversed(found)
            if int(history.days[e.last]) >= first
        ]

    def budgets(self, principal: Principal, now_ms: int | None = None) -> list[BudgetState]:
        """Every configured budget against this month, by name."""
        return [self._judge(budget, principal, now_ms) for budget in budgets.configured(self._settings)]

    def check(self, principal: Principal, now_ms: int | None = None) -> list[Alert]:
        """Alerts of budgets and of anomalies by service, firing and ended; sent to the sink, if there is one."""
        now = self._clock() if now_ms is None else now_ms
        alerts = [a for s in self.budgets(principal, now) if (a := budgets.budget_alert(s, now)) is not None]
        since = now - (ALERT_DAYS + 7) * DAY_MS
        newest: dict[str, Alert] = {}
        several: list[Where] = [(("BillingCurrency", c),) for c in self.currencies(principal)] or [()]
        for found in reversed([a for where in several for a in self.anomalies(since, now, principal, where=where)]):
            ended = found.day_ms + found.days * DAY_MS
            alert = budgets.anomaly_alert(found, now, over=ended < now - (ALERT_DAYS + 1) * DAY_MS)
            newest[alert.fingerprint] = alert
        alerts.extend(newest.values())
        if self._sink is not None and alerts:
            self._sink.submit(alerts)
        return alerts

    def _judge(self, budget: Budget, principal: Principal, now_ms: int | None) -> BudgetState:
        where = dict(budget.where)
        where.setdefault("BillingCurrency", budget.currency)
        return budgets.judge(budget, self.forecast(principal, now_ms, tuple(sorted(where.items()))))

    def _history(self, principal: Principal, now_ms: int, group_by: tuple[str, ...], where: Where) -> _History | None:
        """Dense days up to the last complete one; ``None`` without any cost."""
        end = day_of(now_ms) + 1
        found = self._reader.daily(CostQuery((end - HISTORY_DAYS) * DAY_MS, end * DAY_MS, group_by, where), principal)
        if not len(found.groups) or not len(found.days) or not np.any(found.amounts):
            return None
        day = found.days // DAY_MS
        first = int(day[np.any(found.amounts != 0, axis=0)].min())
        dense = np.zeros((len(found.groups), end - first))
        inside = day >= first
        dense[:, day[inside] - first] = found.amounts[:, inside]
        complete = min(found.newest_ms // DAY_MS, end - 1) - first
        complete = max(min(complete, self._last_billed(dense, complete)), 1)
        return _History(
            np.arange(first, first + complete, dtype=np.int64),
            dense[:, :complete],
            found.groups,
            found.currency,
            found.newest_ms,
            dense[:, complete:],
        )

    @staticmethod
    def _last_billed(dense: Money, complete: int) -> int:
        """The day up to which every group that charges daily has been billed, at most ``LATE_DAYS`` back."""
        before = max(0, complete - LATE_DAYS)
        recent = dense[:, max(0, before - 28) : before]
        if recent.shape[1] < 7:
            return complete
        large = recent.sum(axis=1) > 0.02 * recent.sum()
        for row in np.flatnonzero((np.mean(recent != 0, axis=1) > 0.95) & large):
            tail = dense[row, before:complete]
            if np.any(tail != 0):
                complete = min(complete, before + int(np.flatnonzero(tail)[-1]) + 1)
            elif recent[row, -1] != 0:
                complete = min(complete, before)
        return complete
