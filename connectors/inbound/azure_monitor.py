"""Alerts from Azure Monitor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiops.core.errors import InvalidInput
from aiops.core.incident import Alert, Severity
from aiops.core.ports import Inbound, InboundParser
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender

_SEVERITIES = {
    "sev0": Severity.CRITICAL, "sev1": Severity.CRITICAL, "sev2": Severity.WARNING, "sev3": Severity.INFO,
    "sev4": Severity.INFO,
}  # fmt: skip


class AzureMonitorOptions(SenderOptions):
    """An action group's webhook can carry no header: give it a user name and password in its URL."""


class AzureMonitor(InboundParser[AzureMonitorOptions]):
    """An action group's webhook in the common alert schema (``azureMonitorCommonAlertSchema``; enable it on the
    action). ``monitorCondition`` ``Resolved`` ends what ``Fired`` began; one alert for each target resource.
    """

    Options = AzureMonitorOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        data = payloads.object_of(payloads.json_of(body))
        essentials = payloads.part(data, "data", "essentials")
        if not isinstance(essentials, dict):
            raise InvalidInput(
                "The body is not in Azure's common alert schema: it has no data.essentials.",
                hint="Enable the common alert schema on the action.",
            )
        targets = essentials.get("alertTargetIDs")
        named = [t for t in targets if isinstance(t, str)] if isinstance(targets, list) else []
        return Inbound(tuple(self._alert(data, essentials, target) for target in named[:100] or [""]))

    def _alert(self, data: dict[str, Any], essentials: dict[str, Any], target: str) -> Alert:
        rule = payloads.required(essentials, "alertRule")
        labels = {"service": target.rstrip("/").rpartition("/")[2], "resource_id": target, **_custom(data)}
        for label, key in (("signal_type", "signalType"), ("monitoring_service", "monitoringService")):
            labels[label] = payloads.text(essentials, key)
        context = payloads.part(data, "data", "alertContext")
        return payloads.alert(
            self.context,
            rule,
            labels,
            _SEVERITIES.get(payloads.text(essentials, "severity").lower(), Severity.WARNING),
            firing=payloads.text(essentials, "monitorCondition").lower() != "resolved",
            starts_ms=payloads.time_ms(essentials, "firedDateTime"),
            ends_ms=payloads.time_ms(essentials, "resolvedDateTime"),
            summary=payloads.text(essentials, "description") or rule,
            link=payloads.web_link(context, "linkToFilteredSearchResultsUI"),
            annotations={"alert_id": payloads.text(essentials, "alertId"), "condition": _condition(context)},
            identity={"rule": rule, "target": target.lower()},
        )


def _custom(data: dict[str, Any]) -> dict[str, str]:
    properties = payloads.part(data, "data", "customProperties")
    items = list(properties.items())[:50] if isinstance(properties, dict) else []
    return {key: value for key, value in items if isinstance(value, str)}


def _condition(context: Any) -> str:
    """Such as ``Percentage CPU GreaterThan 80, was 93.2``."""
    every = payloads.part(context, "condition", "allOf")
    parts = []
    for one in every[:5] if isinstance(every, list) else ():
        words = [payloads.text(one, key) for key in ("metricName", "operator", "threshold")]
        value = payloads.text(one, "metricValue")
        parts.append(" ".join(w for w in words if w) + (f", was {value}" if value else ""))
    return "; ".join(parts)
