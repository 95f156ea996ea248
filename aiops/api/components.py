"""What the readiness page says of the store, sources and detection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiops.api.services import Component, ComponentState

if TYPE_CHECKING:
    from aiops.incidents.detection import DetectionLoop
    from aiops.incidents.oncall import OnCall
    from aiops.incidents.watchdogs import Watchdogs
    from aiops.ingest.collector import SourceStatus
    from aiops.ingest.signal_series import SeriesStatus
    from aiops.models.metering import Metering
    from aiops.models.scoring import ScoringService
    from aiops.store.telemetry.store import TelemetryStore


def store_component(store: TelemetryStore) -> Component:
    """The telemetry store's state; one that met damage in its file goes on with what it can read."""
    if not store.healthy():
        return Component("store", ComponentState.DOWN, required=True)
    trouble = store.trouble()
    return Component("store", ComponentState.DEGRADED if trouble else ComponentState.READY, trouble, required=True)


def source_components(statuses: Iterable[SourceStatus]) -> list[Component]:
    """One component a polled source; one that lags or fails is degraded, and says why."""
    states = {"ok": ComponentState.READY, "starting": ComponentState.STARTING}
    return [
        Component(
            f"source:{s.name}", states.get(s.state, ComponentState.DEGRADED), "" if s.state == "ok" else s.last_error
        )
        for s in statuses
    ]


def scoring_component(service: ScoringService) -> Component:
    """The workers that score requests; degraded where requests wait longer than the objective."""
    state = service.state()
    load = state.stable
    late = load.workers >= load.maximum and load.waiting > 0 and load.wait_p50_ms > load.objective_ms
    serving = ", ".join(sorted(state.champions.values())) or "no model yet"
    trials = "".join(f"; trying {reference}" for reference in sorted(state.candidates.values()))
    workers = f"{load.workers} workers of {load.minimum} to {load.maximum}, wait p99 {load.wait_p99_ms:.0f} ms"
    return Component(
        "scoring", ComponentState.DEGRADED if late else ComponentState.READY, f"{workers}; {serving}{trials}"
    )


def budget_components(meter: Metering) -> list[Component]:
    """A component where a budget of models is used up today, naming what is refused; none otherwise."""
    used_up = [one for one in meter.budgets() if one.state == "used_up"]
    said = "; ".join(f"{one.name}: {one.spent:.2f} of {one.budget.per_day:g} USD" for one in used_up)
    return [Component("model budgets", ComponentState.DEGRADED, f"used up until the next UTC day: {said}")] * bool(said)


def signal_components(status: SeriesStatus | None) -> list[Component]:
    """The series made of logs and spans; degraded where some of them are left out."""
    if status is None:
        return []
    left = {"past the limit": status.refused, "too late": status.late, "behind": status.skipped}
    said = ", ".join(f"{count:,} events {why}" for why, count in left.items() if count)
    state = ComponentState.DEGRADED if status.refused or status.skipped else ComponentState.READY
    return [
        Component("signal series", state, f"{status.series:,} counters and histograms" + (f"; {said}" if said else ""))
    ]


def detection_component(loop: DetectionLoop | None, *, enabled: bool, running: bool, failed: str) -> Component:
    """The detection's state.

    Args:
        loop: once it is loaded.
        running: the service listens; a command that answers in-process detects nothing.
        failed: why it could not be started, or empty.
    """
    if not enabled:
        return Component("detection", ComponentState.READY, "switched off")
    if not running:
        return Component("detection", ComponentState.DOWN, "no service runs")
    if loop is None:
        return Component("detection", ComponentState.DOWN if failed else ComponentState.STARTING, failed)
    status = loop.status()
    if status.source:
        return Component("detection", ComponentState.DEGRADED, status.source)
    if status.training or not loop.trained:
        return Component("detection", ComponentState.STARTING, "training" if status.training else "too little history")
    watched = sum(group.watched for group in status.groups)
    load = f"; {status.load}" if status.load else ""
    return Component("detection", ComponentState.READY, f"{watched} series watched{load}")


def oncall_components(oncall: OnCall) -> list[Component]:
    """A component for each schedule whose last reading failed; what was read before still holds."""
    return [Component(f"schedule {name}", ComponentState.DEGRADED, reason) for name, reason in oncall.failing().items()]


def watchdog_components(watchdogs: Watchdogs) -> list[Component]:
    """A component for each heartbeat that should always come; one that is missing is degraded."""
    return [
        Component(
            f"heartbeat {name}",
            ComponentState.DEGRADED if missing else ComponentState.READY,
            "not heard: alerts may not arrive" if missing else "",
        )
        for name, _heard_ms, missing in watchdogs.states()
    ]
