"""Days and times of day in words: "yesterday between 2 and 3", "on Friday at 15:30", "the 1st of October"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiops.core.query import Window

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_WEEKDAY, _MONTH = "|".join(DAYS), "|".join(MONTHS)
_NTH = r"(\d{1,2})(?:st|nd|rd|th)?"
_DAY = re.compile(
    rf"\b(?:(?:on|of|for|during|since)\s+)?(?:"
    rf"(?P<word>the day before yesterday|yesterday|today)"
    rf"|(?:(?:last|this|past)\s+)?(?P<weekday>{_WEEKDAY})"
    rf"|(?P<iso>\d{{4}}-\d{{2}}-\d{{2}})"
    rf"|(?:the\s+)?{_NTH}\s+(?:of\s+)?(?P<month>{_MONTH})(?:\s+(?P<year>\d{{4}}))?"
    rf"|(?P<month2>{_MONTH})\s+{_NTH}\b(?:,?\s+(?P<year2>\d{{4}}))?"
    rf"|(?P<ago>\d{{1,3}})\s+days\s+ago"
    rf")\b"
)
_TIME = r"(?:(\d{1,2})(?:[:.](\d{2}))?\s*(am|pm|a\.m\.|p\.m\.|o'clock|h\b|uhr\b)?|(noon|midnight))"
_RANGE = re.compile(rf"\b(?:between|from)\s+{_TIME}\s*(?:and|to|until|till|-|–)\s*{_TIME}(?![\w%])")
_AT = re.compile(rf"\b(at|around|about|after|since|before|until|till|by)\s+{_TIME}(?![\w%])")
_PART = re.compile(r"\b(?:in the\s+)?(morning|afternoon|evening|night)\b")
_DATES = re.compile(r"\b(?:between|from)\s+(\d{4}-\d{2}-\d{2})\s+(?:and|to|until|till)\s+(\d{4}-\d{2}-\d{2})\b")
_PARTS = {"morning": (0, 12), "afternoon": (12, 24), "evening": (18, 24), "night": (18, 32)}
AROUND = timedelta(minutes=30)
"""A moment is looked at from so long before it to so long after."""


@dataclass(frozen=True, slots=True)
class ClockPhrase:
    """The window, the text without the phrase, and how an ambiguous time was read."""

    window: Window
    rest: str
    note: str = ""


def find(low: str, now: datetime) -> ClockPhrase | None:
    """The window of a day, a time of day, or both; ``None`` where the text names none.

    Bare numbers ("between 2 and 3") are times only beside a day, and are read on the 24-hour clock.

    Args:
        low: the text in lower case.
        now: in the asker's zone.
    """
    if (dates := _DATES.search(low)) is not None:
        return _dates(dates, low, now)
    day_match = _DAY.search(low)
    day = _day(day_match, now) if day_match is not None else None
    if day_match is None or day is None:
        hours = _hours(low, bare=False)
        if hours is None or hours.named:
            return None
        return _placed(hours, low, None, now)
    rest = _cut(low, day_match)
    hours = _hours(rest, bare=True)
    open_end = day_match.group(0).startswith("since")
    if hours is not None and not open_end:
        return _placed(hours, rest, day, now, day_match.group(0))
    if day_match.group("word") in ("yesterday", "today") or open_end:
        return None
    end = day + timedelta(days=1)
    return ClockPhrase(_window(day, end, now, day_match.group(0)), rest)


@dataclass(frozen=True, slots=True)
class _Hours:
    """Minutes from the day's start; ``end`` is ``None`` for up to the day's end. ``named``: a part of the day."""

    start: int
    end: int | None
    match: re.Match[str]
    named: bool = False
    bare: bool = False


def _hours(text: str, *, bare: bool) -> _Hours | None:
    if (match := _RANGE.search(text)) is not None:
        first, second = match.groups()[:4], match.groups()[4:]
        marked = any(g for g in (first[1], first[2], first[3], second[1], second[2], second[3]))
        if marked or bare:
            half = first[2] or (second[2] if not first[1] and _hour(second) != 12 else None)
            start, end = _minutes((first[0], first[1], half, first[3])), _minutes(second)
            if start is not None and end is not None:
                return _Hours(start, end if end > start else end + 1440, match, bare=not marked)
    if (match := _AT.search(text)) is not None:
        how, *time = match.groups()
        at = _minutes((time[0], time[1], time[2], time[3]))
        if at is not None and (bare or time[1] or time[2] or time[3]):
            if how in ("after", "since"):
                return _Hours(at, None, match)
            if how in ("before", "until", "till", "by"):
                return _Hours(0, at, match) if bare else None
            around = int(AROUND.total_seconds() // 60)
            return _Hours(at - around, at + around, match)
    if bare and (match := _PART.search(text)) is not None:
        first_hour, last_hour = _PARTS[match.group(1)]
        return _Hours(60 * first_hour, 60 * last_hour, match, named=True)
    return None


def _hour(time: tuple[str | None, ...]) -> int:
    return int(time[0] or 0)


def _minutes(time: tuple[str | None, ...]) -> int | None:
    hour, minute, half, word = time
    if word:
        return 720 if word == "noon" else 1440
    hours, minutes = int(hour or 0), int(minute or 0)
    if half in ("am", "a.m.", "pm", "p.m."):
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if half.startswith("p") else 0)
    return 60 * hours + minutes if hours <= 24 and minutes < 60 else None


def _day(match: re.Match[str], now: datetime) -> datetime | None:
    """The midnight at which the named day begins; days without a year are the latest ones."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if word := match.group("word"):
        return today - timedelta(days={"today": 0, "yesterday": 1}.get(word, 2))
    if weekday := match.group("weekday"):
        back = (today.weekday() - DAYS.index(weekday)) % 7
        past = match.group(0).split()[-2:-1] in (["last"], ["past"])
        return today - timedelta(days=back or (7 if past else 0))
    if match.group("ago"):
        return today - timedelta(days=int(match.group("ago")))
    try:
        if iso := match.group("iso"):
            return today.replace(year=int(iso[:4]), month=int(iso[5:7]), day=int(iso[8:]))
        month = MONTHS.index(match.group("month") or match.group("month2")) + 1
        number = int(next(g for g in (match.group(4), match.group(8)) if g))
        year = match.group("year") or match.group("year2")
        day = today.replace(year=int(year) if year else today.year, month=month, day=number)
        return day if year or day <= today else day.replace(year=day.year - 1)
    except ValueError:
        return None


def _placed(hours: _Hours, text: str, day: datetime | None, now: datetime, words: str = "") -> ClockPhrase:
    """The hours on their day; without one on the latest day on which they have begun."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    base = day if day is not None else today
    if day is None and base + timedelta(minutes=hours.start) > now:
        base -= timedelta(days=1)
    start = base + timedelta(minutes=hours.start)
    if hours.end is not None:
        end = base + timedelta(minutes=hours.end)
    else:
        end = now if day is None or base == today else base + timedelta(days=1)
    said = f"{words} {hours.match.group(0)}".strip()
    note = f"I read '{hours.match.group(0)}' as {start:%H:%M} to {end:%H:%M}." if hours.bare else ""
    open_end = hours.end is None and end >= now
    window = Window(start_ms=_ms(start), words=said[:80]) if open_end else _window(start, end, now, said)
    return ClockPhrase(window, _cut(text, hours.match), note)


def _dates(match: re.Match[str], low: str, now: datetime) -> ClockPhrase | None:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        first, last = (today.replace(year=int(d[:4]), month=int(d[5:7]), day=int(d[8:])) for d in match.groups())
    except ValueError:
        return None
    return ClockPhrase(_window(first, last + timedelta(days=1), now, match.group(0)), _cut(low, match))


def _window(start: datetime, end: datetime, now: datetime, words: str) -> Window:
    """Half-open; one that reaches into the future is open towards it."""
    if end > now:
        return Window(start_ms=_ms(min(start, now - timedelta(seconds=1))), words=words[:80])
    return Window(start_ms=_ms(start), end_ms=_ms(end), words=words[:80])


def _ms(when: datetime) -> int:
    return max(0, int(when.timestamp() * 1000))


def _cut(text: str, match: re.Match[str]) -> str:
    return f"{text[: match.start()]} {text[match.end() :]}"
