"""Incidents to Jira Service Management, or to Opsgenie."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr

from aiops.core.incident import Notification, NotificationEvent, Severity
from aiops.core.ports import Notifier, PluginContext, PluginOptions
from connectors import incident_text as words
from connectors.http import client

_PRIORITY = {Severity.CRITICAL: "P1", Severity.WARNING: "P3", Severity.INFO: "P5"}


class JiraServiceManagementOptions(PluginOptions):
    """``api_key`` is an API integration's key. ``url`` may be ``https://api.opsgenie.com`` (or ``.eu.``) instead.

    ``responders`` are team names that the alert is routed to.
    """

    api_key: SecretStr
    url: str = "https://api.atlassian.com/jsm/ops/integration"
    responders: tuple[str, ...] = ()
    tags: tuple[str, ...] = ("aiops",)
    public_url: str = ""
    timeout_s: float = Field(10.0, gt=0, le=30)


class JiraServiceManagement(Notifier[JiraServiceManagementOptions]):
    """Alerts of Jira Service Management's operations (Opsgenie's alert API): created with the incident id as alias,
    acknowledged and closed by it; news become notes. A repeated creation only counts up, so nobody is paged twice.
    Pages by default.
    """

    Options = JiraServiceManagementOptions
    pages = True

    def __init__(self, options: JiraServiceManagementOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        key = SecretStr(f"GenieKey {options.api_key.get_secret_value()}")
        self._client = client(
            context.name,
            options.url.rstrip("/"),
            headers={"authorization": key},
            timeout_s=options.timeout_s,
            attempts=1,
        )

    def notify(self, notification: Notification) -> str:
        alias, note = notification.dedup_key, {"source": "aiops", "note": words.news(notification)}
        match notification.event:
            case NotificationEvent.OPENED:
                self._client.post("/v2/alerts", json=self._alert(notification))
            case NotificationEvent.UPDATED:
                self._of(alias, "notes", {**note, "note": words.plain(notification)[:25_000]})
            case NotificationEvent.ACKNOWLEDGED:
                self._of(alias, "acknowledge", {**note, "user": notification.incident.assignee[:100]})
            case NotificationEvent.RESOLVED:
                self._of(alias, "close", note)
            case NotificationEvent.TEST:
                self._client.post("/v2/alerts", json=self._alert(notification))
                self._of(alias, "close", note)
        return alias

    def close(self) -> None:
        self._client.close()

    def _of(self, alias: str, action: str, body: dict[str, Any]) -> None:
        self._client.post(f"/v2/alerts/{alias}/{action}", params={"identifierType": "alias"}, json=body)

    def _alert(self, notification: Notification) -> dict[str, Any]:
        incident = notification.incident
        details = {"incident": incident.id, **{name.lower(): value for name, value in words.facts(incident)}}
        if address := words.link(incident, self.options.public_url):
            details["link"] = address
        body: dict[str, Any] = {
            "message": words.subject(incident)[:130],
            "alias": notification.dedup_key,
            "description": words.plain(notification, self.options.public_url)[:15_000],
            "priority": _PRIORITY[incident.severity],
            "entity": incident.service[:512],
            "source": "aiops",
            "tags": list(self.options.tags)[:20],
            "details": details,
        }
        if self.options.responders:
            body["responders"] = [{"type": "team", "name": name} for name in self.options.responders]
        return body
