"""The assistant: offline planner always, the LLM planner where one is configured."""

from __future__ import annotations

import logging
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiops.access.binding import is_private
from aiops.agent.assistant import Assistant
from aiops.agent.catalogue import Catalogues
from aiops.agent.executor import Executor
from aiops.agent.limits import QuestionLimits
from aiops.agent.ports import Planner
from aiops.core.errors import ConfigError
from aiops.core.ports import BudgetGuard, ChatModelProvider, LlmTracer, MetricQuerier, UsageLedger
from aiops.models.llm_spend import LlmSpend
from aiops.models.metering import Metering
from aiops.models.prices import Prices
from aiops.settings import PluginSettings, Settings
from aiops.store.state.conversations import ConversationRepository
from aiops.store.telemetry.store import TelemetryStore
from aiops.wiring.lifetime import Lifetime
from aiops.wiring.plugins import PluginFactory

log = logging.getLogger(__name__)

DEFAULT_MODEL = "openai:gpt-5-mini"


def assistant(
    settings: Settings,
    executor: Executor,
    querier: MetricQuerier,
    store: TelemetryStore,
    conversations: ConversationRepository,
    meter: Metering,
    plugins: PluginFactory,
    lifetime: Lifetime,
    tracer: LlmTracer | None = None,
) -> Assistant:
    """Raises ``ConfigError`` for an LLM that is asked for and cannot be built."""
    return Assistant(
        Catalogues(querier),
        executor,
        llm=llm_planner(settings, executor, LlmSpend(meter), plugins, lifetime, tracer),
        store=conversations,
        signals=store,
        limits=limits_of(settings),
    )


def limits_of(settings: Settings) -> QuestionLimits:
    chosen = settings.agent.llm
    return QuestionLimits(llm_calls=chosen.max_calls_per_question, llm_seconds=chosen.timeout_s)


class Spend(BudgetGuard, UsageLedger, Protocol):
    """Asked before a call, told after it."""


def llm_planner(
    settings: Settings,
    executor: Executor,
    spend: Spend,
    plugins: PluginFactory,
    lifetime: Lifetime,
    tracer: LlmTracer | None = None,
) -> Planner | None:
    """The configured model's planner, or ``None`` where none is configured. Raises ``ConfigError``."""
    chosen = settings.agent.llm
    wanted = chosen.model or chosen.base_url or settings.openai_base_url or settings.openai_api_key.get_secret_value()
    if settings.agent.planner == "offline" or not (wanted or settings.agent.planner == "llm"):
        return None
    provider, _, model = (chosen.model or DEFAULT_MODEL).partition(":")
    if not model:
        raise ConfigError(
            f"agent.llm.model is '{provider}'; it must be provider:model.", hint=f"Such as {DEFAULT_MODEL}."
        )
    from aiops.agent.masks import Pseudonyms
    from aiops.agent.planner_llm import LlmPlanner

    entry = settings.connectors.llm.get(provider, PluginSettings(plugin=provider))
    plugin: ChatModelProvider[Any] = plugins.one("connectors.llm", provider, entry)
    host = urlsplit(plugin.address).hostname or plugin.address
    if chosen.local_only and not is_private(host):
        raise ConfigError(
            f"agent.llm.local_only is set, and '{provider}' sends to {host}.",
            hint="Name a model on this machine or in your network, or unset agent.llm.local_only.",
        )
    limits, prices = limits_of(settings), Prices(settings.models.cost)
    try:
        planner = LlmPlanner(
            plugin, provider, model, executor, budget=spend, ledger=spend, limits=limits, prices=prices, tracer=tracer,
            names=Pseudonyms() if chosen.pseudonyms else None,
        )  # fmt: skip
    except ConfigError as error:
        if chosen.model or settings.agent.planner == "llm":
            raise
        log.warning("The offline planner answers: %s", error)  # a key in the environment is no order
        return None
    lifetime.on_stop(planner.close)
    return planner
