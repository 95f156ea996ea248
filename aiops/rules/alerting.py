"""The state of an alerting rule's alerts: pending, firing, inactive, as Prometheus moves them. Times are ms UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, Labels, labels_of

ALERTS = "ALERTS"
FOR_STATE = "ALERTS_FOR_STATE"
RESOLVED_MS = 900_000
"""An ended alert is kept this long while nobody took its end."""
GRACE_MS = 600_000
"""After a restart, an alert whose ``for`` is at least this long waits at least this long before it fires."""


class AlertState(StrEnum):
    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


@dataclass(slots=True)
class ActiveAlert:
    """One label set of a rule. Times are 0 where it has not happened."""

    labels: Labels
    annotations: Mapping[str, str]
    value: float
    active_ms: int
    state: AlertState = AlertState.PENDING
    fired_ms: int = 0
    resolved_ms: int = 0
    kept_since_ms: int = 0
    sent_ms: int = 0
    end_sent: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What the expression gave for a label set."""

    value: float
    annotations: Mapping[str, str] = field(default_factory=dict)


class AlertTable:
    """The alerts of one rule.

    Args:
        for_ms: how long an alert is pending before it fires.
        keep_ms: how long it goes on firing after its last result.
        limit: most pending and firing alerts, 0 for no limit.
    """

    def __init__(self, for_ms: int = 0, keep_ms: int = 0, limit: int = 0) -> None:
        self.for_ms = for_ms
        self.keep_ms = keep_ms
        self.limit = limit
        self.alerts: dict[Labels, ActiveAlert] = {}

    def add(self, ts_ms: int, found: Mapping[Labels, Found]) -> None:
        """Bring in an evaluation's results. :meth:`move` follows."""
        for labels, result in found.items():
            held = self.alerts.get(labels)
            if held is not None and held.state is not AlertState.INACTIVE:
                held.value, held.annotations = result.value, result.annotations
                continue
            self.alerts[labels] = ActiveAlert(labels, result.annotations, result.value, ts_ms)

    def restore(self, alert: ActiveAlert, ts_ms: int, down_ms: int, active_ms: int) -> None:
        """Go on after a restart: it was active since ``active_ms`` and last seen at ``down_ms``.

        One that fired fires on. A pending one is given the time back that nobody looked.
        """
        remaining = self.for_ms - (down_ms - active_ms)
        if remaining <= 0:
            alert.active_ms = active_ms
        elif remaining < GRACE_MS <= self.for_ms:
            alert.active_ms = ts_ms + GRACE_MS - self.for_ms
        else:
            alert.active_ms = active_ms + (ts_ms - down_ms)

    def move(self, ts_ms: int, found: Iterable[Labels]) -> list[ActiveAlert]:
        """Move all states on; gives the pending and firing alerts.

        Raises ``QueryError`` when they are more than the limit; all are forgotten then, as Prometheus does.
        """
        present = set(found)
        live = []
        for labels, alert in list(self.alerts.items()):
            if labels in present:
                alert.kept_since_ms = 0
            elif not self._kept(alert, ts_ms):
                if alert.state is AlertState.PENDING or (
                    alert.state is AlertState.INACTIVE and (alert.end_sent or ts_ms - alert.resolved_ms > RESOLVED_MS)
                ):
                    del self.alerts[labels]
                if alert.state is not AlertState.INACTIVE:
                    alert.state, alert.resolved_ms = AlertState.INACTIVE, ts_ms
                continue
            if alert.state is AlertState.PENDING and ts_ms - alert.active_ms >= self.for_ms:
                alert.state, alert.fired_ms = AlertState.FIRING, ts_ms
            live.append(alert)
        if self.limit > 0 and len(live) > self.limit:
            self.alerts.clear()
            raise QueryError(f"exceeded limit of {self.limit} with {len(live)} alerts", kind="execution")
        return live

    def _kept(self, alert: ActiveAlert, ts_ms: int) -> bool:
        if alert.state is not AlertState.FIRING or self.keep_ms <= 0:
            return False
        alert.kept_since_ms = alert.kept_since_ms or ts_ms
        return ts_ms - alert.kept_since_ms < self.keep_ms

    def to_send(self, ts_ms: int, resend_ms: int) -> list[ActiveAlert]:
        """Firing alerts not told for ``resend_ms``, and ended ones whose end is untold."""
        return [
            a
            for a in self.alerts.values()
            if (a.state is AlertState.FIRING and (not a.sent_ms or ts_ms - a.sent_ms >= resend_ms))
            or (a.state is AlertState.INACTIVE and a.fired_ms and not a.end_sent)
        ]


def state_samples(name: str, alerts: Iterable[ActiveAlert]) -> list[tuple[Labels, float]]:
    """The ``ALERTS`` and ``ALERTS_FOR_STATE`` samples of pending and firing alerts."""
    rows = []
    for alert in alerts:
        base = {**dict(alert.labels), "alertname": name}
        rows.append((labels_of({**base, METRIC_NAME: ALERTS, "alertstate": alert.state.value}), 1.0))
        rows.append((labels_of({**base, METRIC_NAME: FOR_STATE}), float(alert.active_ms // 1000)))
    return rows
