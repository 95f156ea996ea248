"""Budgets against forecasts, and the alerts that budgets and cost anomalies become."""

from __future__ import annotations

import math

from aiops.core.anomaly import Anomaly
from aiops.core.cost import Budget, BudgetState, CostAnomaly, CostForecast
from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.series import labels_of
from aiops.core.untrusted import Untrusted
from aiops.cost.calendar import DAY_MS, day_of, day_text, month_text
from aiops.settings import CostSettings

SOURCE = "cost"
REPEAT_MS = 26 * 3_600_000
"""A signal that no check repeats for this long ends: a budget's past month, an anomaly that later bills took back.
Checks are hourly; a day of failed ones ends nothing."""


def configured(settings: CostSettings) -> list[Budget]:
    """The budgets of the settings, by name."""
    return [
        Budget(name, item.amount, item.currency, tuple(sorted(item.where.items())))
        for name, item in sorted(settings.budgets.items())
    ]


def judge(budget: Budget, forecast: CostForecast) -> BudgetState:
    """``exceeded`` by what was spent, ``at_risk`` by what is expected at month end."""
    if forecast.method == NO_COSTS:
        return BudgetState(budget, forecast, "unknown")
    if forecast.spent > budget.amount:
        return BudgetState(budget, forecast, "exceeded")
    return BudgetState(budget, forecast, "at_risk" if forecast.expected > budget.amount else "ok")


NO_COSTS = "no costs"


def budget_alert(state: BudgetState, now_ms: int) -> Alert | None:
    """One alert per budget and month, ended while the budget holds; ``None`` where its state is unknown.

    Its fingerprint outlives a change from at risk to exceeded.
    """
    if state.state == "unknown":
        return None
    budget, forecast = state.budget, state.forecast
    month = month_text(day_of(forecast.month_start_ms))
    labels = labels_of({"alertname": "CostBudget", "budget": budget.name, "month": month, **dict(budget.where)})
    money = budget.currency
    said = (
        f"Budget '{budget.name}' of {budget.amount:,.2f} {money} for {month}: {forecast.spent:,.2f} spent, "
        f"{forecast.expected:,.2f} expected at month end ({forecast.lower:,.2f} to {forecast.upper:,.2f})."
    )
    return Alert(
        fingerprint(labels),
        SignalKind.COST,
        "CostBudget",
        labels,
        Severity.CRITICAL if state.state == "exceeded" else Severity.WARNING,
        starts_ms=forecast.month_start_ms,
        updated_ms=now_ms,
        ends_ms=now_ms if state.state == "ok" else None,
        summary=Untrusted(said),
        source=SOURCE,
        expires_ms=now_ms + REPEAT_MS,
        annotations=(("state", Untrusted(state.state)), ("method", Untrusted(forecast.method))),
    )


def anomaly_alert(anomaly: CostAnomaly, now_ms: int, *, over: bool = False) -> Alert:
    """One alert per group and month in which the episode began; ``over`` ends it after its last day."""
    day = day_of(anomaly.day_ms)
    group = dict(zip(anomaly.columns, anomaly.group, strict=True))
    labels = labels_of({"alertname": "CostAnomaly", "kind": anomaly.kind, "month": month_text(day), **group})
    ends = anomaly.day_ms + anomaly.days * DAY_MS if over else None
    return Alert(
        fingerprint(labels),
        SignalKind.COST,
        "CostAnomaly",
        labels,
        Severity.WARNING,
        starts_ms=anomaly.day_ms,
        updated_ms=now_ms,
        ends_ms=ends,
        summary=Untrusted(describe(anomaly)),
        source=SOURCE,
        anomaly=_as_anomaly(anomaly, fingerprint(labels), ends),
        expires_ms=now_ms + REPEAT_MS,
    )


def describe(anomaly: CostAnomaly) -> str:
    """One sentence; group names are telemetry, so wrap the result in ``Untrusted`` where it leaves."""
    what = " / ".join(Untrusted(part).display(80) for part in anomaly.group if part) or "all costs"
    day = day_text(day_of(anomaly.day_ms))
    money = anomaly.currency
    share = f"{anomaly.amount / anomaly.expected - 1:+.0%}" if anomaly.expected > 0 else "new"
    if anomaly.kind == "creep":
        return (
            f"{what} has crept up since {day}: {anomaly.amount:,.2f} {money} a day against "
            f"{anomaly.expected:,.2f} then ({share}), {anomaly.excess:,.2f} {money} in all."
        )
    lasting = "" if anomaly.days == 1 else f", {anomaly.days} days so far, {anomaly.excess:+,.2f} {money} in all"
    against = f"against {anomaly.expected:,.2f} expected ({share})"
    return f"{what} cost {anomaly.amount:,.2f} {money} on {day} {against}{lasting}."


def _as_anomaly(anomaly: CostAnomaly, identity: str, ends_ms: int | None) -> Anomaly:
    """The same thing as incidents see anomalies; ``score`` is the relative departure."""
    expected = anomaly.expected
    return Anomaly(
        id=f"cost:{identity}",
        series=labels_of(dict(zip(anomaly.columns, anomaly.group, strict=True))),
        service="",
        metric="EffectiveCost",
        query="",
        kind="cost",
        direction="up" if anomaly.amount >= expected else "down",
        started_ms=anomaly.day_ms,
        updated_ms=anomaly.day_ms + (anomaly.days - 1) * DAY_MS,
        ended_ms=ends_ms,
        value=anomaly.amount,
        expected=expected,
        lower=math.nan,
        upper=math.nan,
        score=abs(anomaly.amount / expected - 1) if expected > 0 else math.inf,
        p_value=math.nan,
        unit=anomaly.currency,
    )
