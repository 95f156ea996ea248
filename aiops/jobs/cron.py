"""When a five-field cron line fires next, in an IANA zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from aiops.core.errors import InvalidInput

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_TERM = re.compile(r"(\*|[a-z]{3}|[0-7])(?:-([a-z]{3}|[0-7]))?(?:/(\d+))?")


@dataclass(frozen=True, slots=True)
class CronLine:
    """Fields of a cron line; ``weekdays`` are numbers with Sunday 0, ``None`` for any day."""

    minute: str
    hour: str
    day: str
    month: str
    weekdays: tuple[int, ...] | None
    text: str

    @property
    def every_hour(self) -> bool:
        return self.hour.startswith("*")


def parse_cron(text: str) -> CronLine:
    """Read minute, hour, day of month, month, day of week (0 and 7 are Sunday), or an ``@daily``-like macro.

    Raises:
        InvalidInput: naming what cannot be read.
    """
    fields = MACROS.get(text.strip().lower(), text).lower().split()
    if len(fields) != 5:
        raise InvalidInput(
            f"'{text}' is not a cron line.", hint="It has five fields: minute, hour, day, month, weekday."
        )
    minute, hour, day, month, weekday = fields
    return CronLine(minute, hour, day, month, _weekdays(weekday, text), text)


def parse_zone(name: str) -> ZoneInfo:
    """Raises ``InvalidInput`` for a name that is not in the IANA data base."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInput(f"'{name}' is not an IANA time zone name.", hint="Example: Europe/Berlin.") from error


def _weekdays(field: str, text: str) -> tuple[int, ...] | None:
    if field in ("*", "?"):
        return None
    days: set[int] = set()
    for term in field.split(","):
        found = _TERM.fullmatch(term)
        if found is None:
            raise InvalidInput(f"'{text}' is not a cron line: weekday '{term}' cannot be read.")
        first, last, step = found.groups()
        start, end = (0, 6) if first == "*" else (_day(first, text), _day(last or first, text))
        if step is not None and first != "*" and last is None:
            end = 6
        if end < start:
            end += 7
        if step == "0":
            raise InvalidInput(f"'{text}' is not a cron line: a step of 0.")
        days.update(day % 7 for day in range(start, end + 1, int(step or 1)))
    return tuple(sorted(days))


def _day(word: str, text: str) -> int:
    if word.isdigit():
        return int(word)
    if word not in DAYS:
        raise InvalidInput(f"'{text}' is not a cron line: '{word}' is no weekday.")
    return DAYS.index(word)
