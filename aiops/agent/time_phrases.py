"""Time phrases to windows: "last 2 hours", "yesterday", "this week", "since 10:30", in the asker's zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

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
_CALENDAR = re.compile(
    r"\b(?:(?:on|during|for)\s+)?(today|yesterday|tonight|this morning|this (?:week|month|year)"
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


def seconds(count: str | None, unit: str) -> float:
    """A count in words or digits and a unit, in seconds, capped at 400 days."""
    word = (count or "1").replace("a few", "few").replace("a couple of", "two").replace("couple of", "two").strip()
    number = float(_NUMBERS[word]) if word in _NUMBERS else float(word)
    key = unit if unit in SECONDS else unit.rstrip("s")
    return min(max(number * SECONDS[key], 1.0), LONGEST_S)


def find(text: str, now_ms: int, zone: str = "UTC") -> TimePhrase:
    """The first time phrase of a question. A phrase about the future becomes a horizon."""
    low = text.lower()
    horizon = None
    if match := _HORIZON.search(low):
        groups = [g for g in match.groups() if g]
        unit = groups[-1]
        horizon = seconds(groups[0] if len(groups) > 1 else None, unit)
        low = _cut(low, match)
    if match := _DEPLOY.search(low):
        return TimePhrase(None, _cut(low, match), horizon, True)
    if match := _AGO.search(low):
        words = match.group(0).strip()
        count, unit = match.group(1), match.group(2)
        if count is None and unit in ("week", "month", "year") and "past" not in words:
            return TimePhrase(_previous(unit, now_ms, zone, words), _cut(low, match), horizon)
        return TimePhrase(Window(last_s=seconds(count, unit), words=words[:80]), _cut(low, match), horizon)
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
