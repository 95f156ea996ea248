"""Incidents to any HTTP endpoint."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime
from typing import Any, Literal

from cloudevents.core.bindings.http import to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import Field, SecretStr, field_validator
from standardwebhooks.webhooks import Webhook as Signer

from aiops.core.anomaly import Anomaly
from aiops.core.incident import Alert, CauseCandidate, Incident, Notification, NotificationEvent
from aiops.core.ports import Notifier, PluginContext, PluginOptions
from connectors.http import client
from connectors.incident_text import link


class WebhookOptions(PluginOptions):
    """``secret`` is Standard Webhooks' base64 key, with or without ``whsec_``; empty sends unsigned."""

    url: SecretStr
    secret: SecretStr = SecretStr("")
    format: Literal["cloudevents", "alertmanager"] = "cloudevents"
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    timeout_s: float = Field(10.0, gt=0, le=30)
    public_url: str = ""
    """Where people reach this service, for links."""

    @field_validator("secret")
    @classmethod
    def base64_secret(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value().removeprefix("whsec_")
        try:
            base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError as error:
            raise ValueError("the signing secret must be base64") from error
        return value


class Webhook(Notifier[WebhookOptions]):
    """Posts each change of an incident as a CloudEvents 1.0 JSON event, signed as Standard Webhooks.

    ``webhook-id`` is the notification's id, so a receiver drops repeats by it. With ``format: alertmanager``
    the body has the shape of Alertmanager's webhook (version 4) instead, for receivers that know that one.
    """

    Options = WebhookOptions

    def __init__(self, options: WebhookOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._client = client(context.name, headers=options.headers, timeout_s=options.timeout_s, attempts=1)
        secret = options.secret.get_secret_value()
        self._signer = Signer(secret) if secret else None

    def notify(self, notification: Notification) -> str:
        if self.options.format == "alertmanager":
            content_type = "application/json"
            body = json.dumps(alertmanager_payload(notification, self.options.public_url), allow_nan=False).encode()
        else:
            message = to_structured(self._event(notification), JSONFormat())
            content_type, body = "application/cloudevents+json", bytes(message.body)
        headers = {"content-type": content_type, "webhook-id": notification.id}
        if self._signer is not None:
            at = datetime.fromtimestamp(self.context.clock() // 1000, UTC)
            headers["webhook-timestamp"] = str(int(at.timestamp()))
            headers["webhook-signature"] = self._signer.sign(notification.id, at, body.decode())
        self._client.post(self.options.url.get_secret_value(), content=body, headers=headers)
        return ""

    def close(self) -> None:
        self._client.close()

    def _event(self, notification: Notification) -> CloudEvent:
        return CloudEvent(
            {
                "id": notification.id,
                "source": self.options.public_url or "urn:aiops-assistant",
                "type": f"aiops.incident.{notification.event.value}",
                "subject": notification.incident.id,
                "time": datetime.fromtimestamp(notification.created_ms / 1000, UTC),
                "datacontenttype": "application/json",
            },
            incident_json(notification.incident, self.options.public_url),
        )


def incident_json(incident: Incident, public_url: str = "") -> dict[str, Any]:
    """An incident with its evidence as JSON values; text from telemetry in its display form."""
    return {
        "id": incident.id,
        "status": incident.status.value,
        "severity": incident.severity.value,
        "title": incident.title,
        "service": incident.service,
        "opened_at": _iso(incident.opened_ms),
        "updated_at": _iso(incident.updated_ms),
        "resolved_at": _iso(incident.resolved_ms),
        "assignee": incident.assignee,
        "merged_into": incident.merged_into,
        "simulated": incident.simulated,
        "clear_cause": incident.clear_cause,
        "candidates": [_candidate(c) for c in incident.candidates],
        "signals": [{**_alert(s.alert), "linked_because": s.reason} for s in incident.signals],
        "timeline": [
            {"at": _iso(e.time_ms), "actor": e.actor, "event": e.event, "detail": e.detail}
            for e in incident.timeline[-50:]
        ],
        "links": {"incident": link(incident, public_url)} if public_url else {},
    }


def alertmanager_payload(notification: Notification, public_url: str = "") -> dict[str, Any]:
    """The body of Alertmanager's webhook, version 4, with the incident as its one alert."""
    incident = notification.incident
    over = notification.event is NotificationEvent.RESOLVED
    labels = {"alertname": "AiopsIncident", "incident": incident.id, "severity": incident.severity.value}
    if incident.service:
        labels["service"] = incident.service
    if incident.simulated:
        labels["simulated"] = "true"
    annotations = {"summary": incident.title, "status": incident.status.value}
    if incident.candidates:
        best = incident.candidates[0]
        words = "likely cause" if incident.clear_cause else "no clear cause, weak candidate"
        annotations["cause"] = f"{words}: {best.service} ({best.share:.0%}) {'; '.join(best.reasons[:3])}".strip()
    status = "resolved" if over else "firing"
    return {
        "version": "4",
        "groupKey": f'{{}}:{{incident="{incident.id}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": notification.receiver,
        "groupLabels": {"incident": incident.id},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": public_url,
        "alerts": [
            {
                "status": status,
                "labels": labels,
                "annotations": annotations,
                "startsAt": _iso(incident.opened_ms),
                "endsAt": (_iso(incident.resolved_ms) if over else None) or "0001-01-01T00:00:00Z",
                "generatorURL": link(incident, public_url),
                "fingerprint": f"{_fnv1a(incident.id):016x}",
            }
        ],
    }


def _fnv1a(text: str) -> int:
    """64-bit FNV-1a, as Alertmanager's fingerprints are."""
    value = 14695981039346656037
    for byte in text.encode():
        value = ((value ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return value


def _candidate(candidate: CauseCandidate) -> dict[str, Any]:
    return {
        "service": candidate.service,
        "share": _number(candidate.share),
        "metric": candidate.metric,
        "before": _number(candidate.before),
        "after": _number(candidate.after),
        "factor": _number(candidate.after / candidate.before) if candidate.before else None,
        "first_deviation_at": _iso(candidate.first_deviation_ms),
        "path": list(candidate.path),
        "reasons": list(candidate.reasons),
        "query": candidate.query,
        "change": candidate.change,
    }


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "fingerprint": alert.fingerprint,
        "kind": alert.kind.value,
        "name": alert.name,
        "labels": dict(alert.labels),
        "severity": alert.severity.value,
        "summary": alert.summary.display(),
        "source": alert.source,
        "starts_at": _iso(alert.starts_ms),
        "ends_at": _iso(alert.ends_ms),
        "link": alert.link,
        "anomaly": _anomaly(alert.anomaly) if alert.anomaly else None,
    }


def _anomaly(anomaly: Anomaly) -> dict[str, Any]:
    return {
        "metric": anomaly.metric,
        "query": anomaly.query,
        "value": _number(anomaly.value),
        "expected": _number(anomaly.expected),
        "lower": _number(anomaly.lower),
        "upper": _number(anomaly.upper),
        "unit": anomaly.unit,
        "model": anomaly.model,
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _iso(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")
