"""Incidents to PagerDuty."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, SecretStr

from aiops.core.incident import Incident, Notification, NotificationEvent
from aiops.core.ports import Notifier, PluginContext, PluginOptions
from aiops.core.signals import ChangeEvent
from aiops.core.untrusted import Untrusted
from connectors.http import client
from connectors.incident_text import link


class PagerDutyOptions(PluginOptions):
    """``routing_key`` is the integration key of an Events API v2 integration."""

    routing_key: SecretStr
    public_url: str = ""
    url: str = "https://events.pagerduty.com"
    timeout_s: float = Field(10.0, gt=0, le=30)


class PagerDuty(Notifier[PagerDutyOptions]):
    """Events API v2: trigger, acknowledge and resolve with the incident id as ``dedup_key``; change events.

    A repeated trigger of an open incident updates it without paging anyone again. Pages by default, so it is
    not told of incidents that are made of anomalies alone.
    """

    Options = PagerDutyOptions
    pages = True
    shows_changes = True

    def __init__(self, options: PagerDutyOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._client = client(context.name, options.url, timeout_s=options.timeout_s, attempts=1)

    def notify(self, notification: Notification) -> str:
        body = self._body(notification)
        self._client.post("/v2/enqueue", json=body)
        if notification.event is NotificationEvent.TEST:
            # A test must not leave an open incident behind.
            over = {k: body[k] for k in ("routing_key", "dedup_key")} | {"event_action": "resolve"}
            self._client.post("/v2/enqueue", json=over)
        return notification.dedup_key

    def changed(self, change: ChangeEvent) -> None:
        """A change event (https://developer.pagerduty.com/docs/send-change-event): shown, never paged."""
        details = {"kind": change.kind, "author": change.author, "environment": change.environment}
        body: dict[str, Any] = {
            "routing_key": self.options.routing_key.get_secret_value(),
            "payload": {
                "summary": change.title.display(1024) or change.kind,
                "source": change.service or "aiops",
                "timestamp": datetime.fromtimestamp(change.time_ms / 1000, UTC).isoformat(),
                "custom_details": {k: v for k, v in {**dict(change.attributes), **details}.items() if v},
            },
        }
        if change.link.startswith(("https://", "http://")):
            body["links"] = [{"href": change.link, "text": "The change"}]
        self._client.post("/v2/change/enqueue", json=body)

    def close(self) -> None:
        self._client.close()

    def _body(self, notification: Notification) -> dict[str, Any]:
        incident, action = notification.incident, _action(notification.event)
        body: dict[str, Any] = {
            "routing_key": self.options.routing_key.get_secret_value(),
            "event_action": action,
            "dedup_key": notification.dedup_key,
        }
        if action == "trigger":
            body["payload"] = {
                "summary": incident.title[:1024],
                "source": incident.service or "aiops",
                "severity": incident.severity.value,
                "timestamp": datetime.fromtimestamp(incident.opened_ms / 1000, UTC).isoformat(),
                "component": incident.service,
                "custom_details": _details(incident),
            }
            body["client"] = "aiops"
            if address := link(incident, self.options.public_url):
                body["client_url"] = address
                body["links"] = [{"href": address, "text": f"Incident {incident.id}"}]
        return body


def _action(event: NotificationEvent) -> Literal["trigger", "acknowledge", "resolve"]:
    match event:
        case NotificationEvent.RESOLVED:
            return "resolve"
        case NotificationEvent.ACKNOWLEDGED:
            return "acknowledge"
        case _:
            return "trigger"


def _details(incident: Incident) -> dict[str, Any]:
    """Well below PagerDuty's 512 kB."""
    causes = [
        {
            "service": c.service,
            "share": f"{c.share:.0%}",
            "why": list(c.reasons[:5]),
            "metric": c.metric,
            "before": c.before if math.isfinite(c.before) else None,
            "after": c.after if math.isfinite(c.after) else None,
            "path": " -> ".join(c.path),
            "change": c.change,
        }
        for c in incident.candidates[:3]
    ]
    return {
        "incident": incident.id,
        "simulated": incident.simulated,
        "clear_cause": incident.clear_cause,
        "causes": causes,
        "signals": [
            Untrusted(f"{s.alert.name} on {s.alert.service}: {s.reason}").display(300) for s in incident.signals[:20]
        ],
    }
