"""Alerts from Google Cloud Monitoring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiops.core.errors import InvalidInput
from aiops.core.incident import severity_named
from aiops.core.ports import Inbound, InboundParser
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender


class GoogleMonitoringOptions(SenderOptions):
    """A webhook channel with basic authentication sends ``basic_username`` and ``basic_password``."""


class GoogleMonitoring(InboundParser[GoogleMonitoringOptions]):
    """The webhook notification channel of Cloud Monitoring (schema 1.2): its ``incident`` opens an alert and, with
    ``state`` ``closed``, ends it. Labels are those of the monitored resource, the metric and the policy.
    """

    Options = GoogleMonitoringOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        incident = payloads.object_of(payloads.json_of(body)).get("incident")
        if not isinstance(incident, dict):
            raise InvalidInput("The body is not a Cloud Monitoring notification: it has no object 'incident'.")
        name = payloads.text(incident, "policy_name") or payloads.required(incident, "condition_name")
        labels = _labels(incident)
        alert = payloads.alert(
            self.context,
            name,
            labels,
            severity_named(payloads.text(incident, "severity")),
            firing=payloads.text(incident, "state").lower() != "closed",
            starts_ms=payloads.time_ms(incident, "started_at"),
            ends_ms=payloads.time_ms(incident, "ended_at"),
            summary=payloads.text(incident, "summary", cap=payloads.TEXT_CAP) or name,
            link=payloads.web_link(incident, "url"),
            annotations={
                "documentation": payloads.text(incident, "documentation", "content", cap=payloads.TEXT_CAP),
                "observed": payloads.text(incident, "observed_value"),
                "threshold": payloads.text(incident, "threshold_value"),
                "incident_id": payloads.text(incident, "incident_id"),
            },
        )
        return Inbound((alert,))


def _labels(incident: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for place in (("resource", "labels"), ("metric", "labels"), ("policy_user_labels",), ("metadata", "user_labels")):
        found = payloads.part(incident, *place)
        for key, value in list(found.items())[:50] if isinstance(found, dict) else ():
            if isinstance(value, str):
                labels.setdefault(key, value)
    labels["condition"] = payloads.text(incident, "condition_name")
    labels["project_id"] = payloads.text(incident, "scoping_project_id") or labels.get("project_id", "")
    labels["metric_type"] = payloads.text(incident, "metric", "type")
    for key in ("service", "service_name", "container_name", "instance_name"):
        if labels.get(key):
            labels["service"] = labels[key]
            break
    else:
        labels["service"] = payloads.text(incident, "resource_display_name") or payloads.text(incident, "resource_name")
    return labels
