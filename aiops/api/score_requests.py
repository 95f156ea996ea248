"""From a request for scores to a batch, and from scores to the answer's JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from aiops.api.schemas_scoring import ScoreIn, SeriesIn
from aiops.core.anomaly import Batch
from aiops.core.errors import InvalidInput, LimitExceeded
from aiops.core.series import Matcher, labels_of
from aiops.incidents.matchers import in_scope
from aiops.models.scored import Scored


def batch_of(body: ScoreIn, step_ms: int, most_values: int) -> Batch:
    """All series on one grid of ``step_ms`` that spans their times.

    Raises:
        InvalidInput: times that are not on one grid, of the wrong number, or double series.
        LimitExceeded: more than ``most_values`` values.
    """
    times = [np.array(body.timestamps if one.timestamps is None else one.timestamps, np.int64) for one in body.series]
    for one, own in zip(body.series, times, strict=True):
        if len(own) != len(one.values) or not len(own):
            raise InvalidInput(f"The series '{one.id[:200]}' has {len(one.values)} values at {len(own)} timestamps.")
    start, end = min(int(t.min()) for t in times), max(int(t.max()) for t in times)
    steps = (end - start) // step_ms + 1
    if steps * len(times) > most_values:
        raise LimitExceeded(
            f"{len(times)} series at {steps} steps are too many values for one request.",
            kind="size",
            hint=f"At most {most_values}; a batch takes any number.",
        )
    ids = tuple(one.id for one in body.series)
    if len(set(ids)) != len(ids):
        raise InvalidInput("A series is in the request twice.")
    values = np.full((len(ids), steps), np.nan, np.float32)
    for row, (one, own) in enumerate(zip(body.series, times, strict=True)):
        if ((own - start) % step_ms).any():
            raise InvalidInput(f"The timestamps of '{one.id[:200]}' are not spaced by {step_ms} ms.")
        with np.errstate(over="ignore"):
            values[row, (own - start) // step_ms] = np.array(one.values, np.float64).astype(np.float32)
    mask = np.isfinite(values)
    return Batch(
        np.where(mask, values, np.float32(0)), mask, start + step_ms * np.arange(steps, dtype=np.int64), step_ms, ids
    )


def may_see(series_id: str, scope: Sequence[Matcher] | None) -> bool:
    """Whether a caller of that scope may have a series scored; one whose labels cannot be read is outside of any."""
    if scope is None:
        return True
    try:
        _, pairs = json.loads(series_id)
        return in_scope(labels_of((str(k), str(v)) for k, v in pairs), scope)
    except (ValueError, TypeError):
        return False


def answer(model: str, batch: Batch, scored: Sequence[Scored], asked: Sequence[SeriesIn], body: ScoreIn) -> bytes:
    """The answer as JSON, in the order of the request; a number that is not finite is null."""
    first = max(len(batch.timestamps) - body.latest, 0) if body.latest else 0
    found = {one.series_id: one for one in scored}
    nothing = np.full(len(batch.timestamps) - first, np.nan, np.float32)
    series: list[dict[str, Any]] = []
    for one in asked:
        known = found.get(one.id)
        if known is None:
            empty = dict.fromkeys(("score", "expected", "lower", "upper"), nothing)
            told: dict[str, Any] = {"served_by": "", "version": "", "threshold": None, "anomalous": [], "terms": {}}
            series.append({"id": one.id, **told, **empty})
            continue
        score = known.score[first:]
        high = np.isfinite(score) & (np.where(np.isfinite(score), score, 0.0) >= known.threshold)
        series.append(
            {
                "id": one.id,
                "served_by": known.served_by,
                "version": known.reference,
                "score": _row(score),
                "expected": _row(known.expected[first:]),
                "lower": _row(known.lower[first:]),
                "upper": _row(known.upper[first:]),
                "threshold": known.threshold,
                "anomalous": high.tolist(),
                "terms": {name: _row(values[first:]) for name, values in known.terms.items()} if body.terms else {},
            }
        )
    reply = {"model": model, "step_ms": batch.step_ms, "timestamps": _row(batch.timestamps[first:]), "series": series}
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def _row(values: np.ndarray[tuple[int, ...], Any]) -> Any:
    return np.ascontiguousarray(values)
