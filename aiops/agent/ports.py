"""What the assistant asks of other organs; wiring injects them. A missing one is said in the answer."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Protocol

from aiops.agent.catalogue import Catalogue
from aiops.core.action import Action, ActionProposal
from aiops.core.conversation import Message, StoredAnswer
from aiops.core.cost import BudgetState, CostAnomaly, CostForecast, CostSeries
from aiops.core.evidence import Answer
from aiops.core.incident import Incident, IncidentStatus
from aiops.core.principal import Principal
from aiops.core.query import Plan, Question


class IncidentLookup(Protocol):
    """``aiops.incidents.lifecycle.IncidentService``."""

    def list(
        self, principal: Principal, status: IncidentStatus | None = None, limit: int = 50, since_ms: int = 0
    ) -> builtins.list[Incident]: ...

    def get(self, incident_id: str, principal: Principal) -> Incident: ...


class CostLookup(Protocol):
    """``aiops.cost.service.CostService``."""

    def summary(
        self,
        start_ms: int,
        end_ms: int,
        group_by: Sequence[str],
        principal: Principal,
        where: tuple[tuple[str, str], ...] = (),
    ) -> CostSeries: ...

    def forecast(
        self, principal: Principal, now_ms: int | None = None, where: tuple[tuple[str, str], ...] = ()
    ) -> CostForecast: ...

    def anomalies(
        self,
        start_ms: int,
        end_ms: int,
        principal: Principal,
        group_by: Sequence[str] = ("ServiceName",),
        where: tuple[tuple[str, str], ...] = (),
    ) -> list[CostAnomaly]: ...

    def budgets(self, principal: Principal, now_ms: int | None = None) -> list[BudgetState]: ...


class ActionProposer(Protocol):
    """``aiops.actions.approval.ActionService``: refuses what no measured signal on the target supports."""

    def propose(self, action: Action, incident_id: str, reason: str, proposer: Principal) -> ActionProposal: ...

    def suggest(self, incident: Incident) -> tuple[ActionProposal, ...]: ...


class ConversationStore(Protocol):
    """``aiops.store.state.conversations.ConversationRepository``."""

    def save_answer(self, question: Question, answer: Answer) -> None: ...

    def answer(self, answer_id: str) -> StoredAnswer | None: ...

    def messages(self, conversation: str, limit: int = 20) -> tuple[Message, ...]: ...


class Planner(Protocol):
    """Makes a plan; raises ``InvalidPlan``, ``TransientError`` or ``LimitExceeded`` when it cannot."""

    name: str

    def plan(self, question: Question, catalogue: Catalogue) -> Plan: ...
