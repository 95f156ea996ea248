"""Runs cost steps over the cost service: sums with their share and an earlier window, forecast, unusual days."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiops.agent.found import Asking, Found
from aiops.agent.ports import CostLookup
from aiops.core.cost import CostSeries
from aiops.core.errors import AiopsError
from aiops.core.evidence import Evidence, EvidenceState, Figure
from aiops.core.principal import Principal
from aiops.core.query import CostStep
from aiops.core.series import SampleBlock

DAY_MS = 86_400_000
NAMES_DAYS = 62
NAMED = ("ServiceName", "SubAccountName", "ServiceCategory", "RegionId")
"""Columns whose values people filter by in words."""


@dataclass(frozen=True, slots=True)
class CostRunner:
    costs: CostLookup

    def run(self, step: CostStep, asking: Asking) -> Found:
        if step.what == "forecast":
            return self._forecast(step, asking)
        if step.what == "anomalies":
            return self._anomalies(step, asking)
        return self._summary(step, asking)

    def names(self, principal: Principal, now_ms: int) -> dict[str, tuple[str, ...]]:
        """Values of :data:`NAMED` with cost in the last :data:`NAMES_DAYS`, largest first; empty where unreadable."""
        found: dict[str, tuple[str, ...]] = {}
        for column in NAMED:
            try:
                rows = self.costs.summary(now_ms - NAMES_DAYS * DAY_MS, now_ms, (column,), principal)
            except AiopsError:
                continue
            if values := tuple(group[0] for group in rows.groups if group[0]):
                found[column] = values
        return found

    def _summary(self, step: CostStep, asking: Asking) -> Found:
        """The window's complete days by group, beside the same number of days earlier (a week for a week)."""
        start, end = step.window.resolve(asking.now_ms)
        start, end = start // DAY_MS * DAY_MS, -(-end // DAY_MS) * DAY_MS
        query = f"sum of EffectiveCost by {', '.join(step.group_by)}"
        if step.where:
            query += " where " + " and ".join(f"{k} = {v}" for k, v in step.where.items())
        now = self.costs.summary(start, end, step.group_by, asking.principal, _where(step))
        limits: list[str] = []
        seen_until = min(end, now.newest_ms // DAY_MS * DAY_MS if now.newest_ms else end)
        if not now.groups or seen_until <= start:
            note = "no costs are imported for these days"
            missing = Evidence("", "cost", step.title, "costs", query, start, end, EvidenceState.NO_MATCH, note=note)
            return Found(step, (missing,))
        if seen_until < min(end, asking.now_ms // DAY_MS * DAY_MS):
            limits.append("The bill has not come in yet for the last days of the window; they are not counted.")
        inside = (now.days >= start) & (now.days < seen_until)
        span = seen_until - start
        shift = -(-span // (7 * DAY_MS)) * 7 * DAY_MS
        before = self._before(start - shift, seen_until - shift, step, asking, limits)
        amounts = now.amounts[:, inside].sum(axis=1)
        order = np.argsort(-amounts, kind="stable")
        total = float(amounts.sum())
        money = now.currency or "USD"
        figures = [Figure(total, money, name="total")]
        if before is not None:
            figures.append(Figure(float(sum(before.values())), money, name="total before"))
            if figures[1].value:
                figures.append(Figure(total / figures[1].value - 1, "ratio", name="change"))
        for i in order[: step.limit].tolist():
            labels = tuple(sorted(zip(step.group_by, now.groups[i], strict=True)))
            figures.append(Figure(float(amounts[i]), money, labels, "cost"))
            figures.append(Figure(float(amounts[i]) / total if total else 0.0, "ratio", labels, "share"))
            if before is not None and now.groups[i] in before:
                figures.append(Figure(before[now.groups[i]], money, labels, "before"))
        figures.append(Figure(float(span // DAY_MS), "1", name="days"))
        figures.append(Figure(float(shift // DAY_MS), "1", name="days earlier"))
        figures.append(Figure(float(len(order)), "1", name="groups"))
        chart = SampleBlock.build(
            (tuple(sorted(zip(step.group_by, now.groups[i], strict=True))), now.days[inside], now.amounts[i][inside])
            for i in order[:6].tolist()
        )
        note = ""
        if int(inside.sum()) < 2 and (longer := self._chart(seen_until, step, asking)) is not None:
            chart, note = longer, "the chart shows the two weeks up to the window's end"
        evidence = Evidence(
            "", "cost", step.title, "costs", query, start, seen_until, EvidenceState.OK, tuple(figures), series=chart,
            unit=money, newest_ms=now.newest_ms, truncated=len(order) > step.limit, note=note,
        )  # fmt: skip
        return Found(step, (evidence,), limits=tuple(limits))

    def _before(
        self, start: int, end: int, step: CostStep, asking: Asking, limits: list[str]
    ) -> dict[tuple[str, ...], float] | None:
        try:
            found = self.costs.summary(start, end, step.group_by, asking.principal, _where(step))
        except AiopsError as error:
            limits.append(f"The earlier days could not be read: {error.message}")
            return None
        charged = found.days[found.amounts.any(axis=0)] if found.groups else found.days[:0]
        if not len(charged) or int(charged[0]) > start + 3 * DAY_MS:
            limits.append("There are no costs for all of the same days earlier, so nothing is compared.")
            return None
        return dict(zip(found.groups, found.amounts.sum(axis=1).tolist(), strict=True))

    def _chart(self, end: int, step: CostStep, asking: Asking) -> SampleBlock | None:
        """Two weeks of days where the window itself is too short to draw."""
        found: CostSeries = self.costs.summary(end - 14 * DAY_MS, end, step.group_by, asking.principal, _where(step))
        if not found.groups or len(found.days) < 2:
            return None
        order = np.argsort(-found.amounts.sum(axis=1), kind="stable")[:6].tolist()
        return SampleBlock.build(
            (tuple(sorted(zip(step.group_by, found.groups[i], strict=True))), found.days, found.amounts[i])
            for i in order
        )

    def _forecast(self, step: CostStep, asking: Asking) -> Found:
        found = self.costs.forecast(asking.principal, asking.now_ms, _where(step))
        query = f"month-end forecast of EffectiveCost ({found.method})"
        if not found.currency:
            missing = Evidence("", "cost", step.title, "costs", query, found.month_start_ms, asking.now_ms,
                               EvidenceState.NO_MATCH, note="no costs are imported")  # fmt: skip
            return Found(step, (missing,))
        money = found.currency
        figures = [
            Figure(found.expected, money, name="expected"), Figure(found.lower, money, name="lower"),
            Figure(found.upper, money, name="upper"), Figure(found.spent, money, name="spent so far"),
        ]  # fmt: skip
        budgets = self.costs.budgets(asking.principal, asking.now_ms) if not step.where else []
        for one in budgets:
            labels = (("budget", one.budget.name), ("state", one.state.replace("_", " ")))
            figures += [
                Figure(one.budget.amount, one.budget.currency, labels, "budget"),
                Figure(one.forecast.expected, one.budget.currency, labels, "budget expected"),
            ]
        evidence = Evidence("", "cost", step.title, "costs", query, found.month_start_ms, asking.now_ms,
                            EvidenceState.OK, tuple(figures), unit=money)  # fmt: skip
        return Found(step, (evidence,))

    def _anomalies(self, step: CostStep, asking: Asking) -> Found:
        start, end = step.window.resolve(asking.now_ms)
        found = self.costs.anomalies(start, end, asking.principal, step.group_by, _where(step))
        figures: list[Figure] = []
        for one in found[: step.limit]:
            labels = tuple(sorted(zip(one.columns or step.group_by, one.group, strict=False)))
            figures += [
                Figure(one.amount, one.currency, labels, one.kind),
                Figure(one.expected, one.currency, labels, "expected"),
                Figure(one.excess, one.currency, labels, "excess"),
                Figure(one.day_ms / 1000, "time", labels, "first day"),
            ]  # fmt: skip
        state = EvidenceState.OK if found else EvidenceState.NO_MATCH
        query = f"days of EffectiveCost by {', '.join(step.group_by)} that depart from their own past"
        evidence = Evidence("", "cost", step.title, "costs", query, start, end, state, tuple(figures),
                            truncated=len(found) > step.limit)  # fmt: skip
        return Found(step, (evidence,), matched=len(found))


def _where(step: CostStep) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(step.where.items()))
