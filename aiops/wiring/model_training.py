"""Training of models and its money: what computes, who is asked for leave, what is booked where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiops.core.job import BATCH, TRAINING
from aiops.core.model import ModelUse, UseKind
from aiops.core.ports import Detector, system_clock
from aiops.core.principal import SYSTEM
from aiops.jobs.compute import Compute, InThread
from aiops.jobs.processes import Processes
from aiops.jobs.ray_cluster import RayCluster
from aiops.models.metering import Metering
from aiops.models.prices import Prices
from aiops.models.training import Trainer
from aiops.settings import Settings
from aiops.store.state.database import StateDatabase
from aiops.store.state.model_uses import ModelUseRepository
from aiops.store.telemetry.store import TelemetryStore
from aiops.wiring.lifetime import Lifetime
from aiops.wiring.model_registry import ModelRecords

DETECTION = "system:detection"


def metering(settings: Settings, state: StateDatabase, store: TelemetryStore) -> Metering:
    """The ledger of the model layer, booked among the costs."""
    return Metering(
        ModelUseRepository(state),
        settings.models.cost,
        llm_per_day=settings.agent.llm.max_cost_per_day,
        book=store,
        currencies=lambda: store.cost_values("BillingCurrency", SYSTEM),
    )


def trainer_of(
    settings: Settings, records: ModelRecords, detector: Detector[Any], meter: Metering, lifetime: Lifetime
) -> Trainer:
    """What trains a detector by the settings. Raises ``ConfigError`` where the executor's extra is not installed."""
    compute = compute_of(settings)
    lifetime.on_stop(compute.close)
    chosen = settings.models.training
    return Trainer(
        records.registry,
        detector,
        compute=compute,
        least_points=chosen.process_points,
        datasets=records.datasets,
        meter=meter,
        prices=Prices(settings.models.cost),
        calibration_days=chosen.calibration_days,
    )


def live_bill(settings: Settings, meter: Metering) -> Callable[[str, int, float], None]:
    """Books the scores of the live loop; no budget stops them."""
    prices = Prices(settings.models.cost)

    def book(reference: str, series: int, seconds: float) -> None:
        name, _, version = reference.rpartition("/")
        now, cost = system_clock(), prices.cpu(seconds)
        meter.record(ModelUse(name or reference, version, UseKind.SCORE, DETECTION, now, float(series), "values", cost))

    return book


def pools_of(settings: Settings) -> dict[str, int]:
    """Threads of each pool of jobs."""
    chosen = settings.models.training
    return {TRAINING: chosen.jobs_at_once, BATCH: chosen.batch_jobs_at_once}


def compute_of(settings: Settings) -> Compute:
    """What ``models.training.executor`` names. Raises ``ConfigError`` where its extra is not installed."""
    chosen = settings.models.training
    match chosen.executor:
        case "ray":
            return RayCluster(chosen.ray_address)
        case "process":
            return Processes(chosen.processes, chosen.threads, chosen.niceness)
        case _:
            return InThread()
