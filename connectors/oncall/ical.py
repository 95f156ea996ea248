"""On-call shifts from a calendar."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events
from pydantic import Field, SecretStr, field_validator, model_validator

from aiops.core.errors import PermanentError, TransientError
from aiops.core.incident import Shift
from aiops.core.ports import PluginContext, PluginOptions, ScheduleSource
from aiops.core.untrusted import Untrusted
from connectors.http import client

MAX_BYTES = 10 * 1024 * 1024


class IcalOptions(PluginOptions):
    """``path`` or ``url`` of an iCalendar file; the URL of a private calendar is a secret.

    ``strip`` are words that are taken off an event's summary to get the person (``On call: Alice``).
    ``zone`` is that of times and whole days without one.
    """

    path: Path | None = None
    url: SecretStr = SecretStr("")
    strip: tuple[str, ...] = ("On call:", "On-call:", "Oncall:")
    zone: str = "UTC"
    poll_s: float = Field(300.0, ge=10)
    timeout_s: float = Field(10.0, gt=0, le=60)

    @field_validator("zone")
    @classmethod
    def known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except Exception as error:
            raise ValueError(f"'{value}' is not an IANA time zone name") from error
        return value

    @model_validator(mode="after")
    def one_place(self) -> IcalOptions:
        if (self.path is None) == (not self.url.get_secret_value()):
            raise ValueError("give either path or url")
        return self


class Ical(ScheduleSource[IcalOptions]):
    """Events of an iCalendar file or feed, such as a shared calendar or the export of any rota tool; recurring ones,
    exceptions and whole days included. An event's summary is the person. Cancelled events are left out.
    """

    Options = IcalOptions
    extra = "calendar"

    def __init__(self, options: IcalOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._client = client(context.name, timeout_s=options.timeout_s, max_response_bytes=MAX_BYTES)

    @property
    def interval_s(self) -> float:
        return self.options.poll_s

    def shifts(self, start_ms: int, end_ms: int) -> Sequence[Shift]:
        calendar = self._calendar()
        start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (start_ms, end_ms))
        try:
            events = recurring_ical_events.of(calendar).between(start, end)
        except (ValueError, TypeError, OverflowError) as error:
            raise PermanentError(f"{self.context.name}: the calendar cannot be read.") from error
        found = [shift for event in events if (shift := self._shift(event)) is not None]
        return sorted(found, key=lambda s: (s.start_ms, s.person))

    def close(self) -> None:
        self._client.close()

    def _calendar(self) -> Any:
        try:
            if self.options.path is not None:
                if self.options.path.stat().st_size > MAX_BYTES:
                    raise PermanentError(f"{self.context.name}: {self.options.path} is larger than {MAX_BYTES} bytes.")
                body = self.options.path.read_bytes()
            else:
                body = self._client.get(self.options.url.get_secret_value()).content
            return icalendar.Calendar.from_ical(body)
        except OSError as error:
            raise TransientError(
                f"{self.context.name}: {self.options.path} cannot be read: {error.strerror}."
            ) from error
        except (ValueError, IndexError, KeyError) as error:
            raise PermanentError(f"{self.context.name} is no iCalendar file.") from error

    def _shift(self, event: Any) -> Shift | None:
        if str(event.get("STATUS", "")).upper() == "CANCELLED" or event.get("DTSTART") is None:
            return None
        person = str(event.get("SUMMARY", ""))
        for word in self.options.strip:
            if person.lower().startswith(word.lower()):
                person = person[len(word) :]
                break
        start = self._ms(event["DTSTART"].dt)
        end = self._ms(event["DTEND"].dt) if event.get("DTEND") is not None else start
        name = Untrusted(person).display(100)
        return Shift(name, start, end) if name and end > start else None

    def _ms(self, moment: date) -> int:
        at = moment if isinstance(moment, datetime) else datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001
        return int((at if at.tzinfo else at.replace(tzinfo=ZoneInfo(self.options.zone))).timestamp() * 1000)
