"""What the routes work with; wiring fills it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aiops.access.models import ModelAccess
from aiops.access.rates import RateLimits
from aiops.core.errors import TransientError

if TYPE_CHECKING:
    from aiops.access.keys import KeyService
    from aiops.actions.approval import ActionService
    from aiops.core.ports import Assistant, Clock, InboundParser, MetricQuerier, ScrapeTarget
    from aiops.core.principal import Principal
    from aiops.core.signals import ChangeEvent
    from aiops.cost.service import CostService
    from aiops.incidents.anomalies import Anomalies
    from aiops.incidents.lifecycle import IncidentService
    from aiops.incidents.notify import Dispatcher
    from aiops.incidents.objectives import Objectives
    from aiops.incidents.oncall import OnCall
    from aiops.incidents.silences import Silences
    from aiops.incidents.watchdogs import Watchdogs
    from aiops.ingest.otlp_receiver import OtlpReceiver
    from aiops.jobs.queue import JobQueue
    from aiops.models.batch_scoring import ScoreBatches
    from aiops.models.checkpoints import Checkpoints
    from aiops.models.datasets import DatasetStore
    from aiops.models.deployments import Deployments
    from aiops.models.drift import DriftWatch
    from aiops.models.lineage import LineageReader
    from aiops.models.metering import Metering
    from aiops.models.oversight import Oversight
    from aiops.models.registry import ModelRegistry
    from aiops.models.score_log import ScoreLog
    from aiops.models.scoring import ScoringService
    from aiops.models.training_jobs import TrainingJobs
    from aiops.rules.engine import RuleEngine
    from aiops.settings import Settings
    from aiops.store.state.audit import AuditLog
    from aiops.store.state.checkpoints import Checkpoint
    from aiops.store.state.conversations import ConversationRepository
    from aiops.store.state.database import StateDatabase
    from aiops.store.state.outbox import OutboxRepository
    from aiops.store.state.saved_questions import SavedQuestionRepository
    from aiops.store.telemetry.store import TelemetryStore

T = TypeVar("T")


class ComponentState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the service as ``/readyz`` shows it; the service is ready when all ``required`` ones are."""

    name: str
    state: ComponentState
    detail: str = ""
    required: bool = False


class RenderedReport(Protocol):
    """A report in both its forms."""

    @property
    def html(self) -> str: ...

    @property
    def text(self) -> str: ...


def _no_components() -> Sequence[Component]:
    return ()


def _no_targets() -> Sequence[ScrapeTarget]:
    return ()


def _tell_nobody(_changes: Sequence[ChangeEvent]) -> None:
    return


def _no_text() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Services:
    """Every object that routes use.

    What is ``None`` is not running; a route that needs it answers 503 (see :func:`running`).

    Attributes:
        engine: what PromQL queries are put to: our engine, or a remote server.
        cost_report: the cost report of the last so many days as the principal may see it.
        targets: what is scraped, and how that goes.
        tell_changes: passes deploys and other changes on to receivers that show them.
        otlp: what takes OTLP here and over gRPC; the app makes its own where there is none.
        restore_checkpoint: serves a checkpoint of a model, by its id, in somebody's name.
        import_costs: takes a FOCUS file's name and content into the store; gives the number of rows.
        components: states of all parts, cheap enough to be asked each second.
        metrics_text: the service's own metrics in Prometheus' text format.
        versions: component versions for the status page.
    """

    settings: Settings
    clock: Clock
    store: TelemetryStore
    engine: MetricQuerier
    keys: KeyService
    audit: AuditLog
    rates: RateLimits = field(default_factory=lambda: RateLimits(0))
    database: StateDatabase | None = None
    rules: RuleEngine | None = None
    incidents: IncidentService | None = None
    anomalies: Anomalies | None = None
    silences: Silences | None = None
    watchdogs: Watchdogs | None = None
    objectives: Objectives | None = None
    oncall: OnCall | None = None
    dispatcher: Dispatcher | None = None
    outbox: OutboxRepository | None = None
    actions: ActionService | None = None
    conversations: ConversationRepository | None = None
    saved_questions: SavedQuestionRepository | None = None
    assistant: Assistant | None = None
    cost: CostService | None = None
    cost_report: Callable[[Principal, int], RenderedReport] | None = None
    import_costs: Callable[[str, bytes], int] | None = None
    models: ModelRegistry | None = None
    trainings: TrainingJobs | None = None
    meter: Metering | None = None
    datasets: DatasetStore | None = None
    checkpoints: Checkpoints | None = None
    lineage: LineageReader | None = None
    restore_checkpoint: Callable[[str, int, str], Checkpoint] | None = None
    drift: DriftWatch | None = None
    oversight: Oversight | None = None
    model_access: ModelAccess = field(default_factory=ModelAccess)
    scoring: ScoringService | None = None
    score_log: ScoreLog | None = None
    score_batches: ScoreBatches | None = None
    deployments: Deployments | None = None
    jobs: JobQueue | None = None
    inbound: Mapping[str, InboundParser[Any]] = field(default_factory=dict)
    otlp: OtlpReceiver | None = None
    targets: Callable[[], Sequence[ScrapeTarget]] = _no_targets
    tell_changes: Callable[[Sequence[ChangeEvent]], None] = _tell_nobody
    components: Callable[[], Sequence[Component]] = _no_components
    metrics_text: Callable[[], str] = _no_text
    versions: Mapping[str, str] = field(default_factory=dict)


def running(part: T | None, name: str) -> T:
    """The part, or ``TransientError`` saying that it does not run (yet)."""
    if part is None:
        raise TransientError(
            f"The {name} is not running.", hint="It may still be starting; see /readyz.", retry_after_s=5
        )
    return part
