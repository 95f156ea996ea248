"""What people do in PagerDuty, back onto our incidents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiops.core.errors import InvalidInput
from aiops.core.incident import IncidentUpdate, UpdateKind
from aiops.core.ports import Inbound, InboundParser
from aiops.core.untrusted import Untrusted
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender


class PagerDutyOptions(SenderOptions):
    """``hmac_secret`` is the webhook subscription's secret. ``receivers`` are our receivers that lead to PagerDuty:
    they are not told of what happened there.
    """

    hmac_header: str = "x-pagerduty-signature"
    receivers: tuple[str, ...] = ("pagerduty",)


class PagerDuty(InboundParser[PagerDutyOptions]):
    """A V3 webhook subscription: acknowledge, resolve, reassign and notes of an incident whose ``incident_key`` is
    one of our incidents' ids. Nothing else is taken in, so what we sent to PagerDuty never comes back as an alert.
    """

    Options = PagerDutyOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        event = payloads.object_of(payloads.json_of(body)).get("event")
        if not isinstance(event, dict):
            raise InvalidInput("The body is not a PagerDuty V3 webhook: it has no object 'event'.")
        update = self._update(event)
        return Inbound(updates=(update,) if update else ())

    def _update(self, event: dict[str, Any]) -> IncidentUpdate | None:
        data = event.get("data")
        text = ""
        match payloads.required(event, "event_type"):
            case "incident.acknowledged":
                kind = UpdateKind.ACKNOWLEDGED
            case "incident.resolved":
                kind, text = UpdateKind.RESOLVED, payloads.text(data, "resolve_reason", "type")
            case "incident.reassigned" | "incident.delegated":
                kind, text = UpdateKind.ASSIGNED, ", ".join(_names(payloads.part(data, "assignees")))
            case "incident.annotated":
                kind, text = UpdateKind.NOTED, payloads.text(data, "content", cap=payloads.TEXT_CAP)
            case _:
                return None
        key = payloads.text(data, "incident_key") or payloads.text(data, "incident", "incident_key")
        if not key:
            return None
        actor = payloads.text(event, "agent", "summary") or payloads.text(event, "client", "name")
        return IncidentUpdate(key, kind, Untrusted(actor).display(100), Untrusted(text), self.options.receivers)


def _names(people: Any) -> list[str]:
    return [payloads.text(p, "summary") for p in people[:10]] if isinstance(people, list) else []
