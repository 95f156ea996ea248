"""Charts as plain text: Unicode blocks, no colour codes, no square brackets (rich would read them as markup)."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np

from aiops.core.cost import CostSeries
from aiops.core.series import SampleBlock
from aiops.core.untrusted import Untrusted
from aiops.reports.axes import time_ticks, value_ticks
from aiops.reports.lines import Line, Values, lines_of
from aiops.reports.units import humanise, whole_of

BLOCKS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
MAX_ROWS = 12
DAY_MS = 86_400_000


def plain(text: str, cap: int = 60) -> str:
    """Telemetry text for a terminal: one line, no controls, brackets made round."""
    return Untrusted(text).display(cap).replace("[", "(").replace("]", ")")


def sparkline(values: Values, width: int = 40, *, low: float | None = None, high: float | None = None) -> str:
    """One row of blocks, the mean of each column; a column without data is ``·``.

    >>> sparkline(np.array([0.0, 1, 2, 3]), 4)
    '▁▃▆█'
    """
    columns = _columns(values, width)
    known = columns[np.isfinite(columns)]
    if not len(known):
        return "·" * len(columns)
    floor = float(known.min()) if low is None else low
    top = float(known.max()) if high is None else high
    span = top - floor
    out = []
    for v in columns:
        level = 4 if span <= 0 else 1 + round((float(np.nan_to_num(v)) - floor) / span * 7)
        out.append(BLOCKS[min(max(level, 1), 8)] if np.isfinite(v) else "·")
    return "".join(out)


def chart(
    series: SampleBlock | Sequence[Line],
    *,
    width: int = 80,
    height: int = 8,
    unit: str = "",
    zone: str = "UTC",
    title: str = "",
) -> str:
    """One series as a block chart with axes, several as a row of blocks each on one common scale."""
    lines = list(lines_of(series) if isinstance(series, SampleBlock) else series)
    lines = [x for x in lines if np.isfinite(x.values).any()]
    head = [plain(title, width)] if title else []
    if not lines:
        return "\n".join([*head, "(no data in this window)"])
    body = _single(lines[0], width, height, unit) if len(lines) == 1 else _rows(lines, width, unit)
    start, end = min(int(x.ts[0]) for x in lines), max(int(x.ts[-1]) for x in lines)
    margin = body[0][0]
    return "\n".join([*head, *(text for _, text in body), _time_row(start, end, zone, margin, width)])


def bars(items: Sequence[tuple[str, float]], *, width: int = 80, unit: str = "", title: str = "") -> str:
    """Horizontal bars in the given order, each with its value."""
    shown = [(plain(n) or "value", v) for n, v in items if np.isfinite(v)][:MAX_ROWS]
    head = [plain(title, width)] if title else []
    if not shown:
        return "\n".join([*head, "(no data)"])
    texts = [humanise(v, unit) for _, v in shown]
    name_width = min(max(len(n) for n, _ in shown), width // 3)
    value_width = max(map(len, texts))
    room = max(width - name_width - value_width - 3, 8)
    peak = max(abs(v) for _, v in shown) or 1.0
    peak = whole_of(peak, unit) or peak
    rows = []
    for (name, value), text in zip(shown, texts, strict=True):
        name = name if len(name) <= name_width else name[: name_width - 1] + "…"
        rows.append(f"{name:<{name_width}} {_bar(abs(value) / peak * room, room)} {text:>{value_width}}")
    if len(items) > MAX_ROWS:
        rows.append(f"… and {len(items) - MAX_ROWS} more")
    return "\n".join([*head, *rows])


def cost(series: CostSeries, *, width: int = 80, title: str = "") -> str:
    """Groups as bars with their sums, and the days' total as a row of blocks."""
    names = [" / ".join(p for p in g if p) or "(no name)" for g in series.groups]
    sums = np.nan_to_num(series.amounts).sum(axis=1) if len(names) else np.empty(0)
    order = np.argsort(-sums, kind="stable")
    text = bars([(names[i], float(sums[i])) for i in order], width=width, unit=series.currency, title=title)
    if len(series.days) < 2 or not len(names):
        return text
    daily = series.amounts.sum(axis=0)
    first, last = (str(np.datetime64(int(series.days[i]) // DAY_MS, "D")) for i in (0, -1))
    spread = f"{humanise(float(daily.min()), series.currency)} to {humanise(float(daily.max()), series.currency)}"
    return f"{text}\n\nper day {sparkline(daily, min(len(daily), width - 10), low=0.0)}  {first} to {last}, {spread}"


def _columns(values: Values, width: int) -> Values:
    values = np.asarray(values, np.float64)
    if len(values) <= width:
        return values
    edges = np.linspace(0, len(values), width + 1).astype(int)
    known = np.isfinite(values)
    sums = np.add.reduceat(np.where(known, values, 0.0), edges[:-1])
    counts = np.add.reduceat(known.astype(np.float64), edges[:-1])
    return np.asarray(np.divide(sums, counts, out=np.full(width, np.nan), where=counts > 0))


def _by_time(line: Line, start: int, end: int, width: int) -> Values:
    """Mean per column of time, NaN where nothing was measured; short gaps below the spacing are carried over."""
    known = np.isfinite(line.values)
    ts, values = line.ts[known], line.values[known]
    column = np.minimum((ts - start) * width // max(end - start, 1), width - 1)
    counts = np.bincount(column, minlength=width)
    sums = np.bincount(column, weights=values, minlength=width)
    out = np.divide(sums, counts, out=np.full(width, np.nan), where=counts > 0)
    if len(ts) > 1:
        reach = int(np.ceil(float(np.median(np.diff(ts))) * 1.5 / max(end - start, 1) * width))
        for i in range(1, width):
            back = out[max(0, i - reach) : i]
            if counts[i] == 0 and np.isfinite(back).any():
                out[i] = back[np.flatnonzero(np.isfinite(back))[-1]] if counts[max(0, i - reach) : i].any() else np.nan
    return np.asarray(out)


def _single(line: Line, width: int, height: int, unit: str) -> list[tuple[int, str]]:
    known = line.values[np.isfinite(line.values)]
    low, high = float(known.min()), float(known.max())
    if low >= 0 and (low < 0.6 * high or low == high):
        low = 0.0
    ticks, labels = value_ticks(low, high, unit, max(2, height // 2))
    margin = max(map(len, labels)) + 2
    room = max(width - margin, 10)
    columns = _by_time(line, int(line.ts[0]), int(line.ts[-1]), room)
    levels = (columns - ticks[0]) / (ticks[-1] - ticks[0]) * height * 8
    rows = []
    marks = {round((height - 1) * (1 - i / (len(ticks) - 1))): t for i, t in enumerate(labels)}
    for row in range(height):
        base = (height - 1 - row) * 8
        cells = []
        for level in levels:
            inside = 0 if not np.isfinite(level) else int(min(max(round(float(level)) - base, 0), 8))
            if row == height - 1 and np.isfinite(level) and inside == 0:
                inside = 1
            cells.append(BLOCKS[inside])
        rows.append((margin, f"{marks.get(row, ''):>{margin - 2}} │{''.join(cells).rstrip()}"))
    return rows


def _rows(lines: list[Line], width: int, unit: str) -> list[tuple[int, str]]:
    start, end = min(int(x.ts[0]) for x in lines), max(int(x.ts[-1]) for x in lines)
    peaks = [float(np.nanmax(x.values)) for x in lines]
    shown = [lines[i] for i in sorted(np.argsort(-np.array(peaks), kind="stable")[:MAX_ROWS].tolist())]
    names = [plain(x.name) or "value" for x in shown]
    name_width = min(max(map(len, names)), width // 3)
    lasts = [humanise(float(x.values[np.isfinite(x.values)][-1]), unit) for x in shown]
    last_width = max(map(len, lasts))
    room = max(width - name_width - last_width - 3, 10)
    low = min(0.0, *(float(np.nanmin(x.values)) for x in shown))
    floors = min(float(np.nanmin(x.values)) for x in shown)
    low = floors if floors > 0.6 * max(peaks) else low
    rows = []
    for line, name, last in zip(shown, names, lasts, strict=True):
        name = name if len(name) <= name_width else name[: name_width - 1] + "…"
        drawn = sparkline(_by_time(line, start, end, room), room, low=low, high=max(peaks))
        rows.append((name_width + 1, f"{name:<{name_width}} {drawn} {last:>{last_width}}"))
    if len(lines) > len(shown):
        rows.append((name_width + 1, f"… and {len(lines) - len(shown)} more"))
    return rows


def _time_row(start: int, end: int, zone: str, margin: int, width: int) -> str:
    room = max(width - margin, 10)
    cells = [" "] * (room + 10)
    free = 0
    for at, text in time_ticks(start, end, ZoneInfo(zone), max(2, room // 12)):
        x = int((at - start) / max(end - start, 1) * room)
        if x >= free and x + len(text) <= room + 4:
            cells[x : x + len(text)] = text
            free = x + len(text) + 2
    return " " * margin + "".join(cells).rstrip() + f"  {zone}"


def _bar(length: float, room: int) -> str:
    full, part = divmod(round(length * 8), 8)
    return ("█" * full + (_EIGHTHS[part] if part else "")).ljust(room)
