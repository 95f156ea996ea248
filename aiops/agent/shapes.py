"""The shape a metric question asks for, and what it makes of a concept's skeleton and threshold."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiops.agent import slots
from aiops.agent.concepts import Concept, Form
from aiops.core.query import MetricStep, PlanStep, Shape, Threshold, Window


@dataclass(frozen=True, slots=True)
class Read:
    """A question, taken apart once."""

    text: str
    asked_ms: int
    rest: str
    window: Window | None
    horizon_s: float | None
    back_s: float | None
    shape: Shape | None
    limit: slots.Limit | None
    quantile: float | None
    used: bool


def honoured(asked: Shape | None, step: PlanStep) -> bool:
    """Whether the step has the shape that was asked for, where another one would be another question."""
    if asked in ("change", "age", "forecast") and isinstance(step, MetricStep):
        return step.shape == asked
    return True


_COUNTABLE = re.compile(r"(sum by \([^)]*\)) \(rate\((\w+(?:\{[^}]*\})?)\[\$w\]\)\)")


def counted(text: str, read: Read) -> str | None:
    """For "how many requests today": the number over the window instead of a rate or share; else ``None``."""
    low = read.text.lower()
    asked = re.search(r"\bhow many\s+(?:\S+\s+){0,2}?(?:requests|errors|calls|hits|[45]\d\ds|[45]xx)\b", low)
    if (
        asked is None
        or read.limit is not None
        or read.back_s is not None
        or re.search(r"\b(?:per|rate|rps|qps)\b|/s\b", low)
    ):
        return None
    head = _COUNTABLE.match(text)
    if head is None:
        return None
    window = read.window or Window()
    seconds = window.last_s if window.start_ms is None else None
    if seconds is None:
        end = read.asked_ms if window.end_ms is None else min(window.end_ms, read.asked_ms)
        seconds = (end - (window.start_ms or 0)) / 1000
    return f"{head.group(1)} (increase({head.group(2)}[{max(60, int(seconds))}s]))"


def shape_for(concept: Concept, form: Form, read: Read) -> Shape:
    asked = read.shape
    if asked == "forecast" and (form.forecast or _bare(form.value)):
        return "forecast"
    if form.quantile and not form.value:
        return "quantile"
    if asked == "quantile" and form.quantile:
        return "quantile"
    if asked == "change" and form.change:
        return "change"
    if concept.shape == "age" or asked == "age":
        return "age" if "time()" in form.value else "value"
    if read.limit is not None or concept.shape == "threshold":
        return "threshold"
    if asked in ("series", "count", "top"):
        return asked
    if concept.limit is not None and re.match(r"\W*(which|any|who|whose|are|is|do|does)\b", read.text.lower()):
        return "threshold"
    return "value"


def _bare(value: str) -> bool:
    """A single gauge with at most a selector: a straight line through it means something."""
    return re.fullmatch(r"[a-zA-Z_:][\w:]*(\{[^}]*\})?", value) is not None and not value.split("{")[0].endswith(
        "_total"
    )


def skeleton_of(concept: Concept, form: Form, shape: Shape) -> tuple[str, str, str]:
    bad = concept.bad
    if shape == "forecast":
        text = form.forecast or f"predict_linear({form.value}[$r], $h)"
        return text, "By" if "bytes" in text else concept.unit if _bare(form.value) else "1", bad
    if shape == "quantile" and form.quantile:
        return form.quantile, concept.unit, bad
    if shape == "change" and form.change:
        return form.change, concept.unit, bad
    return form.value or form.quantile, concept.unit, bad


def turned(read: Read) -> bool:
    if read.limit is not None:
        return read.limit.op in (">", ">=") and (read.used or read.limit.value > 0.5)
    return read.used and not re.search(r"\b(almost|nearly|near|low|out of|too|getting)\b", read.text.lower())


def threshold_for(concept: Concept, read: Read, shape: Shape, flipped: bool, caveats: list[str]) -> Threshold | None:
    if read.limit is not None:
        value = read.limit.value
        if concept.unit == "ratio" and read.limit.kind == "" and value > 1.5:
            value /= 100
        if not _fits(read.limit.kind, concept.unit):
            caveats.append("The threshold's unit does not fit the measure, so it was not applied.")
        else:
            return Threshold(op=read.limit.op, value=value)
    if concept.limit is None or shape not in ("threshold", "count"):
        return None
    if shape == "count" and concept.shape != "threshold":
        return None
    value, op = concept.limit, concept.condition
    if flipped:
        value, op = 1 - value, {"<": ">", "<=": ">="}.get(op, op)
    return Threshold(op=op, value=value, default=True, note=concept.note)


def _fits(kind: str, unit: str) -> bool:
    if kind == "ratio":
        return unit in ("ratio", "cores")
    if kind == "bytes":
        return unit.startswith("By")
    return kind != "seconds" or unit == "s"
