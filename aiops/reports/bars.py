"""Bar charts: daily costs stacked by group, and ranked values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiops.core.cost import CostSeries
from aiops.core.untrusted import Untrusted
from aiops.reports.axes import value_ticks
from aiops.reports.canvas import ALARM, AXIS, INK, MUTED, PALETTE, TRACK, Canvas, Key, Plot, fit, text_width, tint
from aiops.reports.lines import MAX_COLOURS, Times, Values, grid
from aiops.reports.units import humanise, whole_of

DAY_MS = 86_400_000


def stacked_png(
    costs: CostSeries,
    *,
    title: str = "",
    subtitle: str = "",
    threshold: float | None = None,
    simulated: bool = False,
    width: int = 1200,
    height: int = 520,
) -> bytes:
    """Daily bars stacked by group; days that the bill does not cover yet are pale. Days are UTC."""
    names = [Untrusted(" / ".join(p for p in g if p)).display(60) or "(no name)" for g in costs.groups]
    amounts = np.maximum(np.nan_to_num(costs.amounts), 0.0)
    order = np.argsort(-amounts.sum(axis=1), kind="stable") if len(names) else np.empty(0, np.int64)
    layers = [(names[i], amounts[i]) for i in order[:MAX_COLOURS]]
    colours: list[tuple[int, int, int]] = list(PALETTE[: len(layers)])
    if len(order) > MAX_COLOURS:
        rest = order[MAX_COLOURS - 1 :]
        layers = [*layers[: MAX_COLOURS - 1], (f"{len(rest)} others", amounts[rest].sum(axis=0))]
        colours[-1] = (156, 163, 175)
    high = float(amounts.sum(axis=0).max()) if amounts.size else 1.0
    ticks, labels = value_ticks(0.0, max(high, threshold or 0.0) or 1.0, costs.currency)
    keys = [
        Key(n, c, humanise(float(v.sum()), costs.currency), "box") for (n, v), c in zip(layers, colours, strict=True)
    ]
    if amounts[:, costs.days + DAY_MS > costs.newest_ms].any():
        keys.append(Key("pale: not complete yet", (209, 213, 219), shape="box"))
    canvas = Canvas(
        width, height, title=title, subtitle=subtitle, keys=keys, y_labels=labels, simulated=simulated
    )  # fmt: skip
    left, top, right, bottom = canvas.plot
    plot = Plot(canvas)

    def y_of(v: Values) -> Values:
        return np.asarray(bottom - 1 - v / ticks[-1] * (bottom - top - 2))

    grid(canvas, plot, ticks, labels, y_of)
    slot = (right - left) / max(len(costs.days), 1)
    gap = min(max(slot * 0.14, 0.5), 24)
    for d, day in enumerate(costs.days.tolist()):
        pale = day + DAY_MS > costs.newest_ms
        base = 0.0
        for (_, values), colour in zip(layers, colours, strict=True):
            y0, y1 = y_of(np.array([base + values[d], base])).tolist()
            box = (left + d * slot + gap, y0, left + (d + 1) * slot - gap, y1)
            plot.bar(box, tint(colour, 0.4) if pale else colour)
            base += float(values[d])
    plot.path([(left, bottom - 1), (right, bottom - 1)], AXIS, 1.2)
    if threshold is not None:
        y = float(y_of(np.array([threshold]))[0])
        plot.dashes((left, y), (right, y), ALARM)
    plot.close()
    if threshold is not None:
        y = float(y_of(np.array([threshold]))[0])
        canvas.text((right - 6, y - 4), f"limit {humanise(threshold, costs.currency)}", 14, ALARM, "rd")
    _day_axis(canvas, costs.days, slot)
    if not layers:
        canvas.text(((left + right) / 2, (top + bottom) / 2), "no costs in this window", 18, MUTED, "mm")
    return canvas.png()


def ranked_png(
    items: Sequence[tuple[str, float]],
    *,
    title: str = "",
    subtitle: str = "",
    unit: str = "",
    threshold: float | None = None,
    simulated: bool = False,
    width: int = 1200,
    limit: int = 12,
) -> bytes:
    """Horizontal bars in the given order, each with its value; for instant results."""
    shown = [(Untrusted(n).display(120) or "value", v) for n, v in items[:limit] if np.isfinite(v)]
    names = [fit(n, 16, width * 0.34) for n, _ in shown]
    left = round(28 + max((text_width(n, 16) for n in names), default=0) + 14)
    note = subtitle if len(items) <= limit else f"{subtitle}  ({len(items) - limit} more not shown)".strip()
    head = 22 + (34 if title else 0) + (26 if note else 0) + 16
    canvas = Canvas(
        width, head + max(len(shown), 1) * 38 + 58, title=title, subtitle=note, keys=(), y_labels=(),
        simulated=simulated, left=left,
    )  # fmt: skip
    _, top, right, _ = canvas.plot
    room = right - left - max((text_width(humanise(v, unit), 15) for _, v in shown), default=0) - 14
    peak = max([abs(v) for _, v in shown] + [abs(threshold or 0.0), 1e-12])
    whole = whole_of(peak, unit)
    peak = whole or peak
    plot = Plot(canvas)
    for i, (_, value) in enumerate(shown):
        over = threshold is not None and value > threshold
        y = top + i * 38
        if whole:
            plot.bar((left, y, left + room, y + 24), TRACK, 3)
        plot.bar((left, y, left + max(abs(value) / peak * room, 2), y + 24), ALARM if over else PALETTE[0], 3)
    if threshold is not None:
        x = left + abs(threshold) / peak * room
        plot.dashes((x, top - 4), (x, top + len(shown) * 38), ALARM)
    plot.close()
    for i, (_, value) in enumerate(shown):
        y = top + i * 38 + 12
        canvas.text((left - 12, y), names[i], 16, INK, "rm")
        end = room if whole else abs(value) / peak * room
        canvas.text((left + end + 10, y), humanise(value, unit), 15, MUTED, "lm")
    if threshold is not None:
        x = left + abs(threshold) / peak * room
        canvas.text((x, top + len(shown) * 38 + 6), f"limit {humanise(threshold, unit)}", 14, ALARM, "ma")
    if not shown:
        canvas.text((width / 2, top + 20), "no data", 18, MUTED, "mm")
    return canvas.png()


def _day_axis(canvas: Canvas, days: Times, slot: float) -> None:
    left, _, _, bottom = canvas.plot
    step = max(1, round(72 / max(slot, 1e-9)))
    for d in range(0, len(days), step):
        day = np.datetime64(int(days[d]) // DAY_MS, "D").item()
        canvas.text((left + (d + 0.5) * slot, bottom + 10), f"{day.day} {day:%b}", 15, MUTED, "ma")
