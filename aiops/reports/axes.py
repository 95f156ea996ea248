"""Where ticks go: round values, and round local times in a zone."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from aiops.reports.units import Scale, is_money, scale_for

_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_LARGEST = 1e100
_DAYS = (1, 2, 3, 7, 14, 28, 56, 91, 182, 365)


def value_ticks(low: float, high: float, unit: str, count: int = 5) -> tuple[list[float], list[str]]:
    """Round values that span ``[low, high]``, and their labels with the unit.

    The first is at most ``low``, the last at least ``high``. Every label has its unit; money has none.
    """
    size = max(abs(low), abs(high))
    if not math.isfinite(size) or size > _LARGEST or 0 < size < 1 / _LARGEST:
        return _plain_ticks(low, high)
    if high - low <= size * 1e-9:
        pad = size * 0.1 or 1.0
        low, high = low - pad, high + pad
    scale = scale_for(max(abs(low), abs(high)), unit)
    binary = scale.suffix.startswith(("KiB", "MiB", "GiB", "TiB", "PiB", "B"))
    step = _round_step((high - low) / scale.factor / count, binary=binary)
    first, last = math.floor(low / scale.factor / step + 1e-9), math.ceil(high / scale.factor / step - 1e-9)
    shown = [i * step for i in range(first, last + 1)]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if step * 10.0**decimals % 1 > 1e-6:
        decimals += 1
    return [v * scale.factor for v in shown], [_tick_text(v, decimals, scale, unit) for v in shown]


def _plain_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """For numbers beyond measure: the ends and the middle, without a unit."""
    low, high = (min(max(v, -1e307), 1e307) if not math.isnan(v) else 0.0 for v in (low, high))
    if high <= low:
        low, high = min(low, 0.0), max(high, 0.0) or 1.0
    ticks = sorted({low, low / 2 + high / 2, high})  # the smallest numbers have no middle
    return ticks, [f"{v:.3g}" for v in ticks]


def _tick_text(value: float, decimals: int, scale: Scale, unit: str) -> str:
    if decimals > 9 or abs(value) >= 1e15:
        return f"{value:.3g} {scale.suffix}".strip()
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = "0"
    if is_money(unit) and not scale.suffix.startswith(("k", "M", "G", "T")):
        return text
    return f"{text} {scale.suffix}".strip()


def _round_step(rough: float, *, binary: bool) -> float:
    if rough <= 0 or not math.isfinite(rough):
        return 1.0
    if binary and rough >= 1:
        return float(2 ** math.ceil(math.log2(rough)))
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))


def time_ticks(start_ms: int, end_ms: int, zone: ZoneInfo, count: int = 8) -> list[tuple[int, str]]:
    """At most about ``count`` round local times inside the window, with labels; midnights carry the date."""
    seconds = max((end_ms - start_ms) / 1000, 1)
    step = next((s for s in _SECONDS if seconds / s <= count), 0)
    start = datetime.fromtimestamp(start_ms / 1000, zone)
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    ticks: list[tuple[int, str]] = []
    if step:
        # Stepping from local midnight keeps hours round in zones with odd offsets and across changes of the clock.
        at = int(midnight.timestamp())
        at += math.ceil((start_ms / 1000 - at) / step) * step
        while at * 1000 <= end_ms:
            moment = datetime.fromtimestamp(at, zone)
            ticks.append((at * 1000, _moment_text(moment, step)))
            at += step
        return ticks
    days = next((d for d in _DAYS if seconds / 86400 / d <= count), 365)
    day = midnight if midnight >= start else midnight + timedelta(days=1)
    while day.timestamp() * 1000 <= end_ms:
        text = f"{day.day} {day:%b}" + (f" {day.year}" if days >= 91 else "")
        ticks.append((int(day.timestamp() * 1000), text))
        day += timedelta(days=days)
    return ticks


def _moment_text(moment: datetime, step: int) -> str:
    if (moment.hour, moment.minute, moment.second) == (0, 0, 0):
        return f"{moment.day} {moment:%b}"
    return f"{moment:%H:%M:%S}" if step < 60 else f"{moment:%H:%M}"


def window_text(start_ms: int, end_ms: int, zone: ZoneInfo) -> str:
    """``24 Nov 2026 10:00 to 16:00 Europe/Berlin``; the date is repeated only where it changes."""
    start, end = (datetime.fromtimestamp(t / 1000, zone) for t in (start_ms, end_ms))
    first = f"{start.day} {start:%b %Y %H:%M}"
    last = f"{end:%H:%M}" if start.date() == end.date() else f"{end.day} {end:%b %Y %H:%M}"
    return f"{first} to {last} {zone.key}"
