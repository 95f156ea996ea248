"""How far the metrics of each service leave their own history, and what is left once callees explain it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.incidents.metric_kinds import Direction, MetricKind, is_client_side, metric_kind
from aiops.incidents.ranking_case import Array, Case, Frame, MetricRow, reachability

CAP = 30.0
SPREAD_FLOOR = 0.1
EXPLAINED = 0.7
CALM_QUANTILE = 0.97
CALM_FLOOR, CALM_FLOOR_EACH = 1.0, 0.8
FELT_FLOOR = 0.1
SHOWN_FIRST = 1.5
MIN_HISTORY = 12
ONSET_GUARD = 3
"""Rows by which the onset may have been told too late."""
WEIGHTS: Mapping[MetricKind, float] = {
    MetricKind.SATURATION: 1.0,
    MetricKind.LATENCY: 1.0,
    MetricKind.ERRORS: 1.0,
    MetricKind.TRAFFIC: 0.3,
    MetricKind.NODE: 0.2,
    MetricKind.OTHER: 0.3,
}
CALLS = 2.0
"""Calls of one callee that a request may make, where it is not known."""
IMMATERIAL = 0.3
OWN_TRAFFIC = 0.3
"""Of a change in traffic that the callers' own does not explain, what speaks against the service itself."""
CALLER_SHARE = 0.5
"""Of a call's unexplained latency, what speaks against the caller."""
OTHER_THAN_SYMPTOM = 0.4
"""Weight of latency where errors are the symptom, and the other way round."""


@dataclass(frozen=True, slots=True)
class MetricScores:
    """What metrics say of each service.

    Attributes:
        own: [S] score.
        latency: [S] the part of it that is latency.
        calm: the level that the best of all services reaches when nothing is wrong.
        calm_each: [S] the same for each service, so far as it takes one to stand out from all: a service that is
            restless by nature proves less with the same score.
        strongest: (strength, row of ``case.metrics``) of what deviates, by service.
        onset: row of the onset used.
        felt: the symptom's own deviation over what its calm windows reach.
    """

    own: Array
    latency: Array
    calm: float
    calm_each: Array
    strongest: Mapping[int, Sequence[tuple[float, int]]]
    onset: int
    felt: float


def score_metrics(frame: Frame) -> MetricScores:
    """Scores of the metrics; all 0 where there is too little history."""
    case, n = frame.case, len(frame.services)
    rows = [i for i, m in enumerate(case.metrics) if frame.at(m.service) is not None]
    total = len(case.timestamps)
    if not rows or case.onset < MIN_HISTORY or case.onset >= total:
        return MetricScores(np.zeros(n), np.zeros(n), CALM_FLOOR, np.full(n, CALM_FLOOR), {}, case.onset, 0.0)
    kinds = [_kind(case.metrics[i]) for i in rows]
    values = np.stack([_as_badness(case.metrics[i].values, way) for i, (_, way) in zip(rows, kinds, strict=True)])
    floors = np.array([_floor(case.metrics[i].values, kind) for i, (kind, _) in zip(rows, kinds, strict=True)])
    values = _median_of_three(values)
    guard = min(ONSET_GUARD, max(1, (case.onset - MIN_HISTORY) // 4))
    ways = [Direction.UP if way is Direction.DOWN else way for _, way in kinds]
    excess = exceedance(values, case.onset - guard, ways, floors)
    onset = estimate_onset(excess, case.onset, guard)
    width = max(1, total - onset)
    sustained = np.log1p(np.minimum(_top_two(excess, width), CAP))
    symptom = case.symptom_kind or (metric_kind(case.symptom[1])[0] if case.symptom[1] else None)
    weights = np.array([_weight(kind, symptom) for kind, _ in kinds])
    owner = np.array([frame.at(case.metrics[i].service) for i in rows])
    weighted = sustained * weights[:, None]
    weighted[:, -1] *= _with_symptom(frame, rows, excess, onset)
    score = np.zeros((n, sustained.shape[1]))
    latency = np.zeros(n)
    felt = _felt(case, width, guard)
    for kind in MetricKind:
        members = np.array([j for j, (k, _) in enumerate(kinds) if k is kind], np.int64)
        if not len(members):
            continue
        part = _by_service(n, owner[members], weighted[members])
        if kind is MetricKind.LATENCY:
            names = [case.metrics[rows[j]].name for j in members]
            rises = _top_two(np.maximum(values[members] - _usual(values[members], case.onset - guard), 0.0), width)
            part = _latency(n, owner[members], names, weighted[members], rises, frame.pairs())
            if felt > 1.0 and case.symptom[1] in names:
                part[:, -1] *= _material(n, owner[members], names, rises[:, -1], frame)
            latency = part[:, -1].copy()
        elif kind is MetricKind.ERRORS:
            part = _explain_away(part, frame.pairs())
        elif kind is MetricKind.TRAFFIC:
            part = _asked_by_callers(part, frame.pairs())
        score += part
    past = (score * reachability(frame)[:, None])[:, : max(1, case.onset - guard - width + 1)]
    calm = max(CALM_FLOOR, float(np.quantile(past.max(axis=0), CALM_QUANTILE)))
    each = np.maximum(CALM_FLOOR_EACH, np.quantile(past, CALM_QUANTILE, axis=1))
    each *= max(1.0, float(np.quantile((past / each[:, None]).max(axis=0), CALM_QUANTILE)))
    strongest: dict[int, list[tuple[float, int]]] = {}
    # A saturated resource says more than the latency that it causes: it is shown first where both deviate.
    shown = weighted[:, -1] * np.where([kind is MetricKind.SATURATION for kind, _ in kinds], SHOWN_FIRST, 1.0)
    for j in np.argsort(-shown, kind="stable"):
        if weighted[j, -1] > 0.05:
            strongest.setdefault(int(owner[j]), []).append((float(weighted[j, -1]), rows[j]))
    return MetricScores(score[:, -1], latency, calm, each, strongest, onset, felt)


def _felt(case: Case, width: int, guard: int) -> float:
    """How far the symptom's own metric leaves what its calm windows of the same width reach; 0 where unknown."""
    found = [m for m in case.metrics if (m.service, m.name) == case.symptom]
    if not found:
        return 0.0
    kind, way = _kind(found[0])
    values = _median_of_three(_as_badness(found[0].values, way)[None, :])
    up = [Direction.UP if way is Direction.DOWN else way]
    excess = exceedance(values, case.onset - guard, up, np.array([_floor(found[0].values, kind)]))
    windows = np.log1p(np.minimum(_top_two(excess, width), CAP))[0]
    past = windows[: max(1, case.onset - guard - width + 1)]
    return float(windows[-1] / max(FELT_FLOOR, float(np.quantile(past, CALM_QUANTILE))))


def _as_badness(values: Array, direction: Direction) -> Array:
    """Rows of which less is worse are turned around: a success ratio becomes an error ratio."""
    if direction is not Direction.DOWN:
        return values
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    whole = next((w for w in (1.0, 100.0) if 0.5 * w < top <= w * 1.0001), top)
    return np.asarray(whole - values)


def _floor(values: Array, kind: MetricKind) -> float:
    """Smallest spread that counts: one percentage point of a ratio of errors or successes."""
    if kind is not MetricKind.ERRORS or not np.isfinite(values).any():
        return 1e-9
    top = float(np.nanmax(values))
    return 1.0 if 50.0 < top <= 100.01 else 0.01 if 0.5 < top <= 1.0001 else 1e-9


def _median_of_three(values: Array) -> Array:
    """Each value with its two forerunners: a single spike is gone, two in three rows stay."""
    padded = np.concatenate([values[:, :1], values[:, :1], values], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)
    seen = np.isfinite(windows).any(axis=2)
    out = np.full(values.shape, np.nan)
    out[seen] = np.nanmedian(windows[seen], axis=1)
    return out


def exceedance(values: Array, history: int, directions: Sequence[Direction], floors: Array | float = 1e-9) -> Array:
    """How far each value lies outside its row's own tails, in units of its spread; 0 inside, NaN unobserved.

    Args:
        values: float64 [M, T]; tails and spread come from the first ``history`` columns.
        directions: length M, which way is bad.
        floors: smallest spread per row.
    """
    past = values[:, :history]
    seen = np.isfinite(past).sum(axis=1)
    filled = np.where(np.isfinite(past), past, np.nan)
    enough = seen >= MIN_HISTORY
    q = np.full((5, len(values)), np.nan)
    if enough.any():
        q[:, enough] = np.nanquantile(filled[enough], [0.01, 0.05, 0.5, 0.95, 0.99], axis=1)
    low, q05, median, q95, high = q
    scale = np.maximum(q95 - q05, np.maximum(SPREAD_FLOOR * np.abs(median), floors))
    # A row that was all zero has no scale of its own: its first step up counts as one unit of itself.
    flat = (scale <= 1e-9) & enough
    if flat.any():
        reach = np.nanmax(np.where(np.isfinite(values), np.abs(values), 0.0), axis=1)
        scale = np.where(flat, np.maximum(reach / 5.0, 1e-9), scale)
    up = (values - high[:, None]) / scale[:, None]
    down = (low[:, None] - values) / scale[:, None]
    way = np.array([{Direction.UP: 0, Direction.DOWN: 1, Direction.BOTH: 2}[d] for d in directions])[:, None]
    out = np.where(way == 0, up, np.where(way == 1, down, np.fmax(up, down)))
    return np.where(np.isfinite(out), np.maximum(out, 0.0), np.nan)


def estimate_onset(excess: Array, told: int, guard: int) -> int:
    """The told row, or up to ``guard`` rows earlier where the deviation had already begun."""
    with_cap = np.log1p(np.minimum(np.nan_to_num(excess), CAP))
    level = np.sort(with_cap, axis=0)[-max(1, len(excess) // 10) :].mean(axis=0)
    usual = float(np.quantile(level[: told - guard], 0.99))
    onset = told
    while onset > told - guard and level[onset - 1] > usual and level[onset - 1] > 0.3 * level[told:].max(initial=0.0):
        onset -= 1
    return onset


def _top_two(excess: Array, width: int) -> Array:
    """Mean of the two highest values in each window of ``width`` rows (one row: that value, discounted): [M, T-W+1]."""
    clean = np.nan_to_num(excess)
    windows = np.lib.stride_tricks.sliding_window_view(clean, width, axis=1)
    if width == 1:
        return np.asarray(0.7 * windows[:, :, 0])
    best = np.partition(windows, width - 2, axis=2)[:, :, -2:]
    return np.asarray(0.35 * best.max(axis=2) + 0.65 * best.min(axis=2))


def _usual(values: Array, history: int) -> Array:
    """Median of each row's history, as a column; 0 where nothing was seen."""
    past = values[:, :history]
    seen = np.isfinite(past).any(axis=1)
    out = np.zeros((len(values), 1))
    out[seen, 0] = np.nanmedian(past[seen], axis=1)
    return out


def _by_service(n: int, owner: NDArray[np.int64], rows: Array) -> Array:
    """The highest of the rows of each service: [S, W]."""
    part = np.zeros((n, rows.shape[1]))
    np.maximum.at(part, owner, rows)
    return part


def _latency(
    n: int,
    owner: NDArray[np.int64],
    names: Sequence[str],
    scores: Array,
    rises: Array,
    pairs: Sequence[tuple[int, int]],
) -> Array:
    """What latency says of each service [S, W], from both ends of its calls.

    A callee that is slow by its own measure explains its callers, statistic by statistic (a tail does not explain a
    median) and no further than it rose itself: ten milliseconds explain no second. Where only the callers' measure
    is up, the way to the callee is slow: that speaks against a callee by the share of its callers that see it, and
    some against the caller itself.

    Args:
        owner: int64 [M], service of each row.
        names: metric of each row.
        scores, rises: [M, W], how far it deviates, and by how much in its own unit.
    """
    outward = np.array([is_client_side(name) for name in names])
    client = _by_service(n, owner[outward], scores[outward])
    both = _by_service(n, owner, scores)
    best = np.zeros_like(both)
    for caller, callee in pairs:
        np.maximum(best[caller], both[callee], out=best[caller])
    left = np.zeros_like(both)
    for name in sorted({name for name, out in zip(names, outward, strict=True) if not out}):
        rows = np.array([i for i, other in enumerate(names) if other == name])
        part, rise = _by_service(n, owner[rows], scores[rows]), _by_service(n, owner[rows], rises[rows])
        known = np.isin(np.arange(n), owner[rows])
        explained = EXPLAINED * client
        for caller, callee in pairs:
            if known[callee]:
                share = np.minimum(CALLS * rise[callee] / np.maximum(rise[caller], 1e-12), 1.0)
                np.maximum(explained[caller], EXPLAINED * share * part[callee], out=explained[caller])
            else:
                np.maximum(explained[caller], EXPLAINED * both[callee], out=explained[caller])
        np.maximum(left, part - explained, out=left)
    unexplained = np.maximum(client - EXPLAINED * best, 0.0)
    blame, callers = np.zeros_like(both), np.zeros(n)
    for caller in sorted(set(owner[outward].tolist())):
        for callee in sorted({b for a, b in pairs if a == caller}):
            blame[callee] += unexplained[caller]
            callers[callee] += 1
    blame /= np.maximum(callers, 1)[:, None]
    return np.maximum(left, np.maximum(blame, CALLER_SHARE * unexplained))


def _material(n: int, owner: NDArray[np.int64], names: Sequence[str], rises: Array, frame: Frame) -> Array:
    """[S] in :data:`IMMATERIAL` to 1: how much of the symptom's rise each service's own of the same measure can make.

    Waiting adds up along a call, so what rose by a millisecond did not make a second.
    """
    service, metric = frame.case.symptom
    same = np.array([name == metric for name in names])
    most = np.full(n, np.nan)
    for at, rise in zip(owner[same], rises[same], strict=True):
        most[at] = np.fmax(most[at], rise)
    start = frame.at(service)
    if start is None or not most[start] > 0:
        return np.ones(n)
    share = np.clip(CALLS * most / most[start], IMMATERIAL, 1.0)
    return np.where(np.isfinite(share), share, 1.0)


def _explain_away(part: Array, pairs: Iterable[tuple[int, int]]) -> Array:
    """``part`` [S, W] less what the best callee shows of the same kind."""
    best = np.zeros_like(part)
    for caller, callee in pairs:
        np.maximum(best[caller], part[callee], out=best[caller])
    return np.maximum(part - EXPLAINED * best, 0.0)


def _asked_by_callers(part: Array, pairs: Iterable[tuple[int, int]]) -> Array:
    """``part`` [S, W] of traffic, moved to who makes it: a service is asked by its callers, more or less than before.

    What the callers' own traffic shows explains their calls; the rest is a change in what they do.
    """
    callers: dict[int, list[int]] = {}
    for caller, callee in pairs:
        callers.setdefault(callee, []).append(caller)
    out = part.copy()
    for callee, asking in callers.items():
        most = part[asking].max(axis=0)
        left = np.maximum(part[callee] - EXPLAINED * most, 0.0)
        out[callee] = OWN_TRAFFIC * left
        for caller in asking:
            np.maximum(out[caller], (1.0 - OWN_TRAFFIC) * left / len(asking), out=out[caller])
    return out


def _with_symptom(frame: Frame, rows: Sequence[int], excess: Array, onset: int) -> Array:
    """[M] in 0.6 to 1: how far each row moves with the symptom over the last rows."""
    case = frame.case
    service, metric = case.symptom
    at = [j for j, i in enumerate(rows) if (case.metrics[i].service, case.metrics[i].name) == (service, metric)]
    found = case.metrics
    series = next((m.values for m in found if (m.service, m.name) == (service, metric)), None)
    if series is None or (not at and not np.isfinite(series).any()):
        return np.ones(len(rows))
    tail = slice(max(0, onset - 5), None)
    y = np.nan_to_num(exceedance(series[None, :], onset, [metric_kind(metric)[1]])[0, tail])
    x = np.log1p(np.minimum(np.nan_to_num(excess[:, tail]), CAP))
    y = np.log1p(np.minimum(y, CAP))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean()
    size = np.sqrt((x**2).sum(axis=1) * (y**2).sum())
    agree = np.divide(x @ y, size, out=np.zeros(len(rows)), where=size > 1e-12)
    return np.asarray(0.6 + 0.4 * np.clip(agree, 0.0, 1.0)) if (y**2).sum() > 1e-12 else np.ones(len(rows))


def _kind(row: MetricRow) -> tuple[MetricKind, Direction]:
    kind, direction = metric_kind(row.name)
    return row.kind or kind, row.direction or direction


def _weight(kind: MetricKind, symptom: MetricKind | None) -> float:
    flows = (MetricKind.LATENCY, MetricKind.ERRORS)
    return WEIGHTS[kind] * (OTHER_THAN_SYMPTOM if symptom in flows and kind in flows and kind is not symptom else 1.0)
