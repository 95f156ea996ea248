"""Charts, as PNG by Pillow and as plain text for a terminal; this module is the door to both.

Inputs are core types (``SampleBlock``, ``CostSeries``, ``Evidence``) or :class:`Line` arrays. Text from telemetry is
cleaned before it is drawn.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np

from aiops.core.cost import CostSeries
from aiops.core.evidence import Evidence
from aiops.core.series import SampleBlock
from aiops.reports import terminal as text_charts
from aiops.reports.axes import window_text
from aiops.reports.bars import DAY_MS, ranked_png, stacked_png
from aiops.reports.lines import Band, Line, Marker, line_png, lines_of, series_names
from aiops.reports.terminal import sparkline

__all__ = [
    "Band",
    "Line",
    "Marker",
    "chart_for",
    "data_uri",
    "line_png",
    "ranked_png",
    "series_names",
    "sparkline",
    "stacked_png",
    "terminal",
    "terminal_for",
]


def data_uri(png: bytes) -> str:
    """For an ``<img src>`` without any outside resource."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


terminal = text_charts.chart
"""A chart in Unicode blocks, plain text without markup."""


def chart_for(
    evidence: Evidence, zone: str = "UTC", *, markers: Sequence[Marker] = (), simulated: bool = False
) -> bytes | None:
    """The picture of a piece of evidence, ``None`` where it holds nothing to draw.

    Costs by day become stacked bars, series lines, single values (an instant query, or figures) ranked bars. Evidence
    whose labels or query say ``simulated="true"`` is marked so.
    """
    simulated = simulated or _simulated(evidence)
    title = evidence.title
    window = window_text(evidence.start_ms, evidence.end_ms, ZoneInfo(zone))
    costs = _daily_costs(evidence)
    if costs is not None:
        return stacked_png(costs, title=title, subtitle=f"{window}, days are UTC", simulated=simulated)
    if evidence.series is not None and _over_time(evidence.series):
        return line_png(
            evidence.series, title=title, unit=evidence.unit, zone=zone, start_ms=evidence.start_ms,
            end_ms=evidence.end_ms, markers=markers, simulated=simulated,
        )  # fmt: skip
    items, unit = _values(evidence)
    if not items:
        return None
    return ranked_png(items, title=title, subtitle=window, unit=unit, simulated=simulated)


def terminal_for(evidence: Evidence, width: int = 80, zone: str = "UTC") -> str:
    """The same for a terminal; an empty string where there is nothing to draw."""
    costs = _daily_costs(evidence)
    if costs is not None:
        return text_charts.cost(costs, width=width, title=evidence.title)
    if evidence.series is not None and _over_time(evidence.series):
        return text_charts.chart(evidence.series, width=width, unit=evidence.unit, zone=zone, title=evidence.title)
    items, unit = _values(evidence)
    return text_charts.bars(items, width=width, unit=unit, title=evidence.title) if items else ""


def _simulated(evidence: Evidence) -> bool:
    labels = evidence.series.labels if evidence.series is not None else tuple(f.labels for f in evidence.figures)
    return 'simulated="true"' in evidence.query or any(("simulated", "true") in pairs for pairs in labels)


def _over_time(block: SampleBlock) -> bool:
    return bool(len(block)) and bool(np.any(np.diff(block.offsets) > 1))


def _daily_costs(evidence: Evidence) -> CostSeries | None:
    """Evidence of kind ``cost`` whose samples all stand at UTC midnights."""
    block = evidence.series
    if evidence.kind != "cost" or block is None or not block.sample_count or np.any(block.ts % DAY_MS):
        return None
    first, last = int(block.ts.min()) // DAY_MS, int(block.ts.max()) // DAY_MS
    if last == first:
        return None
    amounts = np.zeros((len(block), last - first + 1))
    for i in range(len(block)):
        ts, values = block.series(i)
        amounts[i, ts // DAY_MS - first] = np.nan_to_num(values)
    days = np.arange(first, last + 1, dtype=np.int64) * DAY_MS
    newest = evidence.newest_ms if evidence.newest_ms is not None else (last + 1) * DAY_MS
    names = tuple((name,) for name in series_names(block.labels))
    return CostSeries(days, names, amounts, evidence.unit, newest)


def _values(evidence: Evidence) -> tuple[list[tuple[str, float]], str]:
    """Single values: of an instant result, largest first, else the figures that belong together, as given."""
    block = evidence.series
    if block is not None and len(block) and block.sample_count:
        names = [line.name for line in lines_of(block)]
        items = [(n, float(block.series(i)[1][-1])) for i, n in enumerate(names) if len(block.series(i)[1])]
        return sorted(items, key=lambda x: -x[1]), evidence.unit
    labelled = [f for f in evidence.figures if f.labels]
    figures = [f for f in labelled if f.name == labelled[0].name] if labelled else list(evidence.figures)
    unit = figures[0].unit if figures else ""
    figures = [f for f in figures if f.unit == unit]
    if len(figures) < 2 or unit == "time":
        return [], ""
    names = series_names([f.labels for f in figures]) if labelled else [f.name for f in figures]
    return [(n or f.name, f.value) for n, f in zip(names, figures, strict=True)], unit
