"""The report of a back test: what would have been raised in a time range, each episode with its picture and reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from aiops.core.anomaly import Anomaly
from aiops.incidents.backtest import Backtest
from aiops.incidents.explain import Explanation, reason
from aiops.reports import render
from aiops.reports.anomaly import lines, picture, title
from aiops.reports.axes import window_text

PICTURES = 40
"""Episodes drawn at most: the least likely ones."""


@dataclass(frozen=True, slots=True)
class _Item:
    title: str
    since: str
    lines: tuple[str, ...]
    query: str
    png: bytes | None


def html(found: Backtest, source: str, zone: str = "UTC") -> str:
    """One self-contained page."""
    place = ZoneInfo(zone)
    ranked = sorted(found.explanations, key=lambda e: e.anomaly.p_value if math.isfinite(e.anomaly.p_value) else 0.0)
    drawn = {e.anomaly.id for e in ranked[:PICTURES]}
    items = [
        _Item(
            title(e.anomaly),
            _moment(e.anomaly.started_ms, place),
            tuple(lines(e, zone)),
            e.anomaly.query,
            picture(e, zone) if e.anomaly.id in drawn else None,
        )
        for e in found.explanations
    ]
    counts = _counts(found)
    return render.html(
        "backtest.html.j2",
        title="What the detection finds",
        window=window_text(found.start_ms, found.end_ms, place),
        source=source,
        simulated=any(_simulated(e.anomaly) for e in found.explanations),
        cards=_cards(found),
        items=items,
        undrawn=max(len(items) - PICTURES, 0),
        metrics=[(name, number, counts.get(name, 0)) for name, number in found.metrics],
        refused=found.refused,
    )


def summary(found: Backtest, zone: str = "UTC") -> str:
    """The same in some lines of plain text."""
    place = ZoneInfo(zone)
    out = [f"{name}: {figure}" + (f" ({note})" if note else "") for name, figure, note in _cards(found)]
    for one in found.explanations[:PICTURES]:
        why = reason(one.anomaly)
        out.append(f"  {_moment(one.anomaly.started_ms, place)}  {title(one.anomaly)}" + (f": {why}" if why else ""))
    if len(found.explanations) > PICTURES:
        out.append(f"  and {len(found.explanations) - PICTURES} more")
    out += [f"  {name} was refused: {why}" for name, why in found.refused]
    return "\n".join(out)


def as_json(found: Backtest) -> dict[str, Any]:
    """Figures and episodes; a number that is not finite is ``null``."""
    return {
        "start_ms": found.start_ms,
        "end_ms": found.end_ms,
        "series": found.series,
        "unripe": found.unripe,
        "episodes": len(found.explanations),
        "episodes_per_series_week": found.per_series_week,
        "series_by_metric": dict(found.metrics),
        "refused": dict(found.refused),
        "anomalies": [_as_json(e) for e in found.explanations],
    }


def _as_json(value: Explanation) -> dict[str, Any]:
    one = value.anomaly
    numbers = {
        name: _finite(getattr(one, name))
        for name in ("value", "expected", "lower", "upper", "score", "threshold", "p_value")
    }
    return {
        "id": one.id,
        "service": one.service,
        "metric": one.metric,
        "labels": dict(one.series),
        "query": one.query,
        "direction": one.direction,
        "started_ms": one.started_ms,
        "ended_ms": one.ended_ms,
        "unit": one.unit,
        **numbers,
        "terms": {k: v for k, v in one.terms if math.isfinite(v)},
        "reason": reason(one),
        "similar": [{"start_ms": s.start_ms, "end_ms": s.end_ms, "distance": s.distance} for s in value.similar],
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cards(found: Backtest) -> list[tuple[str, str, str]]:
    unripe = f"{found.unripe} more had too little history" if found.unripe else ""
    days = (found.end_ms - found.start_ms) / 86_400_000
    return [
        ("series judged", f"{found.series:,}", unripe),
        ("episodes", f"{len(found.explanations):,}", f"in {days:.3g} days"),
        ("episodes per series-week", f"{found.per_series_week:.3g}", ""),
    ]


def _counts(found: Backtest) -> dict[str, int]:
    out: dict[str, int] = {}
    for one in found.explanations:
        out[one.anomaly.metric] = out.get(one.anomaly.metric, 0) + 1
    return out


def _simulated(anomaly: Anomaly) -> bool:
    return ("simulated", "true") in anomaly.series


def _moment(time_ms: int, place: ZoneInfo) -> str:
    return datetime.fromtimestamp(time_ms / 1000, place).strftime("%Y-%m-%d %H:%M %Z")
