"""Figures and headlines as on-call reads them. Text from telemetry is only used in its display form."""

from __future__ import annotations

import math
import re

from aiops.core.incident import Alert, CauseCandidate, Incident
from aiops.core.untrusted import Untrusted

_DIGEST = re.compile(r"[ _][0-9a-f]{4}$")
_QUANTILE = re.compile(r"histogram_quantile\s*\(\s*0?\.(\d+)")
_DULL = re.compile(r"\b(seconds|bytes|total|usage|working|set|bucket|count|sum)\b")
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")


def quantity(value: float, unit: str = "") -> str:
    """A value with its unit (UCUM-like: ``s``, ``ms``, ``By``, ``1`` for a ratio, ``%``, a currency).

    >>> quantity(0.24, "s"), quantity(3.2e9, "By"), quantity(0.931, "1")
    ('240 ms', '3.2 GB', '93.1 %')
    """
    if not math.isfinite(value):
        return "no value"
    if unit == "ms":
        return quantity(value / 1000.0, "s")
    if unit == "s":
        if abs(value) >= 120:
            return f"{value / 60:.3g} min"
        if value and abs(value) < 1e-3:
            return f"{value * 1e6:.3g} µs"
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit in ("By", "bytes", "B", "By/s"):
        rest, size = "/s" if unit.endswith("/s") else "", abs(value)
        power = min(int(math.log(size, 1000)), len(_BYTES) - 1) if size >= 1 else 0
        return f"{value / 1000**power:.3g} {_BYTES[power]}{rest}"
    if unit in ("1", "ratio"):
        return f"{value * 100:.3g} %"
    return f"{_plain(value)} {unit}".strip()


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def against_normal(value: float, expected: float) -> str:
    """How far a value is from what was expected, in words; empty where that says nothing.

    >>> against_normal(1.9, 0.24), against_normal(40.0, 100.0), against_normal(3.0, 0.0)
    ('7.9x normal', '60 % below normal', 'normally 0')
    """
    if not (math.isfinite(value) and math.isfinite(expected)):
        return ""
    if expected <= 0:
        return "normally 0" if expected == 0 and value > 0 else ""
    ratio = value / expected
    if ratio >= 1.5:
        return f"{ratio:.0f}x normal" if ratio >= 9.95 else f"{ratio:.2g}x normal"
    if ratio > 1:
        return f"{(ratio - 1) * 100:.0f} % above normal"
    return f"{(1 - ratio) * 100:.0f} % below normal" if ratio < 1 else ""


def metric_words(metric: str, query: str = "", kind: str = "") -> str:
    """A watched metric as people call it; a name made up from a query is read from the query instead.

    >>> metric_words("http server request duration seconds bucket 2b16", "histogram_quantile(0.95, …)", "latency")
    'latency p95'
    """
    if not _DIGEST.search(metric):
        return metric
    if kind == "latency":
        found = _QUANTILE.search(query)
        return f"latency p{found[1]}" if found else "latency"
    if kind in ("errors", "traffic"):
        return "error ratio" if kind == "errors" else "request rate"
    plain = _DULL.sub(" ", _DIGEST.sub("", metric).replace("_", " ").replace(":", " "))
    return " ".join(plain.split()) or metric


def headline(alert: Alert) -> str:
    """One line for a signal: ``checkout: latency p95 1.9 s, 7.9x normal``."""
    service = Untrusted(alert.service).display(100)
    prefix = f"{service}: " if service else ""
    if (anomaly := alert.anomaly) is not None:
        words = Untrusted(metric_words(anomaly.metric, anomaly.query, anomaly.kind)).display(100)
        said = next((text for name, text in alert.annotations if name == "template"), None)
        words += f" «{said.display(80)}»" if said is not None else ""
        if anomaly.note:
            return f"{prefix}{words}: {Untrusted(anomaly.note).display(160)}"
        parts = [f"{words} {quantity(anomaly.value, anomaly.unit)}"]
        if normal := against_normal(anomaly.value, anomaly.expected):
            parts.append(normal)
        return prefix + ", ".join(parts)
    name, summary = Untrusted(alert.name).display(100), alert.summary.display(160)
    return prefix + (f"{name}: {summary}" if summary else name)


def cause_headline(candidate: CauseCandidate) -> str:
    """A title for a cause that has no signal of its own: ``cart: container cpu ratio 20 % → 95 %``."""
    why = candidate.reasons[0] if candidate.reasons else "likely cause"
    return f"{Untrusted(candidate.service).display(100)}: {Untrusted(why).display(160)}"


def cause_line(candidate: CauseCandidate, unit: str = "") -> str:
    """A ranked cause in one line: share, service, what changed there."""
    line = f"{candidate.service} ({candidate.share:.0%})"
    if candidate.metric:
        line += f": {candidate.metric}"
        if math.isfinite(candidate.before) and math.isfinite(candidate.after):
            line += f" from {quantity(candidate.before, unit)} to {quantity(candidate.after, unit)}"
    elif candidate.reasons:
        line += f": {candidate.reasons[0]}"
    return line


def cause_summary(incident: Incident) -> str:
    """What the ranking says of an incident, in one line."""
    if not incident.candidates:
        return "No cause ranked yet."
    if not incident.clear_cause:
        names = ", ".join(f"{c.service} ({c.share:.0%})" for c in incident.candidates[:3])
        return f"No clear cause; weak candidates: {names}."
    return f"Likely cause: {cause_line(incident.candidates[0])}."
