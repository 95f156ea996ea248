"""Scoring on request, trials of versions, and what ties them to the registry, the incidents and the live loop."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from aiops.core import plugins
from aiops.core.anomaly import Batch, State
from aiops.core.errors import AiopsError, InvalidInput
from aiops.core.model import ModelVersion
from aiops.core.ports import Detector, MetricQuerier, ModelMeter, PluginContext, system_clock
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.model_faults import ModelFaults
from aiops.incidents.readings import Reader, series_of
from aiops.incidents.tails import tail_of
from aiops.incidents.thresholds import Policy
from aiops.incidents.watch import rule_entries, watch_list
from aiops.jobs.repeating import Repeating
from aiops.models.batch_scoring import ScoreBatches
from aiops.models.deployments import Deployments
from aiops.models.loaded import Loaded, LoadedModels
from aiops.models.prices import Prices
from aiops.models.registry import ModelRegistry
from aiops.models.score_bill import ScoreBill
from aiops.models.score_log import ScoreLog
from aiops.models.scoring import ScoringService
from aiops.models.served_before import ServedBefore
from aiops.settings import Settings
from aiops.store.state.audit import AuditLog
from aiops.store.state.database import StateDatabase
from aiops.store.state.deployments import DeploymentRepository
from aiops.store.state.marks import MarkRepository
from aiops.wiring.lifetime import Lifetime
from aiops.wiring.model_training import compute_of

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from aiops.incidents.fleet import Fleet
    from aiops.incidents.trials import Trials

log = logging.getLogger(__name__)

TICK_S = 1.0
LOOK_TICKS = 5
"""Between two looks whether another version is champion."""


@dataclass
class ModelServing:
    """What serves models; built light, the models are loaded when they are asked for or by :meth:`warm`."""

    scoring: ScoringService
    deployments: Deployments
    batches: ScoreBatches
    score_log: ScoreLog
    models: LoadedModels
    patterns: tuple[str, ...]
    trials: Trials | None = None
    _ticks: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self, life: Lifetime) -> None:
        """Serve, and judge trials every second."""
        self.deployments.restore()
        self.scoring.start()
        loop = Repeating(self.tick, TICK_S, "model-serving")
        loop.start()
        life.on_stop(self.batches.close, self.score_log.flush, self.scoring.stop, loop.stop, self._stopping.set)

    def tick(self) -> None:
        """Judge the trials, bring them into the loop, follow the registry."""
        now = system_clock()
        self.deployments.tick(now)
        if self.trials is not None:
            self.trials.follow()
        self._ticks += 1
        if self._ticks % LOOK_TICKS == 0:
            self.scoring.follow()
            self.score_log.flush(over_ms=now)

    def watch(self, fleet: Fleet) -> None:
        """Try candidates in the live loop as well."""
        from aiops.incidents.trials import Trials

        def load(model: str, number: str) -> Loaded:
            return self.models.get(self.models.registry.version(model, number))

        self.trials = Trials(fleet, self.deployments, load)

    def warm(self) -> None:
        """Load the champions that the settings name, so that the first request does not."""
        for name in self.models.registry.names():
            if self._stopping.is_set():
                return
            if any(fnmatchcase(name, pattern) for pattern in self.patterns):
                try:
                    self.scoring.warm(name)
                except AiopsError as error:
                    log.warning("%s is not served: %s", name, error)


def model_serving(
    settings: Settings,
    folder: Path,
    database: StateDatabase,
    registry: ModelRegistry,
    audit: AuditLog,
    incidents: IncidentService,
    marks: MarkRepository,
    querier: MetricQuerier,
    *,
    meter: ModelMeter | None = None,
    meters: MeterProvider | None = None,
) -> ModelServing:
    """Built, not started."""
    chosen, prices = settings.models, Prices(settings.models.cost)
    detectors: dict[tuple[str, str], Detector[Any]] = {}

    def detector_of(version: ModelVersion) -> Detector[Any]:
        text = dict(version.parameters).get("options", "{}")
        key = (version.family, text)
        if key not in detectors:
            options = {**json.loads(text), "device": settings.device}
            context = PluginContext("scoring", system_clock)
            detectors[key] = cast("Detector[Any]", plugins.build("detectors", version.family, options, context))
        return detectors[key]

    policy = Policy(
        settings.incidents.false_alarms_per_day,
        settings.incidents.min_duration_steps,
        settings.incidents.resolve_after_steps,
    )

    def thresholds(state: State) -> NDArray[np.float64] | None:
        try:
            return tail_of(state).threshold(policy.rate(state.step_ms, len(state.series_ids)))
        except KeyError:
            return None

    def told(actor: str, verb: str, model: str, details: Mapping[str, str]) -> None:
        audit.append(actor, verb, model, dict(details))

    models = LoadedModels(registry, detector_of, thresholds, chosen.serving.models_kept)
    deployments = Deployments(
        DeploymentRepository(database),
        registry,
        chosen.deployment,
        slow_s=chosen.serving.latency_ms / 1000,
        audit=told,
        marks=marks.since,
        blame=ModelFaults(incidents).blame,
        check=models.get,
    )
    bill = ScoreBill(meter, prices.cpu)
    # Where a server keeps the artifacts, they are fetched through MLflow in any case.
    before = None if chosen.registry.tracking_url else ServedBefore(folder / "serving.json")
    scoring = ScoringService(models, deployments, chosen.serving, bill=bill, before=before)
    batches = ScoreBatches(
        models,
        _watched(settings, querier),
        folder,
        meter=meter,
        price=prices.cpu,
        compute=compute_of(settings),
        least_values=chosen.training.process_points,
    )
    _measure(scoring, meters)
    return ModelServing(scoring, deployments, batches, ScoreLog(told), models, chosen.serving.warm)


def _watched(settings: Settings, querier: MetricQuerier) -> Any:
    """Reads a model's series from the metrics source by the watch list."""

    def read(model: Loaded, query: str, start_ms: int, end_ms: int) -> Batch:
        step = model.state.step_ms
        names = {series_of(key)[0] for key in model.state.series_ids}
        entries = {e.name: e for e in watch_list(settings.detection) if e.step_ms == step}
        entries |= {e.name: e for e in rule_entries(sorted(names - set(entries)), step)}
        wanted = [e for name, e in entries.items() if name in names and query in ("", e.query, e.name)]
        if not wanted:
            raise InvalidInput(
                f"{model.reference} was not trained on '{query[:200]}'.",
                hint="Give a watched query or its name, or none for all.",
            )
        first = -(-start_ms // step) * step
        found = Reader(querier).read(wanted, first, end_ms - 1, step, settings.detection.max_series)
        return found.batch(sorted(found.rows))

    return read


def _measure(scoring: ScoringService, meters: MeterProvider | None) -> None:
    """The workers' state in the service's own metrics."""
    from opentelemetry import metrics
    from opentelemetry.metrics import CallbackOptions, Observation

    meter = metrics.get_meter("aiops.models", meter_provider=meters)

    def gauge(name: str, about: str, unit: str, pick: Any) -> None:
        def read(_: CallbackOptions) -> list[Observation]:
            state = scoring.state()
            found = {"stable": state.stable, "candidate": state.candidate}
            return [Observation(pick(load), {"served_by": who}) for who, load in found.items()]

        meter.create_observable_gauge(name, [read], unit, about)

    gauge("aiops.scoring.workers", "Workers that score requests.", "{worker}", lambda load: load.workers)
    gauge("aiops.scoring.waiting", "Requests that wait for a worker.", "{request}", lambda load: load.waiting)
    gauge("aiops.scoring.wait_p99", "Wait of the latest requests, 99 %.", "s", lambda load: load.wait_p99_ms / 1000)

    def counted(name: str, about: str, pick: Any) -> None:
        def read(_: CallbackOptions) -> list[Observation]:
            return [Observation(value, labels) for value, labels in pick(scoring.state())]

        meter.create_observable_counter(name, [read], "{count}", about)

    counted(
        "aiops.scoring.series",
        "Series scored, by who served them.",
        lambda s: [(s.series_stable, {"served_by": "stable"}), (s.series_candidate, {"served_by": "candidate"})],
    )
    counted(
        "aiops.scoring.refused",
        "Requests that were not answered: too much in hand, or no time.",
        lambda s: [(s.shed, {"reason": "shed"}), (s.late, {"reason": "late"})],
    )
    counted(
        "aiops.scoring.fallbacks",
        "Requests that the champion answered in a candidate's stead.",
        lambda s: [(s.fallbacks, {})],
    )
