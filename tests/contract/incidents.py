"""An incident as notifiers meet it, with hostile text where text can be hostile."""

from __future__ import annotations

from dataclasses import replace

from aiops.core.anomaly import Anomaly
from aiops.core.incident import (
    Alert,
    CauseCandidate,
    Incident,
    IncidentSignal,
    IncidentStatus,
    Notification,
    NotificationEvent,
    Severity,
    SignalKind,
    TimelineEntry,
)
from aiops.core.untrusted import Untrusted

T0 = 1_700_000_000_000
HOSTILE = "<!channel> <http://evil|click> & \u202e \x00 @here"

INCIDENT = Incident(
    id="INC-7",
    status=IncidentStatus.OPEN,
    severity=Severity.CRITICAL,
    title="checkout: latency p95 1.9 s, 7.9x normal",
    service="checkout",
    opened_ms=T0,
    updated_ms=T0 + 1000,
    signals=(
        IncidentSignal(
            Alert(
                fingerprint="00ff",
                kind=SignalKind.ALERT,
                name=f"Slow {HOSTILE}",
                labels=(("alertname", "Slow"), ("service", "checkout")),
                severity=Severity.CRITICAL,
                starts_ms=T0,
                updated_ms=T0,
                summary=Untrusted(HOSTILE),
                anomaly=Anomaly(
                    "a1",
                    (),
                    "checkout",
                    "latency p95",
                    "q",
                    "latency",
                    "up",
                    T0,
                    T0,
                    None,
                    1.9,
                    float("nan"),
                    0,
                    1,
                    9,
                    0,
                ),
            ),
            "opened the incident",
            T0,
        ),
    ),
    candidates=(
        CauseCandidate(
            "cart",
            0.71,
            "cpu",
            0.2,
            0.95,
            T0 - 5000,
            ("cart", "checkout"),
            ("cpu 20 % → 95 % (4.8x normal)", f"new log line, 12 times: «{Untrusted(HOSTILE)}»"),
            "rate(cpu[1m])",
            "deploy: cart 1.2.3, 4 min before the onset",
        ),
        CauseCandidate("db", 0.1),
    ),
    clear_cause=True,
    timeline=(TimelineEntry(T0, "alertmanager", "opened", "checkout"),),
    simulated=True,
    told=("it",),
)


def notification(event: NotificationEvent, thread: str = "", number: int = 1) -> Notification:
    incident = INCIDENT
    if event is NotificationEvent.RESOLVED:
        incident = replace(incident, status=IncidentStatus.RESOLVED, resolved_ms=T0 + 60_000)
    if event is NotificationEvent.ACKNOWLEDGED:
        incident = replace(incident, status=IncidentStatus.ACKNOWLEDGED, assignee="key:alice")
    return Notification(f"5f0c9a3e-0000-4000-8000-{number:012d}", "it", event, incident, T0, "INC-7", thread)
