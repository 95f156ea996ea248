"""Incidents to Alertmanager, which routes and groups them as it does the user's own alerts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, SecretStr

from aiops.core.incident import Incident, Notification, NotificationEvent
from aiops.core.ports import Notifier, PluginContext, PluginOptions
from connectors import incident_text as words
from connectors.http import client

RESEND_S = 60.0
KEPT_ALIVE_MS = int(4 * RESEND_S * 1000)
"""A firing alert ends by itself after so long without a repeat, as Prometheus' alerts do."""


class AlertmanagerOptions(PluginOptions):
    """``url`` is Alertmanager's base URL, with its route prefix if it has one. ``labels`` are added to each alert."""

    url: str
    bearer_token: SecretStr = SecretStr("")
    basic_username: str = ""
    basic_password: SecretStr = SecretStr("")
    labels: dict[str, str] = Field(default_factory=dict)
    public_url: str = ""
    timeout_s: float = Field(10.0, gt=0, le=30)


class Alertmanager(Notifier[AlertmanagerOptions]):
    """An incident is an alert ``AiopsIncident`` of Alertmanager's API v2, repeated each minute with ``endsAt`` four
    minutes ahead; a resolved one is repeated for 15 minutes, so that a restarted Alertmanager hears of it too.
    Pages by default. Our own alerts are never taken in again where Alertmanager's webhook leads back to us.
    """

    Options = AlertmanagerOptions
    pages = True
    refresh_s = RESEND_S

    def __init__(self, options: AlertmanagerOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        token = options.bearer_token.get_secret_value()
        self._client = client(
            context.name,
            options.url.rstrip("/"),
            headers={"authorization": SecretStr(f"Bearer {token}")} if token else {},
            auth=(options.basic_username, options.basic_password) if options.basic_username else None,
            timeout_s=options.timeout_s,
            attempts=1,
        )

    def notify(self, notification: Notification) -> str:
        over = notification.event in (NotificationEvent.RESOLVED, NotificationEvent.TEST)
        self._send([self._alert(notification.incident, over=over)])
        return notification.dedup_key

    def refresh(self, incidents: Sequence[Incident]) -> None:
        self._send([self._alert(incident, over=not incident.active) for incident in incidents])

    def close(self) -> None:
        self._client.close()

    def _send(self, alerts: list[dict[str, Any]]) -> None:
        self._client.post("/api/v2/alerts", json=alerts)

    def _alert(self, incident: Incident, *, over: bool) -> dict[str, Any]:
        now = self.context.clock()
        labels = {
            **self.options.labels,
            "alertname": "AiopsIncident",
            "incident": incident.id,
            "service": incident.service,
            "simulated": "true" if incident.simulated else "",
        }
        annotations = {
            "summary": words.subject(incident),
            "severity": incident.severity.value,
            "status": incident.status.value,
            "cause": "\n".join(words.causes(incident, 1 if incident.clear_cause else 3)),
        }
        ends = min(incident.resolved_ms or now, now) if over else now + KEPT_ALIVE_MS
        return {
            "labels": {name: value for name, value in labels.items() if value},
            "annotations": {name: value for name, value in annotations.items() if value},
            "startsAt": _iso(min(incident.opened_ms, now)),
            "endsAt": _iso(max(ends, incident.opened_ms)),
            "generatorURL": words.link(incident, self.options.public_url),
        }


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
