"""Ports: what one part asks of another, implemented elsewhere and injected by wiring.

The first half are plug-in kinds: a plug-in is one file with one class deriving from its port, an
``Options`` model and a docstring. The second half are the seams inside ``aiops``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from aiops.core.action import Action, ExecutionResult
from aiops.core.anomaly import Batch, Scores, State
from aiops.core.cost import CostQuery, CostSeries, CostTable
from aiops.core.errors import PermanentError
from aiops.core.evidence import Answer
from aiops.core.incident import Alert, Incident, IncidentUpdate, Notification, Shift
from aiops.core.model import LlmCall, ModelUse, UseKind
from aiops.core.principal import Principal
from aiops.core.query import Question
from aiops.core.series import (
    Exemplar,
    Labels,
    Matcher,
    MetricMetadata,
    NativeHistogram,
    QueryResult,
    SampleBlock,
    SeriesPart,
)
from aiops.core.signals import ChangeEvent, LogPattern, LogQuery, LogRecord, LogTemplate, ServiceGraph, Span


class Clock(Protocol):
    """The time, in ms UTC; tests pass their own."""

    def __call__(self) -> int: ...


def system_clock() -> int:
    return time.time_ns() // 1_000_000


class PluginOptions(BaseModel):
    """Base of every ``Options``: unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


TableReader = Callable[[Path], Mapping[str, NDArray[np.generic]]]
"""Reads a Parquet file into columns of text, float64, or int64 ms for times; nested values are JSON text.

Raises ``InvalidInput`` for a file that is none. Implemented by the telemetry store.
"""


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What wiring gives a plug-in beside its options: its configured name, the clock, a reader of Parquet."""

    name: str
    clock: Clock = system_clock
    read_parquet: TableReader | None = None
    inject_matchers: Callable[[str, Sequence[Matcher]], str] | None = None
    """ANDs matchers to every selector of a PromQL text, or raises ``QueryError``; a connector that sends PromQL
    elsewhere needs it to enforce a principal's label scope."""


OptionsT = TypeVar("OptionsT", bound=PluginOptions)


class Plugin(ABC, Generic[OptionsT]):
    """A plug-in of some kind. ``extra`` names the optional install that it needs, if any."""

    Options: ClassVar[type[PluginOptions]] = PluginOptions
    extra: ClassVar[str] = ""

    def __init__(self, options: OptionsT, context: PluginContext) -> None:
        self.options = options
        self.context = context

    def close(self) -> None:
        """Release clients. Called once at shutdown."""
        return


# ------------------------------------------------------------------ plug-in kinds


@dataclass(frozen=True, slots=True)
class Collected:
    """One poll of a source. ``cursor`` is stored after the rows are committed and given to the next poll."""

    samples: SampleBlock = field(default_factory=SampleBlock.empty)
    metadata: tuple[MetricMetadata, ...] = ()
    logs: tuple[LogRecord, ...] = ()
    spans: tuple[Span, ...] = ()
    changes: tuple[ChangeEvent, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    histograms: tuple[NativeHistogram, ...] = ()
    cursor: str = ""
    done: float = 1.0
    """Share of the backlog fetched, in [0, 1]; below 1 the collector polls again at once."""


class TelemetrySource(Plugin[OptionsT]):
    """``connectors/telemetry``: something to pull from. Deliver nothing rather than half."""

    interval_s: float = 15.0

    @abstractmethod
    def poll(self, cursor: str) -> Collected:
        """Everything since ``cursor`` (empty at first). Raises TransientError or PermanentError."""


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """A target that a source scrapes, as Prometheus' ``/api/v1/targets`` shows it. Times are ms, 0 before the first.

    ``labels`` are what its series get, ``discovered`` what was there before relabelling; ``health`` is ``up``,
    ``down`` or ``unknown``.
    """

    job: str
    url: str
    labels: Labels
    discovered: Labels
    interval_s: float
    timeout_s: float
    health: str = "unknown"
    last_error: str = ""
    last_scrape_ms: int = 0
    last_duration_s: float = 0.0


@runtime_checkable
class ScrapeTargets(Protocol):
    """A telemetry source that scrapes targets; a plug-in implements it beside ``TelemetrySource``."""

    def targets(self) -> Sequence[ScrapeTarget]: ...


@runtime_checkable
class HistorySource(Protocol):
    """A telemetry source that can also bring the past; a plug-in implements it beside ``TelemetrySource``."""

    def history(self, start_ms: int, end_ms: int, cursor: str) -> Iterator[Collected]:
        """Chunks of ``[start_ms, end_ms)`` in order of time, going on after ``cursor`` (empty at first).

        Each chunk's ``cursor`` is where to go on once it is stored, ``done`` the share fetched with it.
        """
        ...


@runtime_checkable
class LogSource(Protocol):
    """A telemetry source whose log lines are asked in place; a plug-in implements it beside ``TelemetrySource``."""

    def logs(self, query: LogQuery, principal: Principal) -> list[LogRecord]:
        """The newest lines first, ``query.limit`` at most, of the principal's scope.

        Raises ``TransientError`` when the source is away, ``Forbidden`` for a scope that it cannot enforce.
        """
        ...


@runtime_checkable
class SpanSource(Protocol):
    """A telemetry source whose spans are asked in place; a plug-in implements it beside ``TelemetrySource``."""

    def spans(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 1000
    ) -> list[Span]:
        """Spans that start in the half-open window, slow ones preferred where there are more than ``limit``.

        Raises as :meth:`LogSource.logs`.
        """
        ...


class MetricQuerier(ABC):
    """PromQL over some source: our store (``aiops.promql``) or a remote server (a connector).

    All times are ms UTC. Raises :class:`~aiops.core.errors.QueryError` for a bad query,
    ``TransientError`` when the source is down, late or refuses, ``Forbidden`` for a scope it cannot enforce.
    """

    name: str = "store"

    @abstractmethod
    def instant(self, query: str, time_ms: int, principal: Principal) -> QueryResult: ...

    @abstractmethod
    def range(self, query: str, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> QueryResult: ...

    @abstractmethod
    def series(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal, limit: int = 0
    ) -> list[Labels]: ...

    @abstractmethod
    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]: ...

    @abstractmethod
    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]: ...

    @abstractmethod
    def metadata(self, principal: Principal) -> list[MetricMetadata]: ...


class CostSource(Plugin[OptionsT]):
    """``connectors/clouds``: bills in FOCUS columns."""

    @abstractmethod
    def tables(self) -> Iterator[CostTable]:
        """Whole billing periods; an import replaces the periods it brings."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """What a webhook body held."""

    alerts: tuple[Alert, ...] = ()
    changes: tuple[ChangeEvent, ...] = ()
    updates: tuple[IncidentUpdate, ...] = ()
    heartbeats: tuple[Labels, ...] = ()
    """Labels of alerts that fire always, such as ``Watchdog``: their absence is what tells."""


class InboundParser(Plugin[OptionsT]):
    """``connectors/inbound``: a webhook's body into alerts or changes. Unknown keys are ignored."""

    @abstractmethod
    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check the signature or token. Raises ``Forbidden`` when it is wrong."""

    @abstractmethod
    def parse(self, body: bytes) -> Inbound:
        """Raises ``InvalidInput`` saying what is wrong."""


class Notifier(Plugin[OptionsT]):
    """``connectors/notifiers``: tells one receiver. ``pages`` is the kind's default for paging."""

    pages: ClassVar[bool] = False
    refresh_s: ClassVar[float] = 0.0
    """How often :meth:`refresh` is called; 0 for receivers that remember what they were told."""

    shows_changes: ClassVar[bool] = False
    """Whether :meth:`changed` has a meaning for this kind."""

    def changed(self, change: ChangeEvent) -> None:  # noqa: ARG002
        """Show a deploy or other change beside its incidents.

        Raises ``TransientError`` (tried again) or ``PermanentError`` (given up).
        """
        raise PermanentError("This receiver shows no changes.")

    def refresh(self, incidents: Sequence[Incident]) -> None:
        """Tell again of incidents, active or lately resolved, that this receiver was told of."""

    @abstractmethod
    def notify(self, notification: Notification) -> str:
        """Deliver; returns the thread reference, or an empty string.

        Raises ``TransientError`` (tried again) or ``PermanentError`` (dead letter). A second delivery
        of the same ``notification.id`` or ``dedup_key`` must not be a second page.
        """


class ScheduleSource(Plugin[OptionsT]):
    """``connectors/oncall``: who is on call, imported from where the rota is kept."""

    @property
    @abstractmethod
    def interval_s(self) -> float:
        """How often it is worth reading again."""

    @abstractmethod
    def shifts(self, start_ms: int, end_ms: int) -> Sequence[Shift]:
        """Shifts that touch the window, by start; overlapping ones where several people are on call.

        Raises:
            TransientError: the source is away.
            PermanentError: it refuses, or answers something that is no schedule.
        """


class Executor(Plugin[OptionsT]):
    """``connectors/executors``: carries out actions of the kinds it names."""

    action_kinds: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def dry_run(self, action: Action) -> str:
        """What would happen, in words, having checked that it can. Raises ``PermanentError`` if it cannot."""

    @abstractmethod
    def execute(self, action: Action, idempotency_key: str) -> ExecutionResult: ...


class ChatModelProvider(Plugin[OptionsT]):
    """``connectors/llm``: a LangChain chat model for ``provider:model``. ``needs`` are modules that must be there."""

    needs: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def address(self) -> str:
        """Where requests go: a URL, or a host's name."""

    @abstractmethod
    def chat_model(self, model: str) -> Any:
        """A ``langchain_core`` chat model with time-out and no hidden retries."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message from a person. ``thread`` is where the reply goes; ``user`` the surface's user id."""

    surface: str
    channel: str
    thread: str
    user: str
    text: str


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Markdown text, PNG pictures as (file name, alt text, bytes), and approve buttons as (label, value)."""

    text: str
    pictures: tuple[tuple[str, str, bytes], ...] = ()
    buttons: tuple[tuple[str, str], ...] = ()


class ConversationHandler(Protocol):
    """Implemented by ``aiops.chat``; called by surfaces from their own threads."""

    def message(self, message: ChatMessage) -> ChatReply: ...

    def button(self, message: ChatMessage, value: str) -> ChatReply: ...


class ChatSurface(Plugin[OptionsT]):
    """``connectors/chat``: a place where people talk to the assistant."""

    @abstractmethod
    def asgi(self) -> tuple[str, Any] | None:
        """(path, ASGI app) to mount, or ``None`` where the surface needs no public URL. Call after start."""

    @abstractmethod
    def start(self, handler: ConversationHandler) -> None: ...


class Detector(Plugin[OptionsT]):
    """``detectors``: an anomaly model over all series at once. Higher scores are more anomalous."""

    family: ClassVar[str] = ""
    calibrated: ClassVar[bool] = False
    """True where the score is already on the common scale, so that a fusion takes it as it is."""
    joint: bool = False
    """True where the scores of a series depend on the others of the batch."""
    spans: Mapping[str, int] = MappingProxyType({})
    """Steps that a term of the scores looks back on; a term that is not named looks at one."""

    @abstractmethod
    def fit(self, batch: Batch) -> State: ...

    @abstractmethod
    def score(self, state: State, batch: Batch) -> Scores: ...

    @abstractmethod
    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        """Score one step, ``tick`` being [S, 1]; O(1) a series; never refits."""

    def to_onnx(self, state: State) -> bytes:  # noqa: ARG002
        """:meth:`score` of this state as an ONNX model (``detectors/support/edge_graph.py`` tells its inputs).

        Raises:
            PermanentError: this detector has no such form.
            ConfigError: the package for it is not installed.
        """
        raise PermanentError(f"A detector of the family '{self.family}' cannot be exported.")


class Tool(Plugin[OptionsT]):
    """``aiops/agent/tools`` and ``aiops.tools`` entry points: a read-only look-up run by the executor.

    Arguments that have ``start_ms`` and ``end_ms`` are given the window of a step that names one. ``subject`` is what
    the offline planner knows the kind of tool by; empty for one that only a language model may plan.
    """

    Arguments: ClassVar[type[BaseModel]]
    subject: ClassVar[str] = ""

    @abstractmethod
    def run(self, arguments: BaseModel, principal: Principal) -> Collected:
        """Rows in the order in which they are shown; the number of rows of all kinds is bounded by the tool.

        ``done`` below 1 says that there was more. Raises ``NotFound`` where what is named does not exist,
        ``Forbidden`` outside the principal's scope, ``TransientError`` and ``PermanentError`` as a source does.
        """


# ------------------------------------------------------------------ seams inside aiops


class MetricReader(Protocol):
    """Samples by matchers; implemented by the telemetry store."""

    def scan(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal) -> SampleBlock:
        """Samples with ``start_ms <= ts <= end_ms`` of series that match and lie in the principal's scope."""
        ...

    def select_series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[Labels]: ...

    def metadata(self, principal: Principal) -> list[MetricMetadata]: ...


class OpenScan(Protocol):
    """Samples of a scan that are read part by part, from any thread.

    Attributes:
        labels: of the series that may have samples in the window.
        sample_count: about how many samples the window holds.
    """

    @property
    def labels(self) -> Sequence[Labels]: ...

    @property
    def sample_count(self) -> int: ...

    def part(self, first: int, last: int) -> SeriesPart:
        """Series ``first`` to ``last - 1``. Samples outside the window may be among theirs."""
        ...


@runtime_checkable
class StreamedReader(MetricReader, Protocol):
    """A reader that need not hold all samples of a scan at once."""

    def prepare(self) -> None:
        """Make ready, which may take seconds; reads work before it, but are slow."""

    def version(self) -> int:
        """Names the moment, for :meth:`changed_since`; to be taken before reading."""
        ...

    def changed_since(self, version: int) -> int:
        """The earliest time (ms) at which samples came or went since; far in the future where none did."""
        ...

    def open_scan(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal, most: int
    ) -> OpenScan:
        """As :meth:`scan`; where there are more than about ``most`` samples, only their number is of use."""
        ...


@runtime_checkable
class RollupReader(Protocol):
    """A reader that keeps buckets of long ago."""

    def open_rollup(
        self,
        matchers: Sequence[Matcher],
        after_ms: int,
        end_ms: int,
        resolution: int,
        column: str,
        principal: Principal,
    ) -> OpenScan | None:
        """Buckets ``(end - resolution, end]`` at their ends, with ``after_ms < end <= end_ms``, all multiples of it.

        ``column`` is low, high, total, num or last; ``None`` where no day of the window has rollups.
        """
        ...

    def raw_from_ms(self) -> int:
        """Before it buckets are all that is held; in the distant past where no buckets are older than the samples."""
        ...


class SignalReader(Protocol):
    """Logs, spans and changes; implemented by the telemetry store."""

    def logs(self, query: LogQuery, principal: Principal) -> list[LogRecord]: ...

    def log_patterns(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 50
    ) -> list[LogPattern]: ...

    def spans(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 1000
    ) -> list[Span]: ...

    def service_graph(self, start_ms: int, end_ms: int, principal: Principal) -> ServiceGraph: ...

    def changes(self, start_ms: int, end_ms: int, principal: Principal, service: str = "") -> list[ChangeEvent]: ...


class LogMiner(Protocol):
    """Finds the templates of log lines; implemented by ingest, called by the store for every line that it keeps."""

    def mine(self, records: Sequence[LogRecord]) -> Sequence[LogRecord]:
        """The records with ``template_id``, and with what their bodies say of level and attributes."""
        ...

    def changes(self) -> Sequence[LogTemplate]:
        """Templates that are new, wider or merged since the last call."""
        ...

    def headers(self) -> Mapping[str, str]:
        """What stands before the message, by service."""
        ...


class CostReader(Protocol):
    """Daily costs; implemented by the telemetry store."""

    def daily(self, query: CostQuery, principal: Principal) -> CostSeries: ...


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
