"""The assistant: question in, answer with evidence out. One executor and one validator serve both planners."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aiops.agent import answer as writing
from aiops.agent import conversation
from aiops.agent.catalogue import Catalogue, Catalogues
from aiops.agent.executor import Execution, Executor
from aiops.agent.found import Asking
from aiops.agent.limits import QuestionLimits
from aiops.agent.planner_offline import OfflinePlanner
from aiops.agent.ports import ConversationStore, Planner
from aiops.agent.validator import Validator
from aiops.core.errors import AiopsError, InvalidInput, InvalidPlan, TransientError
from aiops.core.evidence import Answer
from aiops.core.ports import Clock, SignalReader, system_clock
from aiops.core.principal import Principal
from aiops.core.query import ExplainStep, Plan, Question

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
SERVICES_AGE_MS = 60_000


class Assistant:
    """Implements :class:`aiops.core.ports.Assistant` and :class:`aiops.core.ports.Explainer`.

    Args:
        catalogues: what can be asked, per principal, over the same metric source as ``executor``.
        llm: tried first where given; whatever it raises falls back to the offline planner, and the answer says so.
        store: remembers questions and answers; without one nothing is kept and follow-ups stand alone.
        signals: for "since the last deploy".
    """

    def __init__(
        self,
        catalogues: Catalogues,
        executor: Executor,
        *,
        offline: OfflinePlanner | None = None,
        llm: Planner | None = None,
        validator: Validator | None = None,
        store: ConversationStore | None = None,
        signals: SignalReader | None = None,
        clock: Clock = system_clock,
        limits: QuestionLimits | None = None,
    ) -> None:
        self._catalogues = catalogues
        self._executor = executor
        self._offline = offline or OfflinePlanner()
        self._llm = llm
        self._validator = validator or Validator(tools=executor.tool_names)
        self._store = store
        self._signals = signals
        self._clock = clock
        self._limits = limits or QuestionLimits()
        self._known_services: dict[object, tuple[int, tuple[str, ...]]] = {}

    @property
    def llm(self) -> str:
        """``provider:model`` of the LLM that plans; empty where none does."""
        return self._llm.name if self._llm else ""

    def ask(self, question: Question, progress: Progress | None = None) -> Answer:
        """Raises ``InvalidInput`` for an empty or overlong question or an unknown zone; all else is an answer."""
        self._check(question)
        tell = progress or (lambda _: None)
        whole, context = conversation.in_context(question, self._store)
        catalogue = self._catalogues.of(question.principal)
        said = [context] if context else []
        tell("planning")
        try:
            plan, execution = self._plan_and_run(whole, catalogue, said, tell)
            made = self._write(question, plan, execution, said)
        except TransientError as error:
            log.warning("a question could not be answered: %s", error.message)
            made = self._unanswered(question, f"The metric source is down: {error}", said)
        if self._store is not None:
            self._store.save_answer(question, made)
        return made

    def explain(self, incident_id: str, principal: Principal) -> Answer:
        """An incident in words and evidence; the question asked is written for it."""
        now = self._clock()
        question = Question(f"explain incident {incident_id}", principal, now)
        step = ExplainStep(title=f"incident {incident_id}", incident_id=incident_id)
        plan = Plan(
            steps=(step,), intent="investigate", confidence=0.95, sure=True, planner="offline", concept="explain"
        )
        execution = self._executor.run(plan, Asking(principal, now), self._catalogues.of(principal))
        return self._write(question, plan, execution, [])

    def _check(self, question: Question) -> None:
        if not question.text.strip():
            raise InvalidInput("The question is empty.")
        if len(question.text) > self._limits.text:
            raise InvalidInput(f"The question is longer than {self._limits.text} characters.")
        try:
            ZoneInfo(question.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InvalidInput(f"'{question.zone[:60]}' is not an IANA time zone name.") from error

    def _plan_and_run(
        self, question: Question, catalogue: Catalogue, said: list[str], tell: Progress
    ) -> tuple[Plan, Execution]:
        asking = Asking(question.principal, question.asked_ms, question.zone)
        if self._llm is not None:
            try:
                plan = self._llm.plan(question, catalogue)
                self._validator.check(plan, catalogue, question.asked_ms)
                return plan, self._executor.run(plan, asking, catalogue, tell)
            except AiopsError as error:
                log.warning("the LLM planner was left aside: %s", error.message)
                said.append(f"The LLM planner could not be used ({error.message}), so the offline planner answered.")
        plan = self._offline.plan(
            question,
            catalogue,
            self._last_deploy(question),
            self._services(question),
            lambda: self._executor.bill(question.principal, question.asked_ms),
            self._executor.tools_by_subject,
        )
        try:
            self._validator.check(plan, catalogue, question.asked_ms)
            return plan, self._executor.run(plan, asking, catalogue, tell)
        except InvalidPlan as error:
            said.append(f"The plan was refused: {error}")
            refused = plan.model_copy(update={"steps": (), "sure": False, "confidence": 0.1})
            return refused, Execution(())

    def _services(self, question: Question) -> tuple[str, ...]:
        """Services of active incidents, and those seen in the past hour's traces, read once a minute per scope."""
        troubled = self._executor.services_in_trouble(question.principal)
        if self._signals is None:
            return troubled
        key, now = question.principal.scope, self._clock()
        held = self._known_services.get(key)
        if held is None or now - held[0] > SERVICES_AGE_MS:
            if len(self._known_services) > 200:
                self._known_services.clear()
            graph = self._signals.service_graph(now - 3_600_000, now, question.principal)
            held = self._known_services[key] = (now, graph.services)
        return (*troubled, *held[1])

    def _last_deploy(self, question: Question) -> Callable[[str], int | None]:
        def find(service: str) -> int | None:
            if self._signals is None:
                return None
            start = question.asked_ms - 14 * 86_400_000
            rows = self._signals.changes(start, question.asked_ms, question.principal, service)
            return max((c.time_ms for c in rows if c.kind == "deploy"), default=None)

        return find

    def _write(self, question: Question, plan: Plan, execution: Execution, said: list[str]) -> Answer:
        return writing.write(
            question, plan, execution, answer_id=f"ans_{uuid.uuid4().hex[:16]}", now_ms=self._clock(), limits=said
        )

    def _unanswered(self, question: Question, why: str, said: list[str]) -> Answer:
        empty = self._write(question, Plan(planner="offline", clarify=why[:300]), Execution(()), said)
        return replace(empty, confidence=0.0)
