"""The drift watch, cards, comparisons and exports, by the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiops.core.errors import AiopsError
from aiops.core.ports import JobProgress, system_clock
from aiops.incidents.readings import series_of
from aiops.models.drift import DriftWatch
from aiops.models.metering import Metering
from aiops.models.oversight import Oversight
from aiops.models.registry import CHAMPION
from aiops.models.training_jobs import DRIFT, URGENT, TrainingJobs
from aiops.settings import Settings
from aiops.store.state.audit import AuditLog
from aiops.store.state.database import StateDatabase
from aiops.store.state.deployments import DeploymentRepository
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.drift import DriftRepository
from aiops.store.state.marks import MarkRepository
from aiops.wiring.model_registry import ModelRecords
from aiops.wiring.model_serving import ModelServing

log = logging.getLogger(__name__)

DRIFT_KIND = "drift"
REPORTS_KEPT_MS = 400 * 86_400_000


@dataclass(frozen=True, slots=True)
class ModelOversight:
    watch: DriftWatch
    oversight: Oversight
    records: ModelRecords
    reports: DriftRepository

    def check_all(self, arguments: Mapping[str, str], progress: JobProgress) -> None:
        """The handler of ``drift`` jobs: every champion that was trained on a snapshot, or ``model``."""
        registry = self.records.registry
        names = [arguments["model"]] if "model" in arguments else registry.names()
        for number, name in enumerate(names):
            champion = registry.get(name, CHAMPION)
            if champion is None or not champion.run_id:
                continue
            try:
                report = self.watch.check(name)
                said = f"{name}: " + ("drifted" if report.drifted else "stable")
            except AiopsError as error:
                log.warning("%s cannot be checked for drift: %s", name, error)
                said = f"{name}: {error}"
            progress((number + 1) / len(names), said)
        self.reports.forget(system_clock() - REPORTS_KEPT_MS)


def model_oversight(
    settings: Settings,
    state: StateDatabase,
    records: ModelRecords,
    serving: ModelServing,
    episodes: DetectionRepository,
    marks: MarkRepository,
    meter: Metering,
    trainings: Callable[[], TrainingJobs],
    audit: AuditLog,
) -> ModelOversight:
    """Built, not started."""
    registry, reports = records.registry, DriftRepository(state)

    def retrain(model: str, reason: str) -> None:
        job = trainings().submit(model, reason, DRIFT, as_challenger=True, priority=URGENT)
        audit.append(DRIFT, "model.train", model, {"job": job.id, "reason": reason})

    def labels(series: str) -> Mapping[str, str]:
        try:
            return dict(series_of(series)[1])
        except ValueError:
            return {}

    watch = DriftWatch(
        registry,
        serving.models.get,
        records.datasets.load,
        serving.batches.source,
        reports,
        settings.models.drift,
        marks=marks.since,
        retrain=retrain,
    )
    oversight = Oversight(
        registry,
        serving.models.get,
        serving.batches.source,
        settings.models.oversight,
        dataset=records.datasets.get,
        deployments=DeploymentRepository(state).list,
        drift=reports.list,
        episodes=episodes,
        marks=marks.since,
        uses=meter.uses,
        labels=labels,
        meter=meter,
    )
    return ModelOversight(watch, oversight, records, reports)
