"""Time phrases to windows, horizons and earlier times to compare with, in the asker's zone.

"last 2 hours", "yesterday", "since 10:30" look back; "by Friday", "in 3 days", "will … this week" look ahead;
"vs last week" and "than yesterday" name the time to compare with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from aiops.agent import clock_phrases
from aiops.core.query import Window

SECONDS = {
    "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hr": 3600, "hour": 3600,
    "d": 86400, "day": 86400, "w": 604800, "week": 604800, "month": 30 * 86400, "year": 365 * 86400,
}  # fmt: skip
_UNIT = r"(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?|months?|years?)"
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10, "few": 3}
_COUNT = r"(\d+(?:\.\d+)?|a few|few|a couple of|couple of|an?|one|two|three|four|five|six|ten)"
LONGEST_S = 400 * 86400.0

_AGO = re.compile(
    rf"\b(?:(?:in|over|during|for|within|from|of)\s+)?(?:the\s+)?(?:last|past|previous)\s+(?:{_COUNT}\s*)?{_UNIT}\b"
)
_HORIZON = re.compile(
    rf"\b(?:with)?in\s+(?:the\s+)?(?:next|coming)\s+(?:{_COUNT}\s*)?{_UNIT}\b|\b(?:with)?in\s+{_COUNT}\s*{_UNIT}\b"
    rf"|\bnext\s+(?:{_COUNT}\s*)?{_UNIT}\b"
)
_WEEKDAY = r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_WILL = re.compile(
    r"\b(?:will|won't|gonna|going to|about to|forecast\w*|predict\w*|project(?:ed|ion)|on track|heading|expect\w*"
    r"|estimate\w*"
    r"|(?:do|does|might|could) \w+ (?:run out|fill|exceed|hit|reach))\b"
)
_AHEAD = re.compile(
    rf"\b(?:(?:by|until|before|for|on)\s+)?(?:the\s+)?(tomorrow)\b"
    rf"|\b(?:by|until|before)\s+(?:the\s+)?(?:end of\s+(?:the\s+|this\s+)?)?(today|tonight|day|week|month|year"
    rf"|(?:the )?weekend|{_WEEKDAY})\b"
)
_AHEAD_IF_WILL = re.compile(
    rf"\b(?:(?:on|over|during|within|for|later)\s+)?((?:the |this )?weekend|this (?:week|month|year)|today"
    rf"|tonight|{_WEEKDAY})\b"
)
_EARLIER = (
    rf"(yesterday|last (?:week|month|night|{_WEEKDAY[3:-1]})|(?:the )?(?:week|month|day|hour) before|usual|normal"
    rf"|(?:{_COUNT}\s*{_UNIT})\s+(?:ago|earlier|before))"
)
_COMPARE = re.compile(
    rf"\b(?:(?:today|now|this (?:week|month|hour))\s+)?(?:(?:as\s+)?(?:compared?|comparing|relative)\s+(?:to|with"
    rf"|against)|vs\.?|versus|against"
    rf"|(?:(?:higher|lower|slower|faster|worse|better|more|less|greater|fewer|busier|larger|smaller"
    rf"|different)\s+)?(?:than|from)"
    r"|(?:higher|lower|slower|faster|worse|better|busier|grown|changed|increased|risen|dropped|fallen)\s+since)"
    rf"\s+(?:the\s+)?(?:same (?:time|hour|day)\s+)?{_EARLIER}"
)
_COMPARE_PAIR = re.compile(
    rf"\bcompare\b(.*?)\b(?:with|to|and|against)\s+(?:the\s+)?"
    rf"(?:same (?:time|hour|day)\s+)?{_EARLIER}"
)
_OVER_PERIOD = re.compile(r"\b(hour|day|week|month)[ -](?:over|on)[ -](?:hour|day|week|month)\b")
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_IN_MONTH = re.compile(rf"\b(?:in|during|for|of|since)\s+({'|'.join(_MONTHS)})\b(?!\s+\d)")
_MOMENT = re.compile(rf"\b{_COUNT}\s*{_UNIT}\s+ago\b")
_CALENDAR = re.compile(
    r"\b(?:(?:on|during|for|over|of)\s+)?(last night|overnight|yesterday (?:morning|afternoon|evening|night)"
    r"|(?:the |last )?weekend"
    r"|today|yesterday|tonight|this morning|this (?:week|month|year)"
    r"|last (?:monday|tuesday|wednesday|thursday|friday|saturday|sunday))\b"
)
_SINCE = re.compile(r"\bsince\s+(?:(\d{1,2}):(\d{2})|(midnight|yesterday|monday|tuesday|wednesday|thursday|friday"
                    r"|saturday|sunday|this morning))\b")  # fmt: skip
_DEPLOY = re.compile(r"\bsince\s+(?:the\s+)?(?:last|latest|previous)?\s*(?:deploy(?:ment)?|release|rollout)\b")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, slots=True)
class TimePhrase:
    """``rest`` is the question without the phrase; ``since_deploy`` asks for the latest deploy's time."""

    window: Window | None
    rest: str
    horizon_s: float | None = None
    since_deploy: bool = False
    back_s: float | None = None
    """How far back lies what is to be compared with, in seconds."""
    note: str = ""
    """How an ambiguous phrase was read."""


def seconds(count: str | None, unit: str) -> float:
    """A count in words or digits and a unit, in seconds, capped at 400 days."""
    word = (count or "1").replace("a few", "few").replace("a couple of", "two").replace("couple of", "two").strip()
    number = float(_NUMBERS[word]) if word in _NUMBERS else float(word)
    key = unit if unit in SECONDS else unit.rstrip("s")
    return min(max(number * SECONDS[key], 1.0), LONGEST_S)


def find(text: str, now_ms: int, zone: str = "UTC") -> TimePhrase:
    """The first time phrase of a question. A phrase about the future becomes a horizon, an earlier time to compare
    with becomes ``back_s``."""
    low = text.lower()
    back = None
    if match := _COMPARE.search(low):
        back = _back(match.group(1), match.groups()[1:], now_ms, zone)
        low = _cut(low, match)
    elif match := _COMPARE_PAIR.search(low):
        back = _back(match.group(2), match.groups()[2:], now_ms, zone)
        low = f"{low[: match.start()]} {match.group(1)} {low[match.end() :]}"
    elif match := _OVER_PERIOD.search(low):
        back = float(SECONDS[match.group(1)])
        low = _cut(low, match)
    found = _find(low, now_ms, zone)
    return found if back is None else replace(found, back_s=back)


def _back(word: str, counted: Sequence[str | None], now_ms: int, zone: str) -> float:
    """Seconds back to the earlier time; what is usual is taken from a week ago."""
    count, unit = counted[0], counted[1]
    if unit is not None:
        return seconds(count, unit)
    for name in ("hour", "week", "month"):
        if name in word:
            return float(SECONDS[name])
    if word in ("usual", "normal"):
        return float(SECONDS["week"])
    if word.removeprefix("last ") in _DAYS:
        day = _midnight(now_ms, zone)
        return 86400.0 * ((day.weekday() - _DAYS.index(word.removeprefix("last "))) % 7 or 7)
    return 86400.0


def _horizon(word: str, now_ms: int, zone: str) -> float:
    """Seconds to the end of the named day, week, month or year; at least a minute."""
    day = _midnight(now_ms, zone)
    word = word.removeprefix("the ").removeprefix("this ")
    if word in ("today", "tonight", "day"):
        end = day + timedelta(days=1)
    elif word == "tomorrow":
        end = day + timedelta(days=2)
    elif word in ("week", "weekend"):
        end = day + timedelta(days=7 - day.weekday())
    elif word == "month":
        end = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    elif word == "year":
        end = day.replace(year=day.year + 1, month=1, day=1)
    else:
        end = day + timedelta(days=(_DAYS.index(word) - day.weekday()) % 7 + 1)
    return max(60.0, (_ms(end) - now_ms) / 1000)


def _find(low: str, now_ms: int, zone: str) -> TimePhrase:
    horizon = None
    if match := _HORIZON.search(low):
        groups = [g for g in match.groups() if g]
        unit = groups[-1]
        horizon = seconds(groups[0] if len(groups) > 1 else None, unit)
        low = _cut(low, match)
    elif (match := _AHEAD.search(low)) or (_WILL.search(low) and (match := _AHEAD_IF_WILL.search(low))):
        horizon = _horizon(next(g for g in match.groups() if g), now_ms, zone)
        low = _cut(low, match)
    if match := _DEPLOY.search(low):
        return TimePhrase(None, _cut(low, match), horizon, True)
    if match := _AGO.search(low):
        words = match.group(0).strip()
        count, unit = match.group(1), match.group(2)
        if count is None and unit in ("week", "month", "year") and "past" not in words:
            return TimePhrase(_previous(unit, now_ms, zone, words), _cut(low, match), horizon)
        return TimePhrase(Window(last_s=seconds(count, unit), words=words[:80]), _cut(low, match), horizon)
    if (said := clock_phrases.find(low, _local(now_ms, zone))) is not None:
        return TimePhrase(said.window, said.rest, horizon, note=said.note)
    if match := _IN_MONTH.search(low):
        return TimePhrase(_month(match, now_ms, zone), _cut(low, match), horizon)
    if match := _MOMENT.search(low):
        return TimePhrase(_around(match, now_ms), _cut(low, match), horizon)
    if match := _SINCE.search(low):
        return TimePhrase(_since(match, now_ms, zone), _cut(low, match), horizon)
    if match := _CALENDAR.search(low):
        return TimePhrase(_calendar(match.group(1), now_ms, zone), _cut(low, match), horizon)
    return TimePhrase(None, low, horizon)


def _cut(text: str, match: re.Match[str]) -> str:
    return f"{text[: match.start()]} {text[match.end() :]}"


def _local(now_ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(now_ms / 1000, ZoneInfo(zone))


def _midnight(now_ms: int, zone: str) -> datetime:
    return _local(now_ms, zone).replace(hour=0, minute=0, second=0, microsecond=0)


def _ms(when: datetime) -> int:
    return max(0, int(when.timestamp() * 1000))


def week_start(now_ms: int, zone: str) -> int:
    """Monday's midnight, ms UTC."""
    day = _midnight(now_ms, zone)
    return _ms(day - timedelta(days=day.weekday()))


def _previous(unit: str, now_ms: int, zone: str, words: str) -> Window:
    day = _midnight(now_ms, zone)
    if unit == "week":
        end = day - timedelta(days=day.weekday())
        start = end - timedelta(days=7)
    elif unit == "month":
        end = day.replace(day=1)
        start = (end - timedelta(days=1)).replace(day=1)
    else:
        end = day.replace(month=1, day=1)
        start = end.replace(year=end.year - 1)
    return Window(start_ms=_ms(start), end_ms=_ms(end), words=words[:80])


def _calendar(word: str, now_ms: int, zone: str) -> Window:
    day = _midnight(now_ms, zone)
    if word == "yesterday":
        return Window(start_ms=_ms(day - timedelta(days=1)), end_ms=_ms(day), words=word)
    if word in ("last night", "overnight", "yesterday evening", "yesterday night"):
        night = day - timedelta(hours=6)
        return Window(start_ms=_ms(night), end_ms=min(now_ms, _ms(day + timedelta(hours=8))), words=word)
    if word.startswith("yesterday "):
        noon = day - timedelta(hours=12)
        first = noon - timedelta(hours=12) if word.endswith("morning") else noon
        return Window(start_ms=_ms(first), end_ms=_ms(first + timedelta(hours=12)), words=word)
    if word.endswith("weekend"):
        start = day - timedelta(days=(day.weekday() - 5) % 7)
        return Window(start_ms=_ms(start), end_ms=min(now_ms, _ms(start + timedelta(days=2))), words=word)
    if word == "this week":
        return Window(start_ms=week_start(now_ms, zone), words=word)
    if word == "this month":
        return Window(start_ms=_ms(day.replace(day=1)), words=word)
    if word == "this year":
        return Window(start_ms=_ms(day.replace(month=1, day=1)), words=word)
    if word.startswith("last "):
        back = (day.weekday() - _DAYS.index(word[5:])) % 7 or 7
        start = day - timedelta(days=back)
        return Window(start_ms=_ms(start), end_ms=_ms(start + timedelta(days=1)), words=word)
    return Window(start_ms=_ms(day), words=word)


def _month(match: re.Match[str], now_ms: int, zone: str) -> Window:
    """The latest month of that name that has begun."""
    number = _MONTHS.index(match.group(1)) + 1
    day = _midnight(now_ms, zone)
    start = day.replace(year=day.year - (number > day.month), month=number, day=1)
    end = (start + timedelta(days=32)).replace(day=1)
    open_end = match.group(0).startswith("since") or _ms(end) > now_ms
    return Window(start_ms=_ms(start), end_ms=None if open_end else _ms(end), words=match.group(0)[:80])


def _around(match: re.Match[str], now_ms: int) -> Window:
    """A while around a moment that lies back, wider the longer ago it was."""
    back = seconds(match.group(1), match.group(2))
    half = max(300.0, back / 10)
    at = now_ms - int(back * 1000)
    return Window(
        start_ms=max(0, at - int(half * 1000)),
        end_ms=max(1000, min(now_ms, at + int(half * 1000))),
        words=match.group(0)[:80],
    )


def _since(match: re.Match[str], now_ms: int, zone: str) -> Window:
    day = _midnight(now_ms, zone)
    words = match.group(0)
    if match.group(1):
        hour, minute = int(match.group(1)), int(match.group(2))
        if hour > 23 or minute > 59:
            return Window(words=words)
        start = day.replace(hour=hour, minute=minute)
        if _ms(start) > now_ms:
            start -= timedelta(days=1)
        return Window(start_ms=_ms(start), words=words)
    word = match.group(3)
    if word == "yesterday":
        return Window(start_ms=_ms(day - timedelta(days=1)), words=words)
    if word in _DAYS:
        return Window(start_ms=_ms(day - timedelta(days=(day.weekday() - _DAYS.index(word)) % 7)), words=words)
    return Window(start_ms=_ms(day), words=words)
