"""Line charts: several series, expected band, markers, a limit; and names of series from their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from aiops.core.series import METRIC_NAME, Labels, SampleBlock
from aiops.core.untrusted import Untrusted
from aiops.reports.axes import time_ticks, value_ticks, window_text
from aiops.reports.canvas import (
    ALARM,
    AXIS,
    BAND,
    GRID,
    MUTED,
    OTHERS,
    PALETTE,
    Canvas,
    Key,
    Plot,
    fit,
    text_width,
    tint,
)
from aiops.reports.units import humanise

MAX_COLOURS = len(PALETTE)

Times = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """One series: ``ts`` int64 ms UTC ascending, ``values`` float64, NaN where unknown."""

    name: str
    ts: Times
    values: Values


@dataclass(frozen=True, slots=True)
class Band:
    """The expected range; arrays of one length."""

    ts: Times
    lower: Values
    upper: Values
    name: str = "expected"


@dataclass(frozen=True, slots=True)
class Marker:
    """A moment, such as the onset of a fault or a deploy."""

    time_ms: int
    label: str


def lines_of(block: SampleBlock) -> list[Line]:
    """Series named by the labels in which they differ."""
    names = series_names(block.labels)
    return [Line(names[i], *block.series(i)) for i in range(len(block))]


def series_names(labels: Sequence[Labels]) -> list[str]:
    """Short names: of the labels that differ, the fewest that tell all series apart, the telling ones first.

    >>> series_names([(("instance", "a"), ("job", "n")), (("instance", "b"), ("job", "n"))])
    ['a', 'b']
    """
    tables = [dict(pairs) for pairs in labels]
    every = sorted({k for t in tables for k in t}, key=lambda k: (_rank(k), k))
    if len(tables) == 1:
        telling = [k for k in every if k not in _NOISE] or every
        chosen = telling[:3]
    else:
        chosen, distinct = [], 1
        for name in every:
            told = len({tuple(t.get(k, "") for k in (*chosen, name)) for t in tables})
            if told > distinct:
                chosen, distinct = [*chosen, name], told
            if distinct == len(tables):
                break
    return [Untrusted(" ".join(_part(k, t[k], len(chosen)) for k in chosen if k in t)).display(120) for t in tables]


_TELLING = (
    METRIC_NAME, "service_name", "service", "ServiceName", "app", "instance", "node", "host", "namespace", "pod",
    "deployment", "container", "mountpoint", "device", "datname", "SubAccountName",
)  # fmt: skip
_NOISE = frozenset({"job", "fstype", "simulated"})


def _rank(name: str) -> int:
    return _TELLING.index(name) if name in _TELLING else len(_TELLING) + (name in _NOISE)


def _part(name: str, value: str, parts: int) -> str:
    return value if parts == 1 or name in _TELLING else f"{name}={value}"


def line_png(
    series: SampleBlock | Sequence[Line],
    *,
    title: str = "",
    subtitle: str = "",
    unit: str = "",
    zone: str = "UTC",
    start_ms: int | None = None,
    end_ms: int | None = None,
    band: Band | None = None,
    markers: Sequence[Marker] = (),
    threshold: float | None = None,
    simulated: bool = False,
    width: int = 1200,
    height: int = 520,
) -> bytes:
    """A line chart as PNG. Without ``start_ms`` and ``end_ms`` the data's own span is shown.

    Above eight series the eight with the highest peaks are coloured, the others are grey.
    """
    lines = [
        replace(x, values=np.where(np.abs(x.values) <= 1e307, x.values, np.nan))
        for x in (lines_of(series) if isinstance(series, SampleBlock) else series)
    ]
    start, end = _span(lines, band, start_ms, end_ms)
    shown = _coloured(lines)
    low, high = _bounds(lines, band, threshold)
    ticks, labels = value_ticks(low, high, unit)
    lines = [replace(x, name=Untrusted(x.name).display(120)) for x in lines]
    where = ZoneInfo(zone)
    note = subtitle or window_text(start, end, where)
    keys = [Key(lines[i].name or "value", PALETTE[c], _last(lines[i], unit)) for c, i in enumerate(shown)]
    if len(lines) > len(shown):
        keys.append(Key(f"{len(lines) - len(shown)} more", OTHERS))
    if band is not None:
        keys.append(Key(band.name, tint(PALETTE[0], 0.3), shape="box"))
    canvas = Canvas(
        width, height, title=title, subtitle=note, keys=keys, y_labels=labels, simulated=simulated
    )  # fmt: skip
    left, top, right, bottom = canvas.plot
    plot = Plot(canvas)

    def x_of(t: Times) -> Values:
        return np.asarray(left + (t - start) / max(end - start, 1) * (right - left))

    def y_of(v: Values) -> Values:
        return np.asarray(bottom - 1 - (v - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - top - 2))

    if band is not None:
        _fill(plot, x_of(band.ts), y_of(band.lower), y_of(band.upper))
    grid(canvas, plot, ticks, labels, y_of)
    _time_axis(canvas, plot, start, end, where)
    if threshold is not None:
        y = float(y_of(np.array([threshold]))[0])
        plot.dashes((left, y), (right, y), ALARM)
    order = [i for i in range(len(lines)) if i not in shown] + shown[::-1]
    for i in order:
        colour = PALETTE[shown.index(i)] if i in shown else OTHERS
        for piece in _pieces(lines[i], start, end):
            ts, values = _thin(*piece, right - left)
            plot.path(
                list(zip(x_of(ts).tolist(), y_of(values).tolist(), strict=True)), colour, 2.4 if i in shown else 1.2
            )
    marked = [m for m in markers if start <= m.time_ms <= end]
    for m in marked:
        x = float(x_of(np.array([m.time_ms]))[0])
        plot.dashes((x, top), (x, bottom), ALARM, 1.6)
    plot.close()
    for m in marked:
        _flag(canvas, float(x_of(np.array([m.time_ms]))[0]), m.label)
    if threshold is not None:
        y = float(y_of(np.array([threshold]))[0])
        canvas.text((right - 6, y - 4), f"limit {humanise(threshold, unit)}", 14, ALARM, "rd")
    if not any(np.isfinite(x.values).any() for x in lines):
        canvas.text(((left + right) / 2, (top + bottom) / 2), "no data in this window", 18, MUTED, "mm")
    return canvas.png()


def _span(lines: Sequence[Line], band: Band | None, start_ms: int | None, end_ms: int | None) -> tuple[int, int]:
    times = [x.ts for x in lines if len(x.ts)] + ([band.ts] if band is not None and len(band.ts) else [])
    first = min((int(t[0]) for t in times), default=0) if start_ms is None else start_ms
    last = max((int(t[-1]) for t in times), default=first + 1) if end_ms is None else end_ms
    return (first - 30_000, first + 30_000) if last <= first else (first, last)


def _coloured(lines: Sequence[Line]) -> list[int]:
    if len(lines) <= MAX_COLOURS:
        return list(range(len(lines)))
    peaks = [float(np.nanmax(x.values)) if np.isfinite(x.values).any() else -np.inf for x in lines]
    return [int(i) for i in np.argsort(-np.array(peaks), kind="stable")[: MAX_COLOURS - 1]]


def _bounds(lines: Sequence[Line], band: Band | None, threshold: float | None) -> tuple[float, float]:
    """The value range; zero is included unless the data lives far from it."""
    parts = [x.values[np.isfinite(x.values)] for x in lines]
    if band is not None:
        parts += [v[np.isfinite(v)] for v in (band.lower, band.upper)]
    if threshold is not None:
        parts.append(np.array([threshold]))
    every = np.concatenate(parts) if parts else np.empty(0)
    if not len(every):
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    if low >= 0 and (low < 0.6 * high or low == high):
        low = 0.0
    if high <= 0 and (high > 0.6 * low or low == high):
        high = 0.0
    return low, high


def _last(line: Line, unit: str) -> str:
    known = np.flatnonzero(np.isfinite(line.values))
    return humanise(float(line.values[known[-1]]), unit) if len(known) else "no data"


def _pieces(line: Line, start: int, end: int) -> list[tuple[Times, Values]]:
    """Runs without holes; a hole is a NaN or a pause over three times the usual spacing."""
    inside = (line.ts >= start) & (line.ts <= end)
    ts, values = line.ts[inside], line.values[inside]
    known = np.isfinite(values)
    if not known.any():
        return []
    usual = float(np.median(np.diff(ts))) if len(ts) > 1 else 0.0
    kept = np.flatnonzero(known)
    breaks = (np.diff(kept) > 1) | (np.diff(ts[kept]) > 3 * usual)
    return [(ts[run], values[run]) for run in np.split(kept, np.flatnonzero(breaks) + 1)]


def _thin(ts: Times, values: Values, pixels: int) -> tuple[Times, Values]:
    """Smallest and largest value of each pixel column, in time order, where there are more points than pixels."""
    if len(ts) <= 2 * pixels:
        return ts, values
    edges = np.linspace(0, len(ts), pixels + 1).astype(int)[:-1]
    column = np.repeat(np.arange(len(edges)), np.diff(np.append(edges, len(ts))))
    order = np.lexsort((values, column))
    ends = np.append(edges[1:], len(ts)) - 1
    keep = np.unique(np.concatenate([order[edges], order[ends]]))
    return ts[keep], values[keep]


def _fill(plot: Plot, x: Values, y_low: Values, y_high: Values) -> None:
    known = np.flatnonzero(np.isfinite(y_low) & np.isfinite(y_high))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        upper = list(zip(x[run].tolist(), y_high[run].tolist(), strict=True))
        lower = list(zip(x[run].tolist(), y_low[run].tolist(), strict=True))
        plot.area(upper + lower[::-1], BAND)


def grid(
    canvas: Canvas, plot: Plot, ticks: Sequence[float], labels: Sequence[str], y_of: Callable[[Values], Values]
) -> None:
    """Horizontal lines and their labels."""
    left, _, right, _ = canvas.plot
    for value, text in zip(ticks, labels, strict=True):
        y = float(y_of(np.array([value]))[0])
        plot.path([(left, y), (right, y)], AXIS if value == 0 else GRID, 1.2)
        canvas.text((left - 12, y), text, 15, MUTED, "rm")


def _time_axis(canvas: Canvas, plot: Plot, start: int, end: int, zone: ZoneInfo) -> None:
    left, top, right, bottom = canvas.plot
    for at, text in time_ticks(start, end, zone):
        x = left + (at - start) / (end - start) * (right - left)
        plot.path([(x, top), (x, bottom)], (243, 245, 248), 1.2)
        half = text_width(text, 15) / 2
        canvas.text((min(max(x, left - 10 + half), right - half), bottom + 10), text, 15, MUTED, "ma")


def _flag(canvas: Canvas, x: float, label: str) -> None:
    left, top, right, _ = canvas.plot
    text = fit(Untrusted(label).display(80), 14, 260)
    wide = text_width(text, 14) + 14
    x0 = min(max(x - wide / 2, left), right - wide)
    canvas.pen.rounded_rectangle((x0, top - 4, x0 + wide, top + 20), 5, fill=ALARM)
    canvas.text((x0 + wide / 2, top + 8), text, 14, (255, 255, 255), "mm")
