"""The other plug-in kinds: bills, webhooks, receivers, rotas, executors, models, chats, detectors, tools."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from aiops.core.action import Action, ExecutionResult
from aiops.core.anomaly import Batch, Scores, State
from aiops.core.cost import CostTable
from aiops.core.errors import PermanentError
from aiops.core.incident import Alert, Incident, IncidentUpdate, Notification, Shift
from aiops.core.ports.plugin import OptionsT, Plugin
from aiops.core.ports.sources import (
    Collected,
)
from aiops.core.principal import Principal
from aiops.core.series import (
    Labels,
)
from aiops.core.signals import ChangeEvent


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
