"""Two versions side by side: what they were made of, their figures, and whether they say the same of the same hours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, Judgement, Mark
from aiops.core.errors import InvalidInput
from aiops.core.model import ModelVersion
from aiops.core.ports import Clock, system_clock
from aiops.models.detector_calls import Call, rows_of, run_together
from aiops.models.drift_tests import block_means, times_correlated
from aiops.models.guards import wilson
from aiops.models.loaded import Loaded

POINTS = 4_000_000
"""Values scored at most; of more series some are taken, evenly."""
CONTEXT_STEPS = 64
UNNAMED = "(none)"

Interval = tuple[float, float, float]
"""A figure and its 95 % interval; NaN where it cannot be told."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """On some series: rank correlation of the scores (median, and 10 % quantile over series), and the share of
    values above the threshold by either version."""

    group: str
    series: int
    correlation: float
    correlation_low: float
    first_above: Interval
    second_above: Interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """Parameters and metrics that differ, as (name, first, second); ``precision`` by people's marks; ``agreement`` on
    ``[start_ms, end_ms)``, all series first, then by group; empty, with ``note``, where nothing can be scored."""

    first: str
    second: str
    parameters: tuple[tuple[str, str, str], ...]
    metrics: tuple[tuple[str, float, float], ...]
    first_precision: Interval
    second_precision: Interval
    start_ms: int
    end_ms: int
    agreement: tuple[Agreement, ...]
    note: str = ""


def compare(
    first: Loaded,
    second: Loaded,
    recent: Callable[[Loaded, str, int, int], Batch],
    marks: Sequence[Mark],
    *,
    hours: float,
    label: str = "",
    labels: Callable[[str], Mapping[str, str]] = lambda _: {},
    clock: Clock = system_clock,
) -> Comparison:
    """Compare two versions of any models on the last hours of the series that both know.

    Args:
        recent: values of a version's series, as batch scoring reads them.
        label: groups series by this label of theirs, if given.
        labels: of a series by its id.

    Raises:
        InvalidInput: the versions have different steps.
        TransientError: the metrics source cannot be read.
    """
    step = first.state.step_ms
    if step != second.state.step_ms:
        raise InvalidInput(f"{first.reference} and {second.reference} have different steps.")
    end = clock() // step * step
    start = end - max(int(hours * 3_600_000) // step, 1) * step
    batch = recent(first, "", start, end)
    rows = [n for n, key in enumerate(batch.series_ids) if key in first.rows and key in second.rows]
    most = max(POINTS // max(batch.values.shape[1], 1), 1)
    if len(rows) > most and not (first.detector.joint or second.detector.joint):
        rows = [rows[n] for n in np.unique(np.linspace(0, len(rows) - 1, most).astype(int)).tolist()]
    agreement: list[Agreement] = []
    if rows:
        part = rows_of(batch, rows)
        cut = min(CONTEXT_STEPS, part.values.shape[1] // 4)
        scores = [run_together([Call(one, part)])[0].score[:, cut:] for one in (first, second)]
        above = [_above(one, part, score) for one, score in zip((first, second), scores, strict=True)]
        agreement.append(_agreement("all", scores, above, list(range(len(part)))))
        if label:
            groups: dict[str, list[int]] = {}
            for row, key in enumerate(part.series_ids):
                groups.setdefault(labels(key).get(label) or UNNAMED, []).append(row)
            agreement += [_agreement(name, scores, above, groups[name]) for name in sorted(groups)]
    return Comparison(
        first.reference,
        second.reference,
        _differing(first.version, second.version),
        _metrics(first.version, second.version),
        precision_of(first.reference, marks),
        precision_of(second.reference, marks),
        start,
        end,
        tuple(agreement),
        "" if rows else "No series that both versions know has values in that time.",
    )


def precision_of(reference: str, marks: Sequence[Mark]) -> Interval:
    """Share of a version's marked anomalies that people found true, with Wilson's interval."""
    last = {mark.anomaly_id: mark.judgement for mark in marks if mark.anomaly_id and mark.model == reference}
    true = sum(said is Judgement.TRUE for said in last.values())
    return (true / len(last), *wilson(true, len(last))) if last else (math.nan,) * 3


def rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Spearman's, row by row, over the values that both have; NaN for rows without spread."""
    both = np.isfinite(first) & np.isfinite(second)
    ranks = []
    for values in (first, second):
        order = np.where(both, values, np.inf).argsort(1, kind="stable").argsort(1).astype(np.float64)
        centred = np.where(both, order - (np.where(both, order, 0).sum(1) / np.maximum(both.sum(1), 1))[:, None], 0.0)
        ranks.append(centred)
    product = (ranks[0] * ranks[1]).sum(1)
    size = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    return np.asarray(np.where(size > 0, product / np.where(size > 0, size, 1.0), np.nan))


def _above(loaded: Loaded, part: Batch, score: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 above the threshold, 0 below, NaN where nothing was scored or there is no threshold."""
    if loaded.thresholds is None:
        return np.full(score.shape, np.nan, np.float32)
    limit = loaded.thresholds[[loaded.rows[key] for key in part.series_ids]][:, None]
    known = np.isfinite(score)
    return np.where(known, (np.where(known, score, 0.0) >= limit).astype(np.float32), np.float32(np.nan))


def _agreement(
    name: str, scores: Sequence[NDArray[np.float32]], above: Sequence[NDArray[np.float32]], rows: Sequence[int]
) -> Agreement:
    found = rank_correlation(scores[0][rows], scores[1][rows])
    found = found[np.isfinite(found)]
    middle, low = (float(np.quantile(found, q)) if len(found) else math.nan for q in (0.5, 0.1))
    return Agreement(name, len(rows), middle, low, _share(above[0][rows]), _share(above[1][rows]))


def _share(above: NDArray[np.float32]) -> Interval:
    """Share of the values, with Wilson's interval on as many as their autocorrelation leaves independent."""
    count = int(np.isfinite(above).sum())
    if not count:
        return (math.nan,) * 3
    hits = int(np.nansum(above))
    alike = float(np.maximum(times_correlated(block_means(above.astype(np.float64), 1)), 1.0).mean())
    independent = max(round(count / alike), 1)
    low, high = wilson(round(hits / count * independent), independent)
    share = hits / count
    return share, min(low, share), max(high, share)


def _differing(first: ModelVersion, second: ModelVersion) -> tuple[tuple[str, str, str], ...]:
    left, right = dict(first.parameters), dict(second.parameters)
    names = sorted({*left, *right})
    return tuple((n, left.get(n, ""), right.get(n, "")) for n in names if left.get(n, "") != right.get(n, ""))


def _metrics(first: ModelVersion, second: ModelVersion) -> tuple[tuple[str, float, float], ...]:
    left, right = dict(first.metrics), dict(second.metrics)
    return tuple((n, left.get(n, math.nan), right.get(n, math.nan)) for n in sorted({*left, *right}))
