"""Alerts from Alertmanager, or from Prometheus itself, which takes us for an Alertmanager."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from aiops.core.errors import InvalidInput
from aiops.core.incident import Alert, SignalKind, fingerprint, severity_named
from aiops.core.ports import Inbound, InboundParser
from aiops.core.series import labels_of
from aiops.core.untrusted import Untrusted
from connectors.payloads import json_of
from connectors.signatures import SenderOptions, check_sender

log = logging.getLogger(__name__)

MAX_ALERTS = 20_000
MAX_LABELS = 200
LABEL_CAP = 1_000
ANNOTATION_CAP = 4_000
MAX_ANNOTATIONS = 50
OWN_ALERT = "AiopsIncident"
"""What our own notifiers send out; it is never taken in again."""


class AlertmanagerOptions(SenderOptions):
    """``heartbeats`` are alerts that fire always, ``ignore`` those that say nothing is wrong; ``resolve_timeout_s``
    ends silent v2 alerts.
    """

    severity_label: str = "severity"
    heartbeats: tuple[str, ...] = ("Watchdog", "DeadMansSwitch")
    ignore: tuple[str, ...] = ("InfoInhibitor",)
    resolve_timeout_s: float = Field(300.0, gt=0)


class Alertmanager(InboundParser[AlertmanagerOptions]):
    """The webhook body of Alertmanager (version 4, also Grafana's superset) and the array that Prometheus
    posts to ``/api/v2/alerts``; told apart by their shape. Unknown keys are ignored.

    A webhook alert fires until its resolve comes; a v2 alert ends by itself at its ``endsAt`` unless repeated.
    """

    Options = AlertmanagerOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        data = json_of(body)
        if isinstance(data, list):
            return self._read(data, {}, repeats=True)
        if not isinstance(data, dict) or not isinstance(data.get("alerts"), list):
            raise InvalidInput("The body is not an Alertmanager webhook: it has no list 'alerts'.")
        extra = {}
        if isinstance(key := data.get("groupKey"), str) and key:
            extra["group_key"] = key
        truncated = data.get("truncatedAlerts")
        if isinstance(truncated, int) and truncated > 0:
            log.warning("%s left out %d alerts of a group", self.context.name, truncated)
            extra["truncated_alerts"] = str(truncated)
        return self._read(data["alerts"], extra, repeats=False)

    def _read(self, items: list[Any], extra: dict[str, str], *, repeats: bool) -> Inbound:
        if len(items) > MAX_ALERTS:
            raise InvalidInput(f"The body holds {len(items)} alerts; at most {MAX_ALERTS} are taken.")
        alerts = [a for i, item in enumerate(items) if (a := self._alert(item, i, extra, repeats)) is not None]
        beats = {a.labels for a in alerts if a.name in self.options.heartbeats and a.firing}
        told = tuple(a for a in alerts if a.name not in self.options.heartbeats)
        return Inbound(told, heartbeats=tuple(sorted(beats)))

    def _alert(self, item: Any, index: int, extra: dict[str, str], repeats: bool) -> Alert | None:
        where = f"alert {index + 1}"
        if not isinstance(item, dict):
            raise InvalidInput(f"{where} is not an object.")
        pairs = _texts(item.get("labels"), f"the labels of {where}", MAX_LABELS, LABEL_CAP)
        name = pairs.get("alertname", "")
        if not pairs:
            raise InvalidInput(f"{where} has no labels.")
        if name in self.options.ignore or name == OWN_ALERT:
            return None
        now = self.context.clock()
        ends = _time(item.get("endsAt"), f"endsAt of {where}")
        starts = min(_time(item.get("startsAt"), f"startsAt of {where}") or now, now)
        expires = None
        if repeats:
            over = ends is not None and ends <= now
            expires = None if over else ends or now + int(self.options.resolve_timeout_s * 1000)
        else:
            over = item.get("status") == "resolved"
        notes = _texts(item.get("annotations"), f"the annotations of {where}", 10**6, ANNOTATION_CAP)
        notes = dict(sorted(notes.items())[:MAX_ANNOTATIONS]) | extra
        summary = notes.get("summary") or notes.get("message") or notes.get("description") or ""
        link = item.get("generatorURL")
        labels = labels_of(pairs)
        return Alert(
            fingerprint=fingerprint(labels),
            kind=SignalKind.ALERT,
            name=name or "unnamed alert",
            labels=labels,
            severity=severity_named(pairs.get(self.options.severity_label, "")),
            starts_ms=starts,
            updated_ms=now,
            ends_ms=max(starts, min(ends or now, now)) if over else None,
            summary=Untrusted(summary),
            source=self.context.name,
            link=link[:2000] if isinstance(link, str) and link.startswith(("http://", "https://")) else "",
            annotations=tuple((k, Untrusted(v)) for k, v in sorted(notes.items())),
            expires_ms=expires,
        )


def _texts(value: Any, what: str, limit: int, cap: int) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} are not an object.")
    if len(value) > limit:
        raise InvalidInput(f"{what} are {len(value)}; at most {limit} are taken.")
    return {k[:cap]: (v if isinstance(v, str) else json.dumps(v))[:cap] for k, v in value.items() if v is not None}


def _time(value: Any, what: str) -> int | None:
    """ms UTC; ``None`` for absent and for Go's zero time."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{what} is not a time.")
    try:
        at = datetime.fromisoformat(value)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return None if at.year <= 1 else max(0, int(at.timestamp() * 1000))
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{what} is not an RFC 3339 time.") from error
