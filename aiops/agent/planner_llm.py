"""The LLM planner: LangChain's agent over three read-only tools, ending in a Plan that the same validator checks.

Structured output goes down a ladder: a tool call, then ``json_schema``, then ``json_object``. What the model writes
is checked like any stranger's input; telemetry reaches it fenced; it can cause no action that the person did not
ask for. LangChain is imported on first use. Every failure is an ``AiopsError``, and the caller falls back.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError

from aiops.agent import intents
from aiops.agent.catalogue import Catalogue
from aiops.agent.concepts import load_concepts
from aiops.agent.executor import Executor
from aiops.agent.limits import QuestionLimits
from aiops.agent.llm_desk import LlmDesk, prompt_in_use
from aiops.agent.llm_tracing import traced
from aiops.agent.masks import NoPseudonyms, Pseudonyms
from aiops.agent.plan_schema import OUR_FIELDS, plan_schema
from aiops.agent.retrieval import ConceptIndex
from aiops.agent.validator import Validator
from aiops.agent.words import raw_tokens
from aiops.core.errors import AiopsError, ConfigError, InvalidPlan, LimitExceeded, TransientError
from aiops.core.ports import BudgetGuard, ChatModelProvider, Clock, LlmTracer, UsageLedger, system_clock
from aiops.core.query import ActionProposalStep, Plan, Question
from aiops.models.prices import Prices
from aiops.settings import ModelCostSettings

log = logging.getLogger(__name__)

NEEDED = ("langchain", "genai_prices")
"""Packages of the extra ``llm``."""
REPAIRS = 2
EXPECTED_TOKENS = (6_000, 800)
"""Input and output tokens that a call is expected to take, for the budget check before it."""


class LlmPlanner:
    """Plans with an LLM. Implements :class:`aiops.agent.ports.Planner`.

    Args:
        provider: gives the chat model for ``model``; ``name`` is ``provider:model``.
        executor: runs plans for the tool ``run_plan``; proposals are refused there.
        budget: asked before every question; ``ledger`` books what each call cost.
        tracer: is told of every call.
        names: stand-ins for hosts and users; without them names are sent as they are.
    """

    def __init__(
        self,
        provider: ChatModelProvider[Any],
        provider_name: str,
        model: str,
        executor: Executor,
        *,
        validator: Validator | None = None,
        budget: BudgetGuard | None = None,
        ledger: UsageLedger | None = None,
        limits: QuestionLimits | None = None,
        tracer: LlmTracer | None = None,
        prices: Prices | None = None,
        names: Pseudonyms | None = None,
        clock: Clock = system_clock,
    ) -> None:
        """Raises ``ConfigError`` where the provider's extra is not installed."""
        if missing := [name for name in (*NEEDED, *type(provider).needs) if find_spec(name) is None]:
            raise ConfigError(
                f"The LLM planner needs {', '.join(missing)}, which is not installed.",
                hint=f"Install aiops-assistant[{type(provider).extra or 'llm'}], or set agent.planner to offline.",
            )
        self.name = f"{provider_name}:{model}"
        self._provider = provider
        self._provider_name = provider_name
        self._model_name = model
        self._executor = executor
        self._validator = validator or Validator(tools=executor.tool_names)
        self._budget = budget
        self._ledger = ledger
        self._limits = limits or QuestionLimits()
        self._tracer = tracer
        self._prices = prices or Prices(ModelCostSettings())
        self._names = names or NoPseudonyms()
        self._clock = clock
        self._concepts = ConceptIndex([c for c in load_concepts() if c.step == "metric"])
        self._pool = ThreadPoolExecutor(4, "ask-llm")
        self._making = threading.Lock()
        self._model: Any = None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def plan(self, question: Question, catalogue: Catalogue) -> Plan:
        """Raises ``TransientError`` (provider, time-out), ``LimitExceeded`` (budget) or ``InvalidPlan``."""
        if self._budget is not None:
            self._budget.check(self.name, self._price(*EXPECTED_TOKENS), question.principal.name)
        future = self._pool.submit(self._converse, question, catalogue)
        try:
            return future.result(timeout=self._limits.llm_seconds)
        except FutureTimeout as error:
            future.cancel()
            raise TransientError(f"{self.name} took longer than {self._limits.llm_seconds:g} s.") from error

    # ------------------------------------------------------------ talking

    def _chat_model(self) -> Any:
        """One client for all questions; clients of providers are safe to share between threads."""
        with self._making:
            if self._model is None:
                self._model = self._provider.chat_model(self._model_name)
            return self._model

    def _converse(self, question: Question, catalogue: Catalogue) -> Plan:
        from langsmith.run_helpers import tracing_context

        names = self._names
        desk = LlmDesk(
            question, catalogue, self._executor, self._validator, self._concepts,
            lambda draft: self._accept(draft, question), names,
        )  # fmt: skip
        calls = _Calls(self._limits.llm_calls, question.principal.name)
        messages: list[Any] = [{"role": "user", "content": desk.asked()}]
        with tracing_context(enabled=False):
            for attempt in range(REPAIRS + 1):
                try:
                    draft, messages = self._draft(desk, messages, calls)
                    plan = self._accept(names.show(draft), question)
                    self._validator.check(plan, catalogue, question.asked_ms)
                    return plan
                except InvalidPlan as error:
                    if attempt == REPAIRS:
                        raise
                    log.info("the plan of %s needs repair: %s", self.name, error)
                    messages = [
                        *messages,
                        {"role": "user", "content": names.hide(f"The plan was refused: {error} Mend it.")},
                    ]
        raise InvalidPlan("No plan was made.")

    def _draft(self, desk: LlmDesk, messages: list[Any], calls: _Calls) -> tuple[Any, list[Any]]:
        """The model's plan, unchecked, and the conversation so far; goes down the ladder where a rung is refused."""
        model = self._chat_model()
        if self._tracer is not None:
            asker = desk.question.principal.name
            model = traced(model, self._tracer, self._clock, self.name, prompt_in_use(), asker, self._price)
        system = desk.system()
        rungs = (self._by_tool, self._by_schema, self._by_object)
        refused: Exception | None = None
        for rung in rungs[calls.rung :]:
            try:
                return rung(model, system, desk, messages, calls)
            except AiopsError:
                raise
            except Exception as error:  # noqa: BLE001
                # A boundary: the provider's client and LangChain raise many kinds, each is the provider failing.
                status = _status_of(error)
                log.warning("%s failed (%s, status %s)", self.name, type(error).__name__, status)
                refused = error
                if status not in (400, 404, 422, 500, 501) and not isinstance(error, ValueError | KeyError | TypeError):
                    break
                calls.rung += 1
        raise TransientError(f"{self.name} failed: {_reason(refused)}.") from refused

    def _agent(
        self,
        model: Any,
        system: str,
        tools: list[Callable[..., str]],
        response: Any,
        messages: list[Any],
        calls: _Calls,
    ) -> dict[str, Any]:
        from langchain.agents import create_agent
        from langchain.agents.middleware import ModelCallLimitMiddleware
        from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError

        left = calls.left
        agent: Any = create_agent(
            model,
            tools=tools,
            system_prompt=system,
            response_format=response,
            middleware=[ModelCallLimitMiddleware(run_limit=left, exit_behavior="error")],
        )
        try:
            state: dict[str, Any] = agent.invoke({"messages": messages}, {"recursion_limit": 4 * left + 4})
        except ModelCallLimitExceededError as error:
            raise LimitExceeded(f"{self.name} made no plan within {self._limits.llm_calls} calls.") from error
        self._book(state["messages"][len(messages) :], calls)
        return state

    def _by_tool(
        self, model: Any, system: str, desk: LlmDesk, messages: list[Any], calls: _Calls
    ) -> tuple[Any, list[Any]]:
        from langchain.agents.structured_output import ToolStrategy

        return self._structured(ToolStrategy(plan_schema()), model, system, desk, messages, calls)

    def _by_schema(
        self, model: Any, system: str, desk: LlmDesk, messages: list[Any], calls: _Calls
    ) -> tuple[Any, list[Any]]:
        from langchain.agents.structured_output import ProviderStrategy

        return self._structured(ProviderStrategy(plan_schema()), model, system, desk, messages, calls)

    def _structured(
        self, form: Any, model: Any, system: str, desk: LlmDesk, messages: list[Any], calls: _Calls
    ) -> tuple[Any, list[Any]]:
        state = self._agent(model, system, desk.tools(), form, messages, calls)
        if "structured_response" not in state:
            raise ValueError("the model gave no plan")
        return state["structured_response"], state["messages"]

    def _by_object(
        self, model: Any, system: str, desk: LlmDesk, messages: list[Any], calls: _Calls
    ) -> tuple[Any, list[Any]]:
        del desk
        calls.take()
        shape = json.dumps(plan_schema(), separators=(",", ":"))
        told = f"{system}\n\nYou have no tools. Reply with one JSON object of this schema, nothing else:\n{shape}"
        reply = model.bind(response_format={"type": "json_object"}).invoke(
            [{"role": "system", "content": told}, *messages]
        )
        self._book([reply], calls, counted=True)
        text = reply.content if isinstance(reply.content, str) else json.dumps(reply.content)
        try:
            return json.loads(text), [*messages, reply]
        except ValueError as error:
            raise InvalidPlan("The reply is not JSON.", hint="Reply with one JSON object only.") from error

    # ------------------------------------------------------------ what the model made

    def _accept(self, draft: Any, question: Question) -> Plan:
        """The model's object as a plan, without what it may not set or say. Raises ``InvalidPlan``."""
        if not isinstance(draft, Mapping):
            raise InvalidPlan("The plan is not an object.")
        try:
            plan = Plan.model_validate({k: v for k, v in draft.items() if k not in OUR_FIELDS})
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[:3]
            said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in first)
            raise InvalidPlan(f"The plan does not fit its schema: {said}.") from error
        for step in plan.steps:
            if isinstance(step, ActionProposalStep):
                _asked_for(step, question)
        return plan.model_copy(
            update={
                "planner": self.name,
                "intent": intents.classify(question.text),
                "sure": bool(plan.steps) and plan.confidence >= 0.7,
                "notes": tuple(n for n in plan.notes if not _LINK.search(n)),
                "clarify": "" if _LINK.search(plan.clarify) else plan.clarify,
            }
        )

    # ------------------------------------------------------------ money

    def _price(self, tokens_in: int, tokens_out: int) -> float:
        return self._prices.llm(self.name, tokens_in, tokens_out)

    def _book(self, messages: list[Any], calls: _Calls, *, counted: bool = False) -> None:
        """Count the model's replies and record what they cost."""
        for message in messages:
            usage = getattr(message, "usage_metadata", None)
            if getattr(message, "type", "") != "ai":
                continue
            if not counted:
                calls.take()
            tokens = (int((usage or {}).get("input_tokens", 0)), int((usage or {}).get("output_tokens", 0)))
            if self._ledger is not None:
                details = {"model": self.name, "input_tokens": str(tokens[0]), "output_tokens": str(tokens[1])}
                details |= {"prompt": prompt_in_use(), "principal": calls.principal}
                self._ledger.record(self.name, self._price(*tokens), details)


class _Calls:
    """Model calls left for one question, who asked it, and the rung of the ladder that the provider takes."""

    def __init__(self, limit: int, principal: str) -> None:
        self.left = limit
        self.principal = principal
        self.rung = 0

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise LimitExceeded("The question used up its LLM calls.")


_LINK = re.compile(r"https?:|www\.|\]\(", re.IGNORECASE)


def _asked_for(step: ActionProposalStep, question: Question) -> None:
    """An action has to be in the person's own words: the kind of request, and the target by name."""
    words = set(raw_tokens(question.text))
    if intents.classify(question.text) != "action" or step.target.lower() not in words:
        raise InvalidPlan("The person did not ask for this action on this target.", hint="Leave the action out.")


def _status_of(error: Exception) -> int | None:
    """The HTTP status behind a provider's error: each client keeps it elsewhere, some only in what caused it."""
    seen: BaseException | None = error
    while seen is not None:
        answer = getattr(seen, "response", None)
        told = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
        for status in (getattr(seen, "status_code", None), getattr(seen, "code", None), told):
            if isinstance(status, int) and 100 <= status < 600:
                return status
        seen = seen.__cause__
    return None


def _reason(error: Exception | None) -> str:
    """What failed, without the provider's own text, which may repeat a key or a prompt."""
    if error is None:
        return "no rung of the ladder is left"
    status = _status_of(error)
    return type(error).__name__ + (f" (HTTP {status})" if status else "")
