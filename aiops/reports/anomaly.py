"""One anomaly as a picture and in words: value, expected course and band, onset, which term fired, what is alike."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from aiops.core.anomaly import Anomaly
from aiops.core.untrusted import Untrusted
from aiops.incidents.explain import Explanation, Trace, reason, similar_line
from aiops.incidents.wording import against_normal, metric_words, quantity
from aiops.reports.charts import Band, Line, Marker, line_png, terminal
from aiops.reports.units import humanise

_HOUR_MS = 3_600_000


def title(anomaly: Anomaly) -> str:
    """``checkout: latency p95 240 ms, expected 61 ms``."""
    words = metric_words(anomaly.metric, anomaly.query, anomaly.kind)
    who = f"{anomaly.service}: " if anomaly.service else ""
    if anomaly.note:
        return Untrusted(f"{who}{words}: {anomaly.note}").display(160)
    value, expected = (quantity(v, anomaly.unit) for v in (anomaly.value, anomaly.expected))
    return Untrusted(f"{who}{words} {value}, expected {expected}").display(160)


def lines(explanation: Explanation, zone: str = "UTC") -> list[str]:
    """What a person asks of an anomaly, a line each; plain text."""
    found, place = explanation.anomaly, ZoneInfo(zone)
    end = found.ended_ms
    since = f"since {_time(found.started_ms, place)}" + (f", ended {_time(end, place)}" if end else ", still open")
    low, high = quantity(found.lower, found.unit), quantity(found.upper, found.unit)
    normal = against_normal(found.value, found.expected)
    peak = "peak" if found.direction == "up" else "lowest"
    if found.note:
        return [Untrusted(line).display(400) for line in (since, found.note, *_marks(explanation, place))]
    out = [
        since,
        f"{peak} {quantity(found.value, found.unit)}, usually {quantity(found.expected, found.unit)} ({low} to {high})"
        + (f": {normal}" if normal else ""),
    ]
    if why := reason(found):
        others = ", ".join(f"{name.rpartition('.')[2]} {value:.3g}" for name, value in found.terms[:3])
        out.append(f"what fired: {why} ({others})")
    if found.beside:
        out.append("with it: " + ", ".join(f"{name} (score {value:.3g})" for name, value in found.beside))
    if np.isfinite(found.score):
        level = f", its threshold was {found.threshold:.3g}" if np.isfinite(found.threshold) else ""
        chance = f"{found.p_value:.1g}" if found.p_value >= 1e-9 else "less than 1e-9"
        rare = f"; quiet steps score as high with a chance of {chance}" if found.p_value < 1 else ""
        out.append(f"score {found.score:.3g}{level}{rare}")
    if explanation.similar:
        out.append("similar before: " + "; ".join(similar_line(s, place) for s in explanation.similar))
    elif explanation.history_ms >= _HOUR_MS:
        out.append(f"nothing like it in the {humanise(explanation.history_ms / 1000, 's')} before")
    out += _marks(explanation, place)
    if found.model:
        out.append(f"model {found.model}")
    return [Untrusted(line).display(400) for line in out]


def _marks(explanation: Explanation, place: ZoneInfo) -> list[str]:
    return [
        f"marked {m.judgement.value} by {m.principal} {_time(m.time_ms, place)}" + (f": {m.note}" if m.note else "")
        for m in explanation.marks
    ]


def picture(explanation: Explanation, zone: str = "UTC", *, width: int = 1000, height: int = 440) -> bytes:
    """The episode as PNG."""
    found, trace = explanation.anomaly, explanation.trace
    if trace is None:
        trace = _empty(found)
    known = np.isfinite(trace.expected).any()
    drawn = [Line("measured", trace.times, trace.value)]
    if known:
        drawn.append(Line("expected", trace.times, trace.expected))
    markers = [Marker(found.started_ms, "anomaly")]
    if found.ended_ms is not None:
        markers.append(Marker(found.ended_ms, "end"))
    return line_png(
        drawn,
        title=title(found),
        unit=found.unit,
        zone=zone,
        band=_band(trace) if known else None,
        markers=markers,
        simulated=("simulated", "true") in found.series,
        width=width,
        height=height,
    )


def text(explanation: Explanation, width: int = 80, zone: str = "UTC") -> str:
    """The same for a terminal: title, chart, lines."""
    parts = [title(explanation.anomaly)]
    if explanation.trace is not None and np.isfinite(explanation.trace.value).any():
        trace = explanation.trace
        parts.append(
            terminal(
                [Line("measured", trace.times, trace.value)], width=width, unit=explanation.anomaly.unit, zone=zone
            )
        )
    return "\n".join([*parts, *(f"  {line}" for line in lines(explanation, zone))])


def _band(trace: Trace) -> Band:
    """The usual range, cut where it would dwarf what was measured; a share or a rate is not shown below 0."""
    measured = trace.value[np.isfinite(trace.value)]
    low, high = (float(measured.min()), float(measured.max())) if len(measured) else (-np.inf, np.inf)
    span = 2 * max(high - low, 1e-12) if len(measured) else 0.0
    least = max(low - span, 0.0) if low >= 0 else low - span
    lower, upper = (np.clip(edge, least, high + span) for edge in (trace.lower, trace.upper))
    return Band(trace.times, lower, upper, "usual range")


def _empty(anomaly: Anomaly) -> Trace:
    times = np.array([anomaly.started_ms, anomaly.updated_ms], np.int64)
    nothing = np.full(2, np.nan)
    return Trace(times, nothing, nothing, nothing, nothing, nothing)


def _time(time_ms: int, place: ZoneInfo) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(place).strftime("%Y-%m-%d %H:%M:%S %Z")
