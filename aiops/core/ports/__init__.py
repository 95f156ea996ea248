"""Ports: what one part asks of another, implemented elsewhere and injected by wiring.

A plug-in is one file with one class deriving from the port of its kind, an ``Options`` model and a docstring; the
kinds are in ``sources`` and ``kinds``, the seams inside ``aiops`` in ``readers`` and ``seams``.
"""

from __future__ import annotations

from aiops.core.ports.kinds import (
    ChatMessage,
    ChatModelProvider,
    ChatReply,
    ChatSurface,
    ConversationHandler,
    CostSource,
    Detector,
    Executor,
    Inbound,
    InboundParser,
    Notifier,
    ScheduleSource,
    Tool,
)
from aiops.core.ports.plugin import Clock, OptionsT, Plugin, PluginContext, PluginOptions, TableReader, system_clock
from aiops.core.ports.readers import (
    CostReader,
    LogMiner,
    MetricReader,
    OpenScan,
    RollupReader,
    SignalReader,
    StreamedReader,
)
from aiops.core.ports.seams import (
    AnomalySink,
    Assistant,
    BudgetGuard,
    Explainer,
    JobProgress,
    LlmTracer,
    ModelMeter,
    ProgressJobHandler,
    TelemetrySink,
    UsageLedger,
)
from aiops.core.ports.sources import (
    Collected,
    HistorySource,
    LogSource,
    MetricQuerier,
    ScrapeTarget,
    ScrapeTargets,
    SpanSource,
    TelemetrySource,
)

__all__ = [
    "AnomalySink",
    "Assistant",
    "BudgetGuard",
    "ChatMessage",
    "ChatModelProvider",
    "ChatReply",
    "ChatSurface",
    "Clock",
    "Collected",
    "ConversationHandler",
    "CostReader",
    "CostSource",
    "Detector",
    "Executor",
    "Explainer",
    "HistorySource",
    "Inbound",
    "InboundParser",
    "JobProgress",
    "LlmTracer",
    "LogMiner",
    "LogSource",
    "MetricQuerier",
    "MetricReader",
    "ModelMeter",
    "Notifier",
    "OpenScan",
    "OptionsT",
    "Plugin",
    "PluginContext",
    "PluginOptions",
    "ProgressJobHandler",
    "RollupReader",
    "ScheduleSource",
    "ScrapeTarget",
    "ScrapeTargets",
    "SignalReader",
    "SpanSource",
    "StreamedReader",
    "TableReader",
    "TelemetrySink",
    "TelemetrySource",
    "Tool",
    "UsageLedger",
    "system_clock",
]
