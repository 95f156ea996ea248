"""Signals for tests of incidents."""

from __future__ import annotations

from aiops.core.anomaly import Anomaly
from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.series import labels_of
from aiops.core.untrusted import Untrusted

T0 = 1_700_000_000_000
MINUTE = 60_000


def anomaly(service: str, metric: str = "latency p95", start: int = T0, **labels: str) -> Alert:
    pairs = labels_of({"service_name": service, **labels})
    found = Anomaly(
        id=f"{service}-{metric}",
        series=pairs,
        service=service,
        metric=metric,
        query=f'{metric.replace(" ", "_")}{{service_name="{service}"}}',
        kind="latency",
        direction="up",
        started_ms=start,
        updated_ms=start,
        ended_ms=None,
        value=1.9,
        expected=0.24,
        lower=0.2,
        upper=0.3,
        score=9.0,
        p_value=1e-6,
        unit="s",
    )
    return Alert(
        fingerprint=fingerprint(labels_of([*pairs, ("__name__", metric)])),
        kind=SignalKind.ANOMALY,
        name=f"{metric} high",
        labels=pairs,
        severity=Severity.WARNING,
        starts_ms=start,
        updated_ms=start,
        source="aiops detection",
        anomaly=found,
    )


def alert(
    name: str, start: int = T0, severity: Severity = Severity.CRITICAL, summary: str = "", **labels: str
) -> Alert:
    pairs = labels_of({"alertname": name, **labels})
    return Alert(
        fingerprint=fingerprint(pairs),
        kind=SignalKind.ALERT,
        name=name,
        labels=pairs,
        severity=severity,
        starts_ms=start,
        updated_ms=start,
        summary=Untrusted(summary),
        source="alertmanager",
    )
