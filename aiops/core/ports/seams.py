"""Seams inside ``aiops`` that tell, book, answer or report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aiops.core.evidence import Answer
from aiops.core.incident import Alert
from aiops.core.model import LlmCall, ModelUse, UseKind
from aiops.core.ports.sources import (
    Collected,
)
from aiops.core.principal import Principal
from aiops.core.query import Question


class TelemetrySink(Protocol):
    """Writes telemetry; a return means committed and synced. Replaying adds nothing."""

    def append(self, collected: Collected, key: str = "") -> object: ...


class AnomalySink(Protocol):
    """The one door of incidents."""

    def submit(self, alerts: Sequence[Alert]) -> None: ...


class Explainer(Protocol):
    """Turns an anomaly or incident into words and evidence; implemented by the agent."""

    def explain(self, incident_id: str, principal: Principal) -> Answer: ...


class BudgetGuard(Protocol):
    """Asked before a call that costs money; raises ``LimitExceeded`` with kind ``budget``."""

    def check(self, subject: str, expected_cost: float, principal: str = "") -> None: ...


class UsageLedger(Protocol):
    """Books what a call cost, USD."""

    def record(self, subject: str, cost: float, details: Mapping[str, str]) -> None: ...


class LlmTracer(Protocol):
    """Where calls of LLMs are recorded (models)."""

    @property
    def contents(self) -> bool:
        """Whether what was said may be recorded too."""
        ...

    def record(self, call: LlmCall) -> None:
        """Never waits and never fails: a trace is not worth an answer."""
        ...


class ModelMeter(Protocol):
    """Money of the model layer."""

    def check(self, model: str, kind: UseKind, principal: str, expected_cost: float) -> None:
        """Asked before the work; raises ``LimitExceeded`` with kind ``budget``."""
        ...

    def record(self, use: ModelUse) -> None:
        """Book it."""
        ...


class Assistant(Protocol):
    """Question in, answer out; implemented by the agent, used by api, chat, cli and reports."""

    def ask(self, question: Question, progress: Callable[[str], None] | None = None) -> Answer: ...


class JobProgress(Protocol):
    """Given to a job's handler: call it now and then. It raises to end a job that was cancelled."""

    def __call__(self, share: float | None = None, line: str = "") -> None:
        """Report the share done, in [0, 1], and a line for the job's log."""
        ...


ProgressJobHandler = Callable[[Mapping[str, str], JobProgress], None]
"""A job's work, given its arguments by name and a progress callback; registered by wiring by job kind."""
