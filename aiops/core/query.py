"""What a person asks, and the plan made of it: typed steps that one executor runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from aiops.core.principal import Principal


@dataclass(frozen=True, slots=True)
class Question:
    """A question in words. ``conversation`` ties follow-ups; ``zone`` is an IANA time zone name."""

    text: str
    principal: Principal
    asked_ms: int
    conversation: str = ""
    zone: str = "UTC"


class Part(BaseModel):
    """Base of what a plan is made of: unknown keys are an error, nothing changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(Part):
    """A span of time: the last ``last_s`` seconds, or from ``start_ms`` to ``end_ms`` (ms UTC, half-open)."""

    last_s: float = Field(3600.0, gt=0, le=400 * 86400.0, description="Seconds back from now.")
    start_ms: int | None = Field(None, ge=0, description="Start in ms UTC; overrides last_s.")
    end_ms: int | None = Field(None, ge=0, description="End in ms UTC; now where missing.")
    words: str = Field("", max_length=80, description="The phrase it came from.")

    def resolve(self, now_ms: int) -> tuple[int, int]:
        """``(start, end)`` in ms UTC; never later than now, never empty."""
        end = min(now_ms, now_ms if self.end_ms is None else self.end_ms)
        start = end - int(self.last_s * 1000) if self.start_ms is None else self.start_ms
        return min(start, end - 1000), end


class Threshold(Part):
    """Which values are the answer. ``default`` says that we chose it, not the person."""

    op: Literal["<", "<=", ">", ">=", "==", "!="]
    value: float
    default: bool = False
    note: str = Field("", max_length=200)


Shape: TypeAlias = Literal[
    "value", "threshold", "ratio", "series", "count", "age", "change", "forecast", "quantile", "top"
]


class Step(Part):
    title: str = Field("", max_length=200, description="What the step shows, in a few words.")
    window: Window = Window()


class MetricStep(Step):
    """One PromQL expression, asked at the window's end and over it. ``threshold`` is applied to its values."""

    kind: Literal["metric"] = "metric"
    promql: str = Field(min_length=1, max_length=4000)
    shape: Shape = "value"
    unit: str = Field("", max_length=20, description="s, By, ratio, 1, /s, By/s, cores, USD …")
    bad: Literal["high", "low", ""] = Field("", description="Which direction is the bad one.")
    threshold: Threshold | None = None
    limit: int = Field(10, ge=1, le=100, description="Series shown, worst first.")


class LogStep(Step):
    """Log lines, newest first, or their frequent patterns."""

    kind: Literal["log"] = "log"
    service: str = Field("", max_length=200)
    contains: str = Field("", max_length=200)
    min_severity: int = Field(0, ge=0, le=24, description="OpenTelemetry number: 9 info, 13 warn, 17 error.")
    patterns: bool = False
    limit: int = Field(20, ge=1, le=500)


class TraceStep(Step):
    """Slow and failed spans of a service, slowest first."""

    kind: Literal["trace"] = "trace"
    service: str = Field("", max_length=200)
    limit: int = Field(10, ge=1, le=100)


class CostStep(Step):
    """Money by group; ``what`` asks for sums, the month-end forecast or unusual days."""

    kind: Literal["cost"] = "cost"
    what: Literal["summary", "forecast", "anomalies"] = "summary"
    group_by: tuple[str, ...] = Field(("ServiceName",), max_length=3, description="FOCUS columns.")
    where: dict[str, str] = Field(default_factory=dict, max_length=5, description="FOCUS column to its value.")
    limit: int = Field(8, ge=1, le=100)


class IncidentStep(Step):
    """Incidents, active ones first, or one by id."""

    kind: Literal["incident"] = "incident"
    incident_id: str = Field("", max_length=80)
    service: str = Field("", max_length=200)
    active_only: bool = False
    resolved_only: bool = False
    limit: int = Field(10, ge=1, le=100)


class ChangeStep(Step):
    """Deploys, configuration changes and platform events."""

    kind: Literal["change"] = "change"
    service: str = Field("", max_length=200)
    limit: int = Field(20, ge=1, le=200)


class ForecastStep(Step):
    """Where a gauge is heading: a straight line through the window, ``horizon_s`` ahead."""

    kind: Literal["forecast"] = "forecast"
    promql: str = Field(min_length=1, max_length=4000, description="An expression with predict_linear.")
    unit: str = Field("", max_length=20)
    horizon_s: float = Field(14400.0, gt=0, le=400 * 86400.0)
    limit: int = Field(10, ge=1, le=100)


class ExplainStep(Step):
    """What is wrong with a service or incident: incident, causes, changes, request figures now and before."""

    kind: Literal["explain"] = "explain"
    service: str = Field("", max_length=200)
    incident_id: str = Field("", max_length=80)


class CompareStep(Step):
    """One expression in the window against an earlier window of the same length."""

    kind: Literal["compare"] = "compare"
    promql: str = Field(min_length=1, max_length=4000)
    unit: str = Field("", max_length=20)
    bad: Literal["high", "low", ""] = ""
    back_s: float = Field(86400.0, gt=0, le=400 * 86400.0, description="How far back the other window lies.")
    limit: int = Field(10, ge=1, le=100)


class DiscoverStep(Step):
    """What there is: metrics whose name or help resembles ``words``, or the services and their calls."""

    kind: Literal["discover"] = "discover"
    what: Literal["metrics", "services"] = "metrics"
    words: str = Field("", max_length=200)
    limit: int = Field(15, ge=1, le=100)


class ToolStep(Step):
    """A read-only look-up plug-in, run by the executor with arguments of the tool's own model."""

    kind: Literal["tool"] = "tool"
    name: str = Field(min_length=1, max_length=80)
    args: dict[str, str | int | float | bool] = Field(default_factory=dict)


class ActionProposalStep(Step):
    """Ask for an action on a target; it is only proposed, and only with a measured trigger."""

    kind: Literal["action_proposal"] = "action_proposal"
    action: str = Field(min_length=1, max_length=80)
    target: str = Field(min_length=1, max_length=200)
    parameters: dict[str, str] = Field(default_factory=dict, max_length=10)
    incident_id: str = Field("", max_length=80)
    reason: str = Field("", max_length=300)


PlanStep: TypeAlias = Annotated[
    MetricStep
    | LogStep
    | TraceStep
    | CostStep
    | IncidentStep
    | ChangeStep
    | ForecastStep
    | ExplainStep
    | CompareStep
    | DiscoverStep
    | ToolStep
    | ActionProposalStep,
    Field(discriminator="kind"),
]


class Plan(Part):
    """What will be looked up for a question.

    No steps means that the planner asks back (``clarify``) or abstains. ``confidence`` is the planner's
    estimate that the plan answers the question, in [0, 1]; ``sure`` is that estimate over its threshold.
    """

    steps: tuple[PlanStep, ...] = Field((), max_length=8)
    intent: str = Field("", max_length=40)
    confidence: float = Field(0.0, ge=0, le=1)
    sure: bool = False
    planner: str = Field("", max_length=80)
    concept: str = Field("", max_length=80)
    clarify: str = Field("", max_length=300, description="A question back to the person, when needed.")
    suggestions: tuple[str, ...] = Field((), max_length=10, description="Did you mean: questions or metric names.")
    candidates: tuple[str, ...] = Field((), max_length=10, description="Metric names that may fit.")
    notes: tuple[str, ...] = Field((), max_length=10, description="Assumptions the answer has to state.")

    def brief(self) -> str:
        """JSON without the defaults, that ``Plan.model_validate_json`` reads back."""
        steps = [{"kind": step.kind, **step.model_dump(mode="json", exclude_defaults=True)} for step in self.steps]
        return json.dumps({**self.model_dump(mode="json", exclude_defaults=True, exclude={"steps"}), "steps": steps})
