"""Values with units as people read them. Units are UCUM-like; ``ratio`` is a share shown in percent."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

_BYTES = ((2**50, "PiB"), (2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_LAST_TIME = 253_402_300_800
"""The start of the year 10000, beyond which a number of seconds is no time."""


def digits(value: float) -> str:
    """About three significant figures, thousands separated.

    >>> digits(1234.5), digits(0.0456), digits(3.0)
    ('1,234', '0.0456', '3')
    """
    if math.isnan(value):
        return "no value"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e15 or size < 1e-4:
        return f"{value:.3g}"
    places = max(0, 2 - math.floor(math.log10(size)))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def humanise(value: float, unit: str) -> str:
    """One value with its unit; ``time`` is seconds since 1970, shown in UTC.

    >>> humanise(0.0812, "ratio"), humanise(3 * 2**30, "By"), humanise(0.25, "s"), humanise(9000, "s")
    ('8.12 %', '3 GiB', '250 ms', '2 h 30 min')
    >>> humanise(1_795_522_411, "time")
    '2026-11-24 12:13:31 UTC'
    """
    if not math.isfinite(value):
        return digits(value)
    if unit == "time" and 0 <= value < _LAST_TIME:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if unit == "ratio":
        return f"{digits(value * 100)} %"
    if unit == "%":
        return f"{digits(value)} %"
    if unit in ("By", "By/s"):
        return _bytes(value) + ("/s" if unit == "By/s" else "")
    if unit == "s":
        return _duration(value)
    if unit == "/s":
        return f"{digits(value)}/s"
    if unit == "Cel":
        return f"{digits(value)} °C"
    if unit in ("", "1", "code"):
        return digits(value) if unit != "code" else f"{value:.0f}"
    if len(unit) == 3 and unit.isupper():
        return f"{value:,.2f} {unit}"
    return f"{digits(value)} {unit}"


def _bytes(value: float) -> str:
    for factor, name in _BYTES:
        if abs(value) >= factor:
            return f"{digits(value / factor)} {name}"
    return f"{digits(value)} B"


def _duration(value: float) -> str:
    size = abs(value)
    if size == 0:
        return "0 s"
    if size < 1e-3:
        return f"{digits(value * 1e6)} µs"
    if size < 1:
        return f"{digits(value * 1e3)} ms"
    if size < 60:
        return f"{digits(value)} s"
    sign, whole = "-" if value < 0 else "", round(size)
    for unit, factor, small, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= factor:
            rest = whole % factor // part
            return f"{sign}{whole // factor} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{sign}{whole} s"


def moment(time_ms: int, zone: str, now_ms: int | None = None) -> str:
    """A time in a zone; the date is left out when it is today's."""
    at = datetime.fromtimestamp(time_ms / 1000, ZoneInfo(zone))
    same_day = now_ms is not None and at.date() == datetime.fromtimestamp(now_ms / 1000, ZoneInfo(zone)).date()
    return at.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M")


def day(time_ms: int, zone: str) -> str:
    return datetime.fromtimestamp(time_ms / 1000, ZoneInfo(zone)).strftime("%a %Y-%m-%d")
