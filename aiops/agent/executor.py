"""Runs a validated plan: steps in parallel, each under the plan's deadline, results in the plan's order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from aiops.access.permissions import Permission, require
from aiops.agent import run_tools
from aiops.agent.catalogue import Catalogue
from aiops.agent.found import Asking, Found
from aiops.agent.ports import ActionProposer, CostLookup, IncidentLookup
from aiops.agent.run_costs import CostRunner
from aiops.agent.run_explain import ExplainRunner
from aiops.agent.run_metrics import MetricRunner
from aiops.agent.run_signals import (
    NOWHERE_ELSE,
    Elsewhere,
    IncidentRunner,
    SignalRunner,
    evidence,
    metrics_like,
    touched,
)
from aiops.core.action import Action, ActionProposal
from aiops.core.errors import AiopsError, InvalidPlan
from aiops.core.evidence import Evidence, EvidenceState, Figure
from aiops.core.incident import Incident, IncidentStatus
from aiops.core.ports import MetricQuerier, SignalReader, Tool
from aiops.core.principal import Principal, Role
from aiops.core.query import (
    ActionProposalStep,
    ChangeStep,
    CompareStep,
    CostStep,
    DiscoverStep,
    ExplainStep,
    ForecastStep,
    IncidentStep,
    LogStep,
    MetricStep,
    Plan,
    PlanStep,
    ToolStep,
    TraceStep,
)

log = logging.getLogger(__name__)

PROPOSER = Principal("system:assistant", Role.RESPONDER, can_approve=False)
"""Who proposes actions, so that the person who asked may approve."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What a plan brought back, in its order, evidence numbered through."""

    found: tuple[Found, ...]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(e for f in self.found for e in f.evidence)


class Executor:
    """Runs plans over what wiring gives it; what is missing is said in the answer's limits.

    Thread-safe. ``close`` stops its threads.
    """

    def __init__(
        self,
        metrics: MetricQuerier,
        signals: SignalReader | None = None,
        costs: CostLookup | None = None,
        incidents: IncidentLookup | None = None,
        actions: ActionProposer | None = None,
        tools: Mapping[str, Tool[Any]] | None = None,
        *,
        elsewhere: Elsewhere = NOWHERE_ELSE,
        deadline_s: float = 30.0,
        max_series: int = 1000,
        workers: int = 8,
    ) -> None:
        self._metrics = MetricRunner(metrics, max_series)
        self._signals = SignalRunner(signals, elsewhere) if signals is not None else None
        self._costs = CostRunner(costs) if costs is not None else None
        self._incidents = incidents
        self._actions = actions
        self._tools = dict(tools or {})
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(workers, "ask-step")

    @property
    def tool_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._tools))

    @property
    def tools_by_subject(self) -> dict[str, tuple[str, ...]]:
        """Names of the tools by what they look into."""
        subjects = {tool.subject for tool in self._tools.values() if tool.subject}
        return {s: tuple(n for n in self.tool_names if self._tools[n].subject == s) for s in sorted(subjects)}

    @property
    def tool_forms(self) -> tuple[str, ...]:
        """A line a tool: its name and its arguments, as a planner has to give them."""
        return tuple(f"{name}: {run_tools.arguments_of(self._tools[name])}" for name in self.tool_names)

    def services_in_trouble(self, principal: Principal) -> tuple[str, ...]:
        """Services that active incidents are about; some of them may send no telemetry of their own."""
        if self._incidents is None:
            return ()
        states = (IncidentStatus.OPEN, IncidentStatus.ACKNOWLEDGED)
        rows = [i for status in states for i in self._incidents.list(principal, status, 100)]
        return tuple(sorted(set().union(*map(touched, rows))))

    def bill(self, principal: Principal, now_ms: int) -> dict[str, tuple[str, ...]]:
        """What the bills of the past months hold by column, those with most spent first; empty without costs."""
        return self._costs.names(principal, now_ms) if self._costs is not None else {}

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run(
        self, plan: Plan, asking: Asking, catalogue: Catalogue, progress: Callable[[str], None] | None = None
    ) -> Execution:
        """Every step's result. Raises ``InvalidPlan`` where a source refuses a query."""
        waiting: list[tuple[PlanStep, Future[Found]]] = [
            (step, self._pool.submit(self._run, step, asking, catalogue)) for step in plan.steps
        ]
        found: list[Found] = []
        number = 1
        if progress is not None:
            progress("looking at " + (", ".join(step.title or step.kind for step in plan.steps) or "nothing"))
        wait([future for _, future in waiting], timeout=self._deadline_s)
        for step, future in waiting:
            try:
                got = future.result(timeout=0)
            except FutureTimeout:
                future.cancel()
                got = self._failed(step, asking, f"it took longer than {self._deadline_s:g} s")
            except InvalidPlan:
                raise
            except AiopsError as error:
                got = self._failed(step, asking, error.message)
            found.append(got.numbered(number))
            number += len(got.evidence)
        return Execution(tuple(found))

    @staticmethod
    def _failed(step: PlanStep, asking: Asking, note: str) -> Found:
        window = step.window.resolve(asking.now_ms)
        bad = Evidence("", step.kind, step.title, step.kind, step.title, *window, EvidenceState.SOURCE_DOWN, note=note)
        return Found(step, (bad,), limits=(f"{step.title or step.kind} could not be read: {note}.",))

    def _missing(self, step: PlanStep, asking: Asking, what: str) -> Found:
        window = step.window.resolve(asking.now_ms)
        note = f"{what} are not available here"
        none = Evidence("", step.kind, step.title, "none", step.title, *window, EvidenceState.DOES_NOT_EXIST, note=note)
        return Found(step, (none,), limits=(f"{what.capitalize()} are not available here.",))

    def _run(self, step: PlanStep, asking: Asking, catalogue: Catalogue) -> Found:
        if isinstance(step, MetricStep):
            return self._metrics.metric(step, asking, catalogue)
        if isinstance(step, ForecastStep):
            return self._metrics.forecast(step, asking, catalogue)
        if isinstance(step, CompareStep):
            return self._metrics.compare(step, asking, catalogue)
        if isinstance(step, CostStep):
            return self._costs.run(step, asking) if self._costs else self._missing(step, asking, "costs")
        if isinstance(step, IncidentStep):
            if self._incidents is None:
                return self._missing(step, asking, "incidents")
            return IncidentRunner(self._incidents).run(step, asking)
        if isinstance(step, ExplainStep):
            return ExplainRunner(self._metrics, self._signals, self._incidents).run(step, asking, catalogue)
        if isinstance(step, ActionProposalStep):
            return self._propose(step, asking)
        if isinstance(step, ToolStep):
            return self._tool(step, asking)
        if isinstance(step, DiscoverStep) and step.what == "metrics":
            return metrics_like(step, asking, catalogue, self._metrics.querier.name)
        if self._signals is None:
            return self._missing(step, asking, "logs, traces and changes")
        if isinstance(step, LogStep):
            return self._signals.log(step, asking)
        if isinstance(step, TraceStep):
            return self._signals.trace(step, asking)
        if isinstance(step, ChangeStep):
            return self._signals.change(step, asking)
        return self._signals.services(step, asking)

    def _propose(self, step: ActionProposalStep, asking: Asking) -> Found:
        """Propose through the action service, on the active incident of the target; a refusal is the answer.

        Without parameters the service says what its executors can do about the incident; of that, what fits is taken.
        """
        if self._actions is None or self._incidents is None:
            return self._missing(step, asking, "actions")
        require(asking.principal, Permission.PROPOSE)
        window = step.window.resolve(asking.now_ms)
        said = f"propose {step.action} of {step.target}"

        def refused(note: str) -> Found:
            return Found(
                step, (evidence("action_proposal", step, "actions", said, window, [], [], found=False, note=note),)
            )

        incident = self._incident_of(step, asking)
        if incident is None:
            return refused(f"no open incident concerns {step.target}, and an action needs a measured trigger there")
        try:
            if step.parameters:
                action = Action(step.action, step.target, tuple(sorted(step.parameters.items())))
                made: tuple[ActionProposal, ...] = (self._actions.propose(action, incident.id, step.reason, PROPOSER),)
            else:
                made = tuple(
                    p
                    for p in self._actions.suggest(incident)
                    if p.action.target == step.target and (p.action.kind == "silence") is (step.action == "silence")
                )
        except AiopsError as error:
            return refused(str(error))
        if not made:
            return refused(
                f"no configured executor can do this for {step.target} on what incident {incident.id} measures"
            )
        figures = [
            Figure(p.expires_ms / 1000, "time",
                   (("action", p.action.kind), ("incident", incident.id), ("proposal", p.id)), "expires")
            for p in made
        ]  # fmt: skip
        shown = evidence("action_proposal", step, "actions", said, window, figures, [], found=True)
        return Found(step, (shown,), proposals=tuple(p.id for p in made))

    def _incident_of(self, step: ActionProposalStep, asking: Asking) -> Incident | None:
        assert self._incidents is not None
        if step.incident_id:
            return self._incidents.get(step.incident_id, asking.principal)
        rows = self._incidents.list(asking.principal, IncidentStatus.OPEN, 100)
        rows += self._incidents.list(asking.principal, IncidentStatus.ACKNOWLEDGED, 100)
        return next((i for i in rows if step.target in touched(i)), None)

    def _tool(self, step: ToolStep, asking: Asking) -> Found:
        return run_tools.run(self._tools[step.name], step, asking)
