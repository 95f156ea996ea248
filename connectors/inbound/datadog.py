"""Alerts from Datadog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiops.core.incident import Alert, Severity, severity_named
from aiops.core.ports import Inbound, InboundParser
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender

PAYLOAD = """{
  "alert_id": "$ALERT_ID", "alert_cycle_key": "$ALERT_CYCLE_KEY", "title": "$ALERT_TITLE",
  "transition": "$ALERT_TRANSITION", "scope": "$ALERT_SCOPE", "priority": "$ALERT_PRIORITY",
  "type": "$ALERT_TYPE", "tags": "$TAGS", "hostname": "$HOSTNAME", "query": "$ALERT_QUERY",
  "metric": "$ALERT_METRIC", "date": "$DATE", "link": "$LINK", "message": "$TEXT_ONLY_MSG", "org": "$ORG_NAME"
}"""
"""What to enter as the payload of the webhook in Datadog's Webhooks integration."""


class DatadogOptions(SenderOptions):
    """Set a custom header in the integration, such as ``Authorization: Bearer …``, and ``bearer_token`` here."""


class Datadog(InboundParser[DatadogOptions]):
    """A monitor's webhook, with the payload of :data:`PAYLOAD`. Its ``transition`` says whether it triggered, was
    re-triggered, warns, has no data or recovered; a monitor and its scope are one alert.
    """

    Options = DatadogOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        return Inbound(tuple(self._alert(item) for item in payloads.objects_of(payloads.json_of(body))))

    def _alert(self, item: dict[str, Any]) -> Alert:
        monitor = payloads.required(item, "alert_id")
        transition = payloads.required(item, "transition").lower()
        scope, tags = _pairs(payloads.text(item, "scope")), _pairs(payloads.text(item, "tags", cap=payloads.TEXT_CAP))
        host = payloads.text(item, "hostname")
        labels = {"monitor_id": monitor, **scope}
        for key in ("service", "env"):
            labels.setdefault(key, tags.get(key, ""))
        labels["service"] = labels["service"] or labels.get("host", "") or host
        name = payloads.text(item, "title").partition("] ")[2] or payloads.text(item, "title") or f"monitor {monitor}"
        at = payloads.time_ms(item, "date")
        return payloads.alert(
            self.context,
            name,
            labels,
            _severity(payloads.text(item, "priority"), payloads.text(item, "type"), transition),
            firing=not transition.startswith("recovered"),
            starts_ms=at,
            ends_ms=at,
            summary=payloads.text(item, "message", cap=payloads.TEXT_CAP) or name,
            link=payloads.web_link(item, "link"),
            annotations={
                "query": payloads.text(item, "query"),
                "tags": payloads.text(item, "tags", cap=payloads.TEXT_CAP),
            },
            identity={"monitor": monitor, "scope": payloads.text(item, "scope")},
        )


def _pairs(text: str) -> dict[str, str]:
    """``service:web,env:prod,canary`` as labels; tags without a value are left out."""
    parts = (part.strip().partition(":") for part in text.split(","))
    return {key: value for key, colon, value in list(parts)[: payloads.MAX_LABELS // 2] if key and colon and value}


def _severity(priority: str, kind: str, transition: str) -> Severity:
    if priority and priority.lower() != "null":
        return severity_named(priority)
    return Severity.WARNING if "warn" in transition or kind.lower() == "warning" else severity_named(kind)
