"""The service: all organs built, then started in the order in which people need them.

Start order: store, HTTP, own and host metrics first. What takes seconds to import (torch, MLflow, Numba
kernels, chat, the LLM) is built afterwards on a thread of its own; ``/readyz`` shows what is still starting.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from aiops import __version__
from aiops.access.binding import refuse_unsafe_bind
from aiops.access.keys import KeyService
from aiops.access.models import ModelAccess
from aiops.access.rates import RateLimits
from aiops.actions.approval import ActionService
from aiops.agent.executor import Executor as PlanExecutor
from aiops.api.components import (
    budget_components,
    detection_component,
    oncall_components,
    scoring_component,
    signal_components,
    source_components,
    store_component,
    watchdog_components,
)
from aiops.api.rule_views import rule_components
from aiops.api.services import Component, ComponentState, Services
from aiops.core.errors import AiopsError, TransientError
from aiops.core.ports import ChatSurface, CostSource, Executor, Notifier, ProgressJobHandler, system_clock
from aiops.core.principal import Principal
from aiops.cost.bills import Bills
from aiops.cost.service import CostService
from aiops.incidents import change_notices
from aiops.incidents.anomalies import Anomalies
from aiops.incidents.change_notices import ChangeNotices
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.muting import Muting
from aiops.incidents.notify import Dispatcher
from aiops.incidents.objectives import Objectives
from aiops.incidents.refresh import Refresher
from aiops.incidents.root_cause import RootCauseAnalyser
from aiops.incidents.route_tree import tree_of
from aiops.incidents.routing import routes_of
from aiops.incidents.silences import Silences
from aiops.incidents.watch import watch_list
from aiops.incidents.watchdogs import Watchdogs
from aiops.ingest.backfill import backfill_job
from aiops.ingest.collector import Collector
from aiops.ingest.otlp_receiver import receiver_of
from aiops.jobs.queue import JobQueue
from aiops.jobs.repeating import Repeating
from aiops.models import batch_scoring, training_jobs
from aiops.promql.engine import PromqlEngine
from aiops.rules.engine import rules_of
from aiops.settings import Settings
from aiops.store.state.actions import ActionRepository
from aiops.store.state.audit import AuditLog
from aiops.store.state.checkpoints import Checkpoint
from aiops.store.state.conversations import ConversationRepository
from aiops.store.state.deployments import DeploymentRepository
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.jobs import JobRepository
from aiops.store.state.keys import KeyRepository
from aiops.store.state.marks import MarkRepository
from aiops.store.state.outbox import OutboxRepository
from aiops.store.state.reports import ReportRepository
from aiops.store.state.saved_questions import SavedQuestionRepository
from aiops.store.state.silences import SilenceRepository
from aiops.wiring.assistant import assistant
from aiops.wiring.chat import anomaly_marking, chat_surfaces
from aiops.wiring.detection import detection_loop
from aiops.wiring.folder import open_state, writable
from aiops.wiring.heartbeat import heartbeat
from aiops.wiring.jobs import retention_job, schedules_of, start_jobs
from aiops.wiring.lifetime import Lifetime
from aiops.wiring.listening import listen, listen_for_otlp
from aiops.wiring.model_oversight import DRIFT_KIND, model_oversight
from aiops.wiring.model_registry import model_records
from aiops.wiring.model_serving import model_serving
from aiops.wiring.model_training import live_bill, metering, pools_of, trainer_of
from aiops.wiring.oncall import on_call
from aiops.wiring.plugins import PluginFactory, focus_file
from aiops.wiring.signals import log_signals, mine_logs, signal_series
from aiops.wiring.telemetry import elsewhere, metric_querier, scrape_targets, telemetry_store

if TYPE_CHECKING:
    from fastapi import FastAPI

    from aiops.incidents.detection import DetectionLoop
    from aiops.ingest.signal_series import SignalSeries
    from aiops.models.training import Progress, Request
    from aiops.observability import Observability
    from aiops.reports.cost import Report

log = logging.getLogger(__name__)

LATE_S = 120.0
"""How long :attr:`Service.detection` waits for what loads late."""
HEAD_START_S = 1.5
"""What loads late waits this long, so that the first chart does not compete with imports and compilers."""
BOOK_S = 30.0
"""What models cost is booked among the costs this often."""
DAY_MS = 86_400_000


class Service:
    """Everything that was built, and its life: :meth:`start`, :meth:`wait`, :meth:`stop`.

    Without :meth:`start` it can still answer in-process through :attr:`app`.
    """

    def __init__(self, settings: Settings, *, observed: bool = True) -> None:
        """Build what is light. Raises ``ConfigError`` for settings or a data folder that cannot be used."""
        refuse_unsafe_bind(settings.server)
        self.settings = settings
        self._life = Lifetime()
        self._plugins = PluginFactory(settings, self._life)
        self._failed: dict[str, str] = {}
        self.collector: Collector | None = None
        self._own: Observability | None = None
        self._series: SignalSeries | None = None
        self._detection: DetectionLoop | None = None
        self._late = threading.Event()
        self._surfaces: dict[str, ChatSurface[Any]] = {}
        self._stopping = threading.Event()
        self.url = ""
        try:
            self._build(observed)
        except BaseException:
            self.stop()
            raise

    # ---------------------------------------------------------------- building

    def _build(self, observed: bool) -> None:
        settings, life, plugins = self.settings, self._life, self._plugins
        folder = writable(settings.data_dir)
        if observed:
            self._observe()
        self.store = telemetry_store(settings, folder)
        life.on_stop(self.store.close)
        mine_logs(settings, self.store)
        state = self._state = open_state(settings)
        life.on_stop(state.close)
        self.engine = PromqlEngine(self.store, settings.promql)
        self.sources = plugins.all("connectors.telemetry", settings.connectors.telemetry)
        self.querier = metric_querier(settings, self.engine, self.sources)
        audit = self._audit = AuditLog(state)
        keys = KeyService(KeyRepository(state), audit=audit)
        if settings.server.bootstrap_key_file is not None:
            keys.bootstrap_from(settings.server.bootstrap_key_file)
        self.outbox = OutboxRepository(state)
        self.notifiers: dict[str, Notifier[Any]] = plugins.all("connectors.notifiers", settings.receivers)
        self.oncall = on_call(settings, plugins)
        self.silences = Silences(SilenceRepository(state), settings.incidents)
        tree = tree_of(settings.incidents.route, list(settings.receivers))
        self.incidents = IncidentService(
            IncidentRepository(state),
            RootCauseAnalyser(self.querier, self.store, watch_list(settings.detection), settings.incidents),
            routes_of(settings.receivers, {name: type(found).pages for name, found in self.notifiers.items()}, tree),
            settings.incidents,
            mutes=Muting(self.silences.active, settings.incidents, self.oncall.busy),
            duty=self.oncall.duty,
            tree=tree,
        )
        life.on_stop(self.incidents.stop)
        self.watchdogs = Watchdogs(self.incidents, settings.incidents)
        meters = self._own.meters if self._own else None
        self.rules = rules_of(settings, self.engine, self.store, self.incidents, meters)
        rates = {name: entry.per_minute for name, entry in settings.receivers.items()}
        self._dispatcher = Dispatcher(self.outbox, self.notifiers, per_minute=rates)
        executors: dict[str, Executor[Any]] = plugins.all("connectors.executors", settings.connectors.executors)
        self.actions = ActionService(
            ActionRepository(state),
            audit,
            self.incidents,
            executors,
            settings=settings.actions,
            expiry_s=settings.incidents.action_expiry_s,
        )
        self.cost = CostService(self.store, settings.cost, sink=self.incidents, values=self.store.cost_values)
        bills: dict[str, CostSource[Any]] = plugins.all("connectors.clouds", settings.connectors.clouds)
        self._bills = Bills(self.store, self.cost, bills, focus_file)
        self._detections, self._marks = DetectionRepository(state), MarkRepository(state)
        self.anomalies = Anomalies(self._detections, self._marks, self.querier, system_clock, lambda: self._detection)
        self._job_rows = JobRepository(state)
        jobs = JobQueue(self._job_rows, pools=training_jobs.POOLS)
        self._change_notices = ChangeNotices(settings.receivers, self.notifiers, jobs)
        self.records = model_records(settings, state)
        self.models = self.records.registry
        if self.records.traces is not None:
            life.on_stop(self.records.traces.stop)
        self.meter = metering(settings, state, self.store)
        life.on_stop(self.meter.publish)
        self.serving = model_serving(
            settings,
            folder,
            state,
            self.models,
            audit,
            self.incidents,
            self._marks,
            self.querier,
            meter=self.meter,
            meters=meters,
        )
        executor = PlanExecutor(
            self.querier,
            self.store,
            self.cost,
            self.incidents,
            self.actions,
            plugins.all("tools", settings.connectors.tools),
            elsewhere=elsewhere(settings, self.sources),
            deadline_s=settings.agent.deadline_s,
            max_series=settings.agent.max_series,
        )
        life.on_stop(executor.close)
        conversations = ConversationRepository(state)
        self._trainings = training_jobs.TrainingJobs(
            jobs, settings.models.training, self.meter, self._trainable, self._train, folder
        )
        self._oversight = model_oversight(
            settings,
            state,
            self.records,
            self.serving,
            self._detections,
            self._marks,
            self.meter,
            lambda: self._trainings,
            audit,
        )
        self.assistant = assistant(
            settings, executor, self.querier, self.store, conversations, self.meter, plugins, life, self.records.traces
        )
        self.services = Services(
            settings=settings,
            clock=system_clock,
            store=self.store,
            engine=self.engine,
            rules=self.rules,
            keys=keys,
            audit=audit,
            rates=RateLimits(settings.server.requests_per_minute),
            database=state,
            incidents=self.incidents,
            anomalies=self.anomalies,
            silences=self.silences,
            watchdogs=self.watchdogs,
            oncall=self.oncall,
            objectives=Objectives(settings.slos, self.engine),
            dispatcher=self._dispatcher,
            outbox=self.outbox,
            actions=self.actions,
            conversations=conversations,
            saved_questions=SavedQuestionRepository(state),
            assistant=self.assistant,
            cost=self.cost,
            cost_report=self._cost_report,
            import_costs=self._bills.upload,
            models=self.models,
            trainings=self._trainings,
            meter=self.meter,
            datasets=self.records.datasets,
            checkpoints=self.records.checkpoints,
            lineage=self.records.lineage(DeploymentRepository(state).list),
            restore_checkpoint=self._restore_checkpoint,
            drift=self._oversight.watch,
            oversight=self._oversight.oversight,
            model_access=ModelAccess(settings.models.access),
            scoring=self.serving.scoring,
            score_log=self.serving.score_log,
            score_batches=self.serving.batches,
            deployments=self.serving.deployments,
            jobs=jobs,
            otlp=receiver_of(settings, self.store, system_clock),
            targets=lambda: scrape_targets(self.sources.values()),
            tell_changes=self._change_notices.tell,
            inbound=plugins.all("connectors.inbound", settings.connectors.inbound),
            components=self._components,
            metrics_text=self._own.metrics_text if self._own else str,
            versions={"aiops": __version__},
        )
        from aiops.api.app import create_app

        self.app: FastAPI = create_app(self.services)
        if self._own is not None:
            self._own.instrument(self.app)

    def _observe(self) -> None:
        from aiops.observability import Observability

        chosen = self.settings.telemetry
        self._own = Observability(__version__, chosen.interval_s, chosen.export_url, chosen.log_level)
        self._own.install()
        self._life.on_stop(self._own.stop)

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Listen, collect and dispatch at once; the rest follows in the background. Raises ``ConfigError``."""
        life = self._life
        self.url = listen(self.app, self.settings.server, self.settings.data_dir, life)
        listen_for_otlp(self.services, life)
        if self._own is not None:
            self._own.start(self.store)
            life.on_stop(self._own.stop)  # before the store closes
        self._series = signal_series(self.settings, self.store, life)
        self.collector = Collector(self.store, {n: s for n, s in self.sources.items() if s.interval_s > 0})
        self.collector.start()
        life.on_stop(self.collector.stop)
        self.actions.recover()
        if self._state.dialect == "sqlite":  # no other service shares it: what was claimed was left behind
            self.outbox.release()
            self._job_rows.release()
        booking = Repeating(self.meter.publish, BOOK_S, "model-costs", at_once=False)
        booking.start()
        life.on_stop(booking.stop)
        self.incidents.start()
        log_signals(self.settings, self.store, self.incidents, life)
        self._dispatcher.start()
        self.oncall.start()
        life.on_stop(self.oncall.stop)
        self.watchdogs.start()
        life.on_stop(self.watchdogs.stop)
        if (sign := heartbeat(self.settings.incidents.heartbeat, self._components)) is not None:
            sign.start()
            life.on_stop(sign.stop)
        self.serving.start(life)
        refresher = Refresher(self.notifiers, self.incidents.told)
        refresher.start()
        self.rules.start()
        life.on_stop(self._dispatcher.stop, refresher.stop, self.rules.stop)
        threading.Thread(target=self._start_late, name="late-start", daemon=True).start()

    def wait(self) -> None:
        """Until :meth:`stop`, or Ctrl-C in the main thread."""
        while not self._stopping.wait(0.5):
            pass

    def stop(self) -> None:
        """Stop everything in the reverse order of its start; safe to call twice."""
        self._stopping.set()
        self._life.stop()

    @property
    def detection(self) -> DetectionLoop:
        """The detection loop, once it is loaded. Raises ``TransientError`` when that takes too long."""
        self._late.wait(LATE_S)
        if self._detection is None:
            raise TransientError("The detection is not running.", hint=self._failed.get("detection", ""))
        return self._detection

    # ---------------------------------------------------------------- what loads late

    def _start_late(self) -> None:
        if self._stopping.wait(HEAD_START_S):
            return
        self.engine.warm()
        parts: dict[str, Callable[[], None]] = {
            "scoring": self._warm_models,
            "chat": self._start_chat,
            "detection": self._start_detection,
            "jobs": self._start_jobs,
            "model records": lambda: self.records.note_llm(self.assistant.llm),
        }
        for name, begin in parts.items():
            if self._stopping.is_set():
                break
            try:
                begin()
            except AiopsError as error:
                self._failed[name] = str(error)
                log.error("%s cannot start: %s", name, error)
            except Exception:
                self._failed[name] = "failed; see the log"
                log.exception("%s cannot start", name)
        self._late.set()

    def _warm_models(self) -> None:
        # An empty registry takes seconds to make: that is left to the first training.
        if (self.settings.data_dir / "mlflow.db").is_file() or self.settings.models.registry.tracking_url:
            self.serving.warm()

    def _start_chat(self) -> None:
        marking = anomaly_marking(self.anomalies, self._audit)
        self._surfaces = chat_surfaces(self.settings, self.app, self.assistant, self.actions, self._plugins, marking)

    def _start_detection(self) -> None:
        if not self.settings.detection.enabled:
            return
        loop = detection_loop(
            self.settings,
            self.querier,
            self.incidents,
            self._detections,
            self._marks,
            self.records.checkpoints,
            lambda detector: trainer_of(self.settings, self.records, detector, self.meter, self._life),
            live_bill(self.settings, self.meter),
        )
        loop.start()
        self._life.on_stop(loop.stop)
        self._detection = loop
        self.serving.watch(loop.fleet)

    def _start_jobs(self) -> None:
        from aiops.reports.cost import CostReport
        from aiops.reports.delivery import JOB_KIND, report_handler

        settings, queue = self.settings, cast("JobQueue", self.services.jobs)
        handlers: dict[str, ProgressJobHandler] = {
            JOB_KIND: report_handler(
                {"cost": CostReport(self.cost)}, settings.smtp, ReportRepository(self._state), self._upload()
            ),
            "retention": retention_job(self.store, self._job_rows, self.silences),
            "cost": self._bills.read,
            change_notices.KIND: self._change_notices.run,
            "backfill": backfill_job(self.store, self.sources, self._stopping.wait),
            training_jobs.KIND: self._trainings.run,
            DRIFT_KIND: self._oversight.check_all,
            batch_scoring.KIND: self.serving.batches.run,
        }
        schedules = schedules_of(settings, training=self._detection is not None)
        start_jobs(self._job_rows, queue, handlers, schedules, self._life, pools_of(settings))
        if settings.connectors.clouds:
            queue.submit("cost")

    def _restore_checkpoint(self, model: str, checkpoint_id: int, by: str) -> Checkpoint:
        return self.detection.keeper.restore(model, checkpoint_id, by)

    def _trainable(self) -> Sequence[str]:
        if self._detection is None:
            raise TransientError("The detection is not running, so that nothing can be trained.", retry_after_s=5)
        return self._detection.models

    def _train(self, model: str, request: Request, progress: Progress) -> None:
        self.detection.train(system_clock(), progress, request, model)

    def _cost_report(self, principal: Principal, days: int) -> Report:
        from aiops.reports.cost import CostReport

        end = (system_clock() // DAY_MS + 1) * DAY_MS
        zone = self.settings.agent.zone
        return CostReport(self.cost).build(principal, start_ms=end - (days + 1) * DAY_MS, end_ms=end, zone=zone)

    def _upload(self) -> Callable[..., None] | None:
        """Posting files to chat, by the first surface that can."""
        return next((s.upload for s in self._surfaces.values() if hasattr(s, "upload")), None)

    # ---------------------------------------------------------------- state

    def _components(self) -> Sequence[Component]:
        ready = ComponentState.READY
        found = [store_component(self.store)]
        found.append(Component("state", ready if self._state.healthy() else ComponentState.DOWN, required=True))
        kernels = "" if self.engine.warm_now else "on NumPy until the kernels are compiled"
        found.append(Component("promql", ready, kernels, required=True))
        found += source_components(self.collector.status() if self.collector else ())
        found += signal_components(self._series.status() if self._series else None)
        found += rule_components(self.rules)
        found += budget_components(self.meter)
        found.append(scoring_component(self.serving.scoring))
        found += [*oncall_components(self.oncall), *watchdog_components(self.watchdogs)]
        failed = dict(self._failed)
        why = failed.pop("detection", "")
        enabled = self.settings.detection.enabled
        found.append(detection_component(self._detection, enabled=enabled, running=bool(self.url), failed=why))
        return [*found, *(Component(name, ComponentState.DOWN, reason) for name, reason in failed.items())]
