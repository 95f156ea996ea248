"""An explained anomaly on the terminal, from the API's reply."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from aiops.core.anomaly import Anomaly, Judgement, Mark, SimilarWindow
from aiops.core.series import labels_of
from aiops.incidents.explain import Explanation, Trace
from aiops.reports.anomaly import text

FIELDS = frozenset(field.name for field in fields(Anomaly))


def explanation_text(reply: dict[str, Any], width: int) -> str:
    """Chart and lines; plain text."""
    return text(_explanation(reply), min(width, 100))


def _explanation(reply: dict[str, Any]) -> Explanation:
    one, trace = reply["anomaly"], reply["trace"]
    series = labels_of(one["labels"])
    numbers = ("value", "expected", "lower", "upper", "score", "p_value", "threshold")
    terms, beside = (
        tuple(sorted(((k, _number(v)) for k, v in one.get(name, {}).items()), key=lambda t: -t[1]))
        for name in ("terms", "beside")
    )
    other = {name: value for name, value in one.items() if name in FIELDS and name not in numbers}
    made: dict[str, Any] = {**other, **{name: _number(one[name]) for name in numbers}}
    anomaly = Anomaly(**{**made, "series": series, "terms": terms, "beside": beside})
    marks = tuple(
        Mark(
            anomaly.id, Judgement(m["judgement"]), m["principal"], m["time_ms"], anomaly.metric, series,
            anomaly.service, m["start_ms"], m["end_ms"], note=m["note"],
        )
        for m in one["marks"]
    )  # fmt: skip
    return Explanation(
        anomaly,
        None
        if trace is None
        else Trace(
            np.array(trace["times_ms"], np.int64),
            *(_numbers(trace[k]) for k in ("value", "expected", "lower", "upper", "score")),
        ),
        tuple(SimilarWindow(s["start_ms"], s["end_ms"], _number(s["distance"]), s["known"]) for s in reply["similar"]),
        marks,
        reply["history_ms"],
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _numbers(values: list[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([_number(v) for v in values], np.float64)
