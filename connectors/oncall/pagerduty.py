"""On-call shifts from a PagerDuty schedule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, SecretStr

from aiops.core.errors import PermanentError
from aiops.core.incident import Shift
from aiops.core.ports import PluginContext, PluginOptions, ScheduleSource
from aiops.core.untrusted import Untrusted
from connectors import payloads
from connectors.http import client

PAGE = 100
MOST = 2_000


class PagerDutyOptions(PluginOptions):
    """``schedule`` is its id (``PABC123``); ``token`` a read-only API key."""

    token: SecretStr
    schedule: str = Field(min_length=1)
    url: str = "https://api.pagerduty.com"
    poll_s: float = Field(300.0, ge=10)
    timeout_s: float = Field(10.0, gt=0, le=60)


class PagerDuty(ScheduleSource[PagerDutyOptions]):
    """The final rota of a schedule, overrides applied, from PagerDuty's REST API v2 (``GET /oncalls``). A person is
    known by the name that PagerDuty shows.
    """

    Options = PagerDutyOptions

    def __init__(self, options: PagerDutyOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._client = client(
            context.name,
            options.url.rstrip("/"),
            headers={
                "authorization": SecretStr(f"Token token={options.token.get_secret_value()}"),
                "accept": "application/vnd.pagerduty+json;version=2",
            },
            timeout_s=options.timeout_s,
        )

    @property
    def interval_s(self) -> float:
        return self.options.poll_s

    def shifts(self, start_ms: int, end_ms: int) -> Sequence[Shift]:
        found: set[Shift] = set()
        for offset in range(0, MOST, PAGE):
            page = self._client.get(
                "/oncalls",
                params={
                    "schedule_ids[]": self.options.schedule, "since": _iso(start_ms), "until": _iso(end_ms),
                    "limit": PAGE, "offset": offset,
                },
            ).json()  # fmt: skip
            entries = payloads.part(page, "oncalls")
            if not isinstance(entries, list):
                raise PermanentError(f"{self.context.name} answered without a list of on-calls.")
            found |= {shift for entry in entries if (shift := _shift(entry, start_ms, end_ms)) is not None}
            if not payloads.part(page, "more"):
                break
        return sorted(found, key=lambda s: (s.start_ms, s.person))

    def close(self) -> None:
        self._client.close()


def _shift(entry: Any, start_ms: int, end_ms: int) -> Shift | None:
    """An on-call without an end goes on for ever."""
    person = Untrusted(payloads.text(entry, "user", "summary")).display(100)
    start = payloads.time_ms(entry, "start") or start_ms
    end = payloads.time_ms(entry, "end") or end_ms
    return Shift(person, start, end) if person and end > start else None


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
