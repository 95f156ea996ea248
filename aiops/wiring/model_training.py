"""Training of models and its money: what computes, who is asked for leave, what is booked where."""

from __future__ import annotations

from aiops.core.principal import SYSTEM
from aiops.jobs.compute import Compute, InThread
from aiops.jobs.processes import Processes
from aiops.jobs.ray_cluster import RayCluster
from aiops.models.metering import Metering
from aiops.settings import Settings
from aiops.store.state.database import StateDatabase
from aiops.store.state.model_uses import ModelUseRepository
from aiops.store.telemetry.store import TelemetryStore


def metering(settings: Settings, state: StateDatabase, store: TelemetryStore) -> Metering:
    """The ledger of the model layer, booked among the costs."""
    return Metering(
        ModelUseRepository(state),
        settings.models.cost,
        llm_per_day=settings.agent.llm.max_cost_per_day,
        book=store,
        currencies=lambda: store.cost_values("BillingCurrency", SYSTEM),
    )


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
