"""Anomalies, their explanations and marks as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiops.api import schemas_anomalies as out
from aiops.api.views import anomaly_fields
from aiops.core.anomaly import Anomaly, Mark
from aiops.core.untrusted import Untrusted
from aiops.incidents.explain import Explanation, reason
from aiops.incidents.feedback import Quality, Share


def mark_view(value: Mark) -> out.MarkOut:
    return out.MarkOut(
        judgement=value.judgement.value,
        principal=_shown(value.principal),
        time_ms=value.time_ms,
        start_ms=value.start_ms,
        end_ms=value.end_ms,
        note=_shown(value.note, 1000),
    )


def anomaly_row(value: Anomaly, marks: Sequence[Mark]) -> out.AnomalyRowOut:
    return out.AnomalyRowOut.model_validate(
        {
            **anomaly_fields(value),
            "service": _shown(value.service),
            "labels": {_shown(k): _shown(v) for k, v in value.series},
            "started_ms": value.started_ms,
            "updated_ms": value.updated_ms,
            "ended_ms": value.ended_ms,
            "threshold": value.threshold,
            "reason": _shown(reason(value)),
            "marks": [mark_view(m) for m in marks],
        }
    )


def explanation(value: Explanation) -> out.ExplanationOut:
    trace = value.trace and out.TraceOut(
        times_ms=value.trace.times.tolist(),
        value=_numbers(value.trace.value),
        expected=_numbers(value.trace.expected),
        lower=_numbers(value.trace.lower),
        upper=_numbers(value.trace.upper),
        score=_numbers(value.trace.score),
    )
    return out.ExplanationOut(
        anomaly=anomaly_row(value.anomaly, value.marks),
        trace=trace,
        similar=[
            out.SimilarOut(start_ms=s.start_ms, end_ms=s.end_ms, distance=s.distance, known=_shown(s.known))
            for s in value.similar
        ],
        history_ms=value.history_ms,
    )


def evaluation(values: Sequence[Quality]) -> out.EvaluationOut:
    return out.EvaluationOut(
        models=[
            out.QualityOut(model=_shown(v.model), precision=_share(v.precision), recall=_share(v.recall))
            for v in values
        ]
    )


def _share(value: Share) -> out.ShareOut:
    return out.ShareOut(hits=value.hits, count=value.count, value=value.value, lower=value.lower, upper=value.upper)


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _shown(text: str, cap: int = 500) -> str:
    return Untrusted(text).display(cap)
