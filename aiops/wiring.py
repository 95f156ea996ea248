"""The composition root: settings and discovered plug-ins become objects, here and nowhere else.

Start order: store, HTTP, own and host metrics first. What takes seconds to import (torch, MLflow, Numba
kernels, chat, the LLM) is built afterwards on a thread of its own; ``/readyz`` shows what is still starting.
"""

from __future__ import annotations

import glob
import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aiops import __version__
from aiops.access.binding import refuse_unsafe_bind
from aiops.access.keys import KeyService
from aiops.access.rates import RateLimits
from aiops.access.spend import SpendLimit
from aiops.actions.approval import ActionService
from aiops.agent.assistant import Assistant
from aiops.agent.catalogue import Catalogues
from aiops.agent.executor import Executor as PlanExecutor
from aiops.agent.limits import QuestionLimits
from aiops.agent.ports import Planner
from aiops.api.components import detection_component, source_components
from aiops.api.rule_views import rule_components
from aiops.api.services import Component, ComponentState, Services
from aiops.core.errors import AiopsError, ConfigError, TransientError
from aiops.core.job import Schedule
from aiops.core.plugins import build as build_plugin
from aiops.core.plugins import discover
from aiops.core.plugins import load as load_plugin
from aiops.core.ports import (
    ChatModelProvider,
    ChatSurface,
    CostSource,
    Detector,
    Executor,
    JobProgress,
    MetricQuerier,
    Notifier,
    PluginContext,
    ProgressJobHandler,
    system_clock,
)
from aiops.core.principal import Principal
from aiops.cost.bills import Bills
from aiops.cost.service import CostService
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.notify import Dispatcher
from aiops.incidents.root_cause import RootCauseAnalyser
from aiops.incidents.routing import routes_of
from aiops.incidents.watch import watch_list
from aiops.ingest.backfill import backfill_job
from aiops.ingest.collector import Collector
from aiops.jobs.queue import JobQueue
from aiops.models.registry import ModelRegistry
from aiops.promql.engine import PromqlEngine
from aiops.promql.parse import inject_matchers
from aiops.rules.engine import rules_of
from aiops.settings import PluginSettings, Settings
from aiops.store.state.actions import ActionRepository
from aiops.store.state.audit import AuditLog
from aiops.store.state.conversations import ConversationRepository
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.jobs import JobRepository
from aiops.store.state.keys import KeyRepository
from aiops.store.state.outbox import OutboxRepository
from aiops.store.state.reports import ReportRepository
from aiops.store.state.usage import UsageRepository
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.parquet import read_parquet
from aiops.store.telemetry.store import TelemetryStore

if TYPE_CHECKING:
    from fastapi import FastAPI

    from aiops.incidents.detection import DetectionLoop
    from aiops.observability import Observability
    from aiops.reports.cost import Report

log = logging.getLogger(__name__)

LATE_S = 120.0
"""How long :attr:`Service.detection` waits for what loads late."""
HEAD_START_S = 1.5
"""What loads late waits this long, so that the first chart does not compete with imports and compilers."""
DAY_MS = 86_400_000
JOBS_KEPT_MS = 30 * DAY_MS
RETENTION_CRON, COST_CRON = "41 2 * * *", "7 * * * *"
DEFAULT_MODEL = "openai:gpt-5-mini"


class Service:
    """Everything that was built, and its life: :meth:`start`, :meth:`wait`, :meth:`stop`.

    Without :meth:`start` it can still answer in-process through :attr:`app`.
    """

    def __init__(self, settings: Settings, *, observed: bool = True) -> None:
        """Build what is light. Raises ``ConfigError`` for settings or a data folder that cannot be used."""
        refuse_unsafe_bind(settings.server)
        self.settings = settings
        self._undo: list[Callable[[], object]] = []
        self._failed: dict[str, str] = {}
        self.collector: Collector | None = None
        self._own: Observability | None = None
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
        settings = self.settings
        folder = _writable(settings.data_dir)
        if observed:
            self._observe()
        database = TelemetryDatabase(folder / "telemetry.duckdb", settings.store)
        self.store = TelemetryStore(database, settings.cost.scope_columns)
        self._undo.append(self.store.close)
        state = self._state = StateDatabase(_state_url(settings, folder))
        self._undo.append(state.close)
        state.upgrade()
        self.engine = PromqlEngine(self.store, settings.promql)
        self.sources = self._plugins("connectors.telemetry", settings.connectors.telemetry)
        self.querier = _querier(settings, self.engine, self.sources)
        audit = AuditLog(state)
        keys = KeyService(KeyRepository(state), audit=audit)
        if settings.server.bootstrap_key_file is not None:
            keys.bootstrap_from(settings.server.bootstrap_key_file)
        self.outbox = OutboxRepository(state)
        self._notifiers: dict[str, Notifier[Any]] = self._plugins("connectors.notifiers", settings.receivers)
        self.incidents = IncidentService(
            IncidentRepository(state),
            RootCauseAnalyser(self.querier, self.store, watch_list(settings.detection), settings.incidents),
            routes_of(settings.receivers, {name: type(found).pages for name, found in self._notifiers.items()}),
            settings.incidents,
        )
        self._undo.append(self.incidents.stop)
        meters = self._own.meters if self._own else None
        self.rules = rules_of(settings, self.engine, self.store, self.incidents, meters)
        self._dispatcher = Dispatcher(self.outbox, self._notifiers)
        self.actions = ActionService(
            ActionRepository(state),
            audit,
            self.incidents,
            cast("dict[str, Executor[Any]]", self._plugins("connectors.executors", settings.connectors.executors)),
            settings=settings.actions,
            expiry_s=settings.incidents.action_expiry_s,
        )
        self.cost = CostService(self.store, settings.cost, sink=self.incidents, values=self.store.cost_values)
        bills: dict[str, CostSource[Any]] = self._plugins("connectors.clouds", settings.connectors.clouds)
        self._bills = Bills(self.store, self.cost, bills, _focus_file)
        self._detections = DetectionRepository(state)
        self._job_rows = JobRepository(state)
        self.models = ModelRegistry(folder)
        self._conversations = ConversationRepository(state)
        self.assistant = self._assistant(state)
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
            dispatcher=self._dispatcher,
            outbox=self.outbox,
            actions=self.actions,
            conversations=self._conversations,
            assistant=self.assistant,
            cost=self.cost,
            cost_report=self._cost_report,
            import_costs=self._bills.upload,
            models=self.models,
            jobs=JobQueue(self._job_rows),
            inbound=self._plugins("connectors.inbound", settings.connectors.inbound),
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
        self._undo.append(self._own.stop)

    def _plugins(self, kind: str, configured: Mapping[str, PluginSettings]) -> dict[str, Any]:
        return {name: self._plugin(kind, name, entry) for name, entry in configured.items()}

    def _plugin(self, kind: str, name: str, entry: PluginSettings) -> Any:
        options = {**_given(self.settings, kind, entry.plugin), **entry.options}
        plugin = build_plugin(
            kind, entry.plugin, options, PluginContext(name, system_clock, read_parquet, inject_matchers)
        )
        self._undo.append(plugin.close)
        return plugin

    def _assistant(self, state: StateDatabase) -> Assistant:
        chosen = self.settings.agent
        executor = PlanExecutor(
            self.querier,
            self.store,
            self.cost,
            self.incidents,
            self.actions,
            {name: self._plugin("tools", name, PluginSettings(plugin=name)) for name in discover("tools")},
            deadline_s=chosen.deadline_s,
            max_series=chosen.max_series,
        )
        self._undo.append(executor.close)
        limits = QuestionLimits(llm_calls=chosen.llm.max_calls_per_question, llm_seconds=chosen.llm.timeout_s)
        return Assistant(
            Catalogues(self.querier),
            executor,
            llm=self._llm_planner(executor, state, limits),
            store=self._conversations,
            signals=self.store,
            limits=limits,
        )

    def _llm_planner(self, executor: PlanExecutor, state: StateDatabase, limits: QuestionLimits) -> Planner | None:
        settings, chosen = self.settings, self.settings.agent.llm
        wanted = (
            chosen.model or chosen.base_url or settings.openai_base_url or settings.openai_api_key.get_secret_value()
        )
        if settings.agent.planner == "offline" or not (wanted or settings.agent.planner == "llm"):
            return None
        provider, _, model = (chosen.model or DEFAULT_MODEL).partition(":")
        if not model:
            raise ConfigError(
                f"agent.llm.model is '{provider}'; it must be provider:model.", hint=f"Such as {DEFAULT_MODEL}."
            )
        from aiops.agent.planner_llm import LlmPlanner

        plugin: ChatModelProvider[Any] = self._plugin("connectors.llm", provider, PluginSettings(plugin=provider))
        spend = SpendLimit(UsageRepository(state), chosen.max_cost_per_day)
        try:
            planner = LlmPlanner(plugin, provider, model, executor, budget=spend, ledger=spend, limits=limits)
        except ConfigError as error:
            if chosen.model or settings.agent.planner == "llm":
                raise
            log.warning("The offline planner answers: %s", error)  # a key in the environment is no order
            return None
        self._undo.append(planner.close)
        return planner

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Listen, collect and dispatch at once; the rest follows in the background. Raises ``ConfigError``."""
        self._listen()
        if self._own is not None:
            self._own.start(self.store)
            self._undo.append(self._own.stop)  # before the store closes
        self.collector = Collector(self.store, {n: s for n, s in self.sources.items() if s.interval_s > 0})
        self.collector.start()
        self._undo.append(self.collector.stop)
        self.actions.recover()
        if self._state.dialect == "sqlite":  # no other service shares it: what was claimed was left behind
            self.outbox.release()
            self._job_rows.release()
        self.incidents.start()
        self._dispatcher.start()
        self.rules.start()
        self._undo += [self._dispatcher.stop, self.rules.stop]
        threading.Thread(target=self._start_late, name="late-start", daemon=True).start()

    def wait(self) -> None:
        """Until :meth:`stop`, or Ctrl-C in the main thread."""
        while not self._stopping.wait(0.5):
            pass

    def stop(self) -> None:
        """Stop everything in the reverse order of its start; safe to call twice."""
        self._stopping.set()
        while self._undo:
            undo = self._undo.pop()
            try:
                undo()
            except Exception:
                log.exception("a part did not stop cleanly")

    @property
    def detection(self) -> DetectionLoop:
        """The detection loop, once it is loaded. Raises ``TransientError`` when that takes too long."""
        self._late.wait(LATE_S)
        if self._detection is None:
            raise TransientError("The detection is not running.", hint=self._failed.get("detection", ""))
        return self._detection

    def _listen(self) -> None:
        import uvicorn

        server = self.settings.server
        try:
            family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
            bound = socket.create_server((server.host, server.port), family=family)
        except OSError as error:
            raise ConfigError(
                f"Port {server.port} on {server.host} cannot be used: {error.strerror}.",
                hint="Choose another with --port.",
            ) from error
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it only on sockets it made
        port = bound.getsockname()[1]
        config = uvicorn.Config(
            self.app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=5
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, args=([bound],), name="http", daemon=True)
        thread.start()

        def end() -> None:
            running.should_exit = True
            thread.join(10)
            bound.close()

        self._undo.append(end)
        while not running.started and thread.is_alive():
            time.sleep(0.005)
        host = f"[{server.host}]" if ":" in server.host else server.host
        self.url = f"http://{host}:{port}"
        place = self.settings.data_dir / "service.json"
        place.write_text(json.dumps({"url": self.url, "pid": os.getpid()}), encoding="utf-8")
        self._undo.append(lambda: place.unlink(missing_ok=True))

    # ---------------------------------------------------------------- what loads late

    def _start_late(self) -> None:
        if self._stopping.wait(HEAD_START_S):
            return
        self.engine.warm()
        parts = {"chat": self._start_chat, "detection": self._start_detection, "jobs": self._start_jobs}
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

    def _start_detection(self) -> None:
        if not self.settings.detection.enabled:
            return
        from aiops.incidents.detection import DetectionLoop
        from aiops.models.serving import Scorer
        from aiops.models.training import Trainer

        settings = self.settings
        chosen = {"device": settings.device, "members": list(settings.detection.detectors)}
        detector = cast(
            "Detector[Any]", build_plugin("detectors", "fusion", chosen, PluginContext("detection", system_clock))
        )
        loop = DetectionLoop(
            self.querier,
            self.incidents,
            Trainer(self.models, detector),
            Scorer(detector),
            self._detections,
            settings.detection,
            settings.incidents,
            narrow=inject_matchers,
        )
        loop.start()
        self._undo.append(loop.stop)
        self._detection = loop

    def _start_chat(self) -> None:
        configured = dict(self.settings.connectors.chat)
        if not configured and self.settings.slack_bot_token.get_secret_value():
            configured = {"slack": PluginSettings(plugin="slack")}
        if not configured:
            return
        from starlette.routing import Route as HttpRoute

        from aiops.chat.handler import Conversation
        from aiops.chat.people import principal_mapping

        handler = Conversation(
            self.assistant, self.actions, principal_mapping(configured), zone=self.settings.agent.zone
        )
        for name, entry in configured.items():
            surface: ChatSurface[Any] = self._plugin("connectors.chat", name, entry)
            surface.start(handler)
            if (place := surface.asgi()) is not None:
                self.app.router.routes.append(HttpRoute(place[0], endpoint=place[1], methods=["POST"]))
            self._surfaces[name] = surface

    def _start_jobs(self) -> None:
        from aiops.jobs.clock import JobClock
        from aiops.jobs.worker import Worker
        from aiops.reports.cost import CostReport
        from aiops.reports.delivery import JOB_KIND, report_arguments, report_handler

        settings = self.settings
        handlers: dict[str, ProgressJobHandler] = {
            JOB_KIND: report_handler(
                {"cost": CostReport(self.cost)}, settings.smtp, ReportRepository(self._state), self._upload()
            ),
            "retention": self._retention_job,
            "cost": self._bills.read,
            "backfill": backfill_job(self.store, self.sources, self._stopping.wait),
            "train": self._train_job,
        }
        clock = JobClock(cast("JobQueue", self.services.jobs))
        schedules = [
            Schedule("retention", RETENTION_CRON, "UTC", "retention"),
            Schedule("cost", COST_CRON, "UTC", "cost"),
            *(
                Schedule(f"report:{name}", r.cron, r.zone, JOB_KIND, tuple(sorted(report_arguments(name, r).items())))
                for name, r in settings.reports.items()
            ),
        ]
        if self._detection is not None:
            schedules.append(Schedule("train", settings.detection.retrain_cron, "UTC", "train"))
        worker = Worker(self._job_rows, handlers)
        clock.keep_only({schedule.name for schedule in schedules})
        for schedule in schedules:
            clock.put(schedule)
        clock.start()
        worker.start()
        self._undo += [worker.stop, clock.stop]
        if settings.connectors.clouds:
            cast("JobQueue", self.services.jobs).submit("cost")

    # ---------------------------------------------------------------- jobs

    def _retention_job(self, arguments: Mapping[str, str], progress: JobProgress) -> None:  # noqa: ARG002
        progress(0.5, f"{self.store.apply_retention()} day tables dropped")
        self._job_rows.forget_finished(system_clock() - JOBS_KEPT_MS)

    def _train_job(self, arguments: Mapping[str, str], progress: JobProgress) -> None:  # noqa: ARG002
        self.detection.train(system_clock(), lambda share, text: progress(share, text))

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
        found = [Component("store", ready if self.store.healthy() else ComponentState.DOWN, required=True)]
        found.append(Component("state", ready if self._state.healthy() else ComponentState.DOWN, required=True))
        kernels = "" if self.engine.warm_now else "on NumPy until the kernels are compiled"
        found.append(Component("promql", ready, kernels, required=True))
        found += source_components(self.collector.status() if self.collector else ())
        found += rule_components(self.rules)
        failed = dict(self._failed)
        why = failed.pop("detection", "")
        enabled = self.settings.detection.enabled
        found.append(detection_component(self._detection, enabled=enabled, running=bool(self.url), failed=why))
        return [*found, *(Component(name, ComponentState.DOWN, reason) for name, reason in failed.items())]


# ------------------------------------------------------------------ pieces


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"The data folder {folder} cannot be written: {error.strerror}.", hint="Choose another with --data-dir."
        ) from error
    return folder


def _given(settings: Settings, kind: str, plugin: str) -> dict[str, Any]:
    """Options that a plug-in takes from the general settings unless its own entry gives them."""
    if kind == "connectors.notifiers":
        knows = "public_url" in load_plugin(kind, plugin).Options.model_fields
        address = {"public_url": settings.server.public_url} if knows else {}
        return {**address, "token": settings.slack_bot_token} if plugin == "slack" else address
    if (kind, plugin) == ("connectors.chat", "slack"):
        return {
            "bot_token": settings.slack_bot_token,
            "app_token": settings.slack_app_token,
            "signing_secret": settings.slack_signing_secret,
        }
    if (kind, plugin) == ("connectors.llm", "openai"):
        return {
            "api_key": settings.openai_api_key,
            "base_url": settings.agent.llm.base_url or settings.openai_base_url,
            "timeout_s": settings.agent.llm.timeout_s,
        }
    return {}


def _querier(settings: Settings, engine: PromqlEngine, sources: Mapping[str, Any]) -> MetricQuerier:
    """What questions and detection ask: the named source, else the only one that can be asked, else the store."""
    askable = {name: source for name, source in sources.items() if isinstance(source, MetricQuerier)}
    wanted = settings.agent.metrics_source
    if wanted == engine.name:
        return engine
    if wanted:
        if wanted not in askable:
            raise ConfigError(
                f"agent.metrics_source is '{wanted}', which is no telemetry connector that answers PromQL.",
                hint=f"Known: {', '.join(sorted([engine.name, *askable]))}.",
            )
        return askable[wanted]
    return next(iter(askable.values())) if len(askable) == 1 else engine


def _focus_file(path: Path) -> CostSource[Any]:
    """A source over one uploaded file, whose rows bear the file's name."""
    context = PluginContext(path.stem, system_clock, read_parquet)
    options = {"paths": [glob.escape(str(path))]}
    return cast("CostSource[Any]", build_plugin("connectors.clouds", "focus_files", options, context))


# ------------------------------------------------------------------ entry points


def build(settings: Settings) -> Service:
    """The whole service, not yet started."""
    return Service(settings)


def local(settings: Settings) -> Service:
    """The same objects for one command in-process: nothing listens, polls or logs."""
    return Service(settings, observed=False)


def keys(settings: Settings) -> KeyService:
    """The keys of the state store alone; works beside a running service."""
    state = _state(settings)
    return KeyService(KeyRepository(state), audit=AuditLog(state))


def audit(settings: Settings) -> AuditLog:
    """The audit log of the state store alone; works beside a running service."""
    return AuditLog(_state(settings))


def _state(settings: Settings) -> StateDatabase:
    state = StateDatabase(_state_url(settings, _writable(settings.data_dir)))
    state.upgrade()
    return state


def _state_url(settings: Settings, folder: Path) -> str:
    return settings.state.url or sqlite_url(folder)
