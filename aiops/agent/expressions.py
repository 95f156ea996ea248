"""PromQL texts made from steps."""

from __future__ import annotations

from aiops.core.query import ForecastStep, MetricStep, PlanStep


def alert_form(step: MetricStep) -> str:
    """The expression with its condition, as an alert rule would have it."""
    if step.threshold is None:
        return step.promql
    return f"({step.promql}) {step.threshold.op} {step.threshold.value:g}"


def promql_of(step: PlanStep) -> str:
    """The PromQL that a step asks; empty for steps over other data."""
    if isinstance(step, MetricStep):
        return alert_form(step)
    return step.promql if isinstance(step, ForecastStep) else ""
