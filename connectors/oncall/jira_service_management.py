"""On-call shifts from a Jira Service Management schedule, or Opsgenie's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field, SecretStr

from aiops.core.errors import PermanentError
from aiops.core.incident import Shift
from aiops.core.ports import PluginContext, PluginOptions, ScheduleSource
from aiops.core.untrusted import Untrusted
from connectors import payloads
from connectors.http import client

DAY_MS = 86_400_000


class JiraServiceManagementOptions(PluginOptions):
    """``schedule`` is its id. Jira Service Management: ``url`` is
    ``https://api.atlassian.com/jsm/ops/api/CLOUD_ID/v1`` with ``user`` (e-mail) and ``token``; Opsgenie:
    ``https://api.opsgenie.com/v2`` with an API key as ``token`` and no ``user``.
    """

    url: str
    schedule: str = Field(min_length=1)
    user: str = ""
    token: SecretStr
    poll_s: float = Field(300.0, ge=10)
    timeout_s: float = Field(10.0, gt=0, le=60)


class JiraServiceManagement(ScheduleSource[JiraServiceManagementOptions]):
    """The final timeline of a schedule, overrides applied: its periods with the person in each. A person is known
    by the name or e-mail address that the service shows.
    """

    Options = JiraServiceManagementOptions

    def __init__(self, options: JiraServiceManagementOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        token = options.token
        genie = {"authorization": SecretStr(f"GenieKey {token.get_secret_value()}")}
        self._client = client(
            context.name,
            options.url.rstrip("/"),
            headers={} if options.user else genie,
            auth=(options.user, token) if options.user else None,
            timeout_s=options.timeout_s,
        )

    @property
    def interval_s(self) -> float:
        return self.options.poll_s

    def shifts(self, start_ms: int, end_ms: int) -> Sequence[Shift]:
        days = max(1, -(-(end_ms - start_ms) // DAY_MS))
        reply = self._client.get(
            f"/schedules/{quote(self.options.schedule, safe='')}/timeline",
            params={"interval": days, "intervalUnit": "days", "date": _iso(start_ms)},
        ).json()
        final = payloads.part(reply, "data", "finalTimeline") or payloads.part(reply, "finalTimeline")
        rotations = payloads.part(final, "rotations")
        if not isinstance(rotations, list):
            raise PermanentError(f"{self.context.name} answered without a final timeline.")
        periods = [p for r in rotations for p in payloads.part(r, "periods") or () if isinstance(p, dict)]
        found = {shift for period in periods if (shift := _shift(period)) is not None}
        kept = (s for s in found if s.end_ms > start_ms and s.start_ms < end_ms)
        return sorted(kept, key=lambda s: (s.start_ms, s.person))

    def close(self) -> None:
        self._client.close()


def _shift(period: dict[str, Any]) -> Shift | None:
    who = period.get("recipient") or period.get("responder")
    person = payloads.text(who, "name") or payloads.text(who, "username") or payloads.text(who, "id")
    start, end = payloads.time_ms(period, "startDate"), payloads.time_ms(period, "endDate")
    name = Untrusted(person).display(100)
    return Shift(name, start, end) if name and start is not None and end is not None and end > start else None


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
