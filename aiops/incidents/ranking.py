"""Which service a fault started in: a deterministic ranking over arrays, explained.

Each metric is scored by how far it leaves its own history's 1 and 99 % tails, in units of the 5 to 95 % range
with a floor, sustained over rows, capped, on a log scale. A saturated resource points at its own service;
latency and errors flow from callee to caller, so what the best callee shows is taken off. Spans, logs and
changes add to it. The same figures over past windows say how high the score gets when nothing is wrong:
"no clear cause" is the answer below that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiops.incidents.call_aliases import fold
from aiops.incidents.metric_kinds import Direction, MetricKind, metric_kind

Array = NDArray[np.float64]

CAP = 30.0
SPREAD_FLOOR = 0.1
EXPLAINED = 0.7
CALM_QUANTILE = 0.97
CALM_FLOOR = 1.0
STRONG, STRONG_WHEN_FELT = 1.0, 0.25
"""How far above the calm level the best score must be; less will do where the symptom itself deviates."""
FELT_FLOOR = 0.1
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
OTHER_THAN_SYMPTOM = 0.6
"""Weight of latency where errors are the symptom, and the other way round."""
UNREACHABLE = 0.3
SPAN_WEIGHT, WIRE_WEIGHT, LOG_WEIGHT = 1.0, 1.2, 0.6
CHANGE_BONUS = 0.5


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One series of a service on the common time grid; NaN where nothing was observed.

    ``kind`` and ``direction`` override what the name suggests; ``query`` is where it comes from.
    """

    service: str
    name: str
    values: Array
    kind: MetricKind | None = None
    direction: Direction | None = None
    unit: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One operation of a service as called by ``caller``, one value a span interval (NaN: none seen).

    Times in ms: ``own`` without the children, ``wire`` the client span minus this one. ``count`` is per interval.
    """

    service: str
    operation: str
    caller: str
    own: Array
    wire: Array
    count: Array


@dataclass(frozen=True, slots=True)
class LogRow:
    """Lines of one template: count per minute before and since the onset."""

    service: str
    template: str
    before: float
    after: float
    is_error: bool = False
    steady: bool = False
    """It was there in nearly every interval before."""
    count: int = 0


@dataclass(frozen=True, slots=True)
class ChangeRow:
    service: str
    text: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a fault.

    Attributes:
        timestamps: int64 [T], of the metric rows (any unit, ascending).
        onset: index of the first row of the fault, as told; an earlier deviation moves it back a little.
        edges: (caller, callee).
        symptom: the service seen broken and the metric seen there; either may be empty or outside the graph.
    """

    timestamps: NDArray[np.int64]
    onset: int
    metrics: Sequence[MetricRow]
    edges: Sequence[tuple[str, str]] = ()
    symptom: tuple[str, str] = ("", "")
    symptom_kind: MetricKind | None = None
    spans: Sequence[SpanRow] = ()
    span_times: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Start of each span interval, in the unit of ``timestamps``."""
    logs: Sequence[LogRow] = ()
    changes: Sequence[ChangeRow] = ()
    onset_ms: int | None = None
    """For changes; by default the timestamp of the onset row."""
    felt: bool = False
    """The symptom is known to be real, whatever its metric shows."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A service with its score, its share of all, and what speaks for it, strongest first."""

    service: str
    score: float
    share: float
    metrics: tuple[int, ...] = ()
    """Rows of ``case.metrics`` that deviate there, strongest first."""
    span: str = ""
    log: LogRow | None = None
    change: ChangeRow | None = None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """``strength`` is the best score over what calm windows reach; ``clear`` that the first share is large enough."""

    ranked: tuple[Ranked, ...]
    strength: float
    onset: int
    clear: bool
    symptom_strength: float = 0.0
    """The symptom's own deviation over what its calm windows reach."""


def rank(case: Case, clear_share: float = 0.3) -> Ranking:
    """Services by how likely the fault started there; empty where nothing stands out from calm times."""
    if not case.metrics and not case.spans and not case.logs:
        return Ranking((), 0.0, case.onset, False)
    outside = {case.symptom[0]} - {s for edge in case.edges for s in edge}
    names = {m.service for m in case.metrics} | {s.service for s in case.spans} | {x.service for x in case.logs}
    edges, alias = fold(case.edges, names)
    services = sorted({alias.get(n, n) for n in names} - outside) or sorted(names)
    frame = _Frame(case, services, {s: i for i, s in enumerate(services)}, alias, edges)
    own, calm, strongest, onset, felt = _score_metrics(frame)
    span_score, span_words = _score_spans(frame)
    log_score, log_rows = _score_logs(frame)
    score = own + SPAN_WEIGHT * span_score + LOG_WEIGHT * log_score
    score *= _reachability(frame)
    score = _spare_symptom(frame, score)
    near = _changes_near(frame, onset)
    changed = np.array([s in near for s in services])
    score = score + np.where(changed & (score > 0.3), CHANGE_BONUS, 0.0)
    return _ranking(frame, score, calm, strongest, span_words, log_rows, near, onset, clear_share, felt)


@dataclass(frozen=True, slots=True)
class _Frame:
    case: Case
    services: list[str]
    index: dict[str, int]
    alias: Mapping[str, str]
    edges: Sequence[tuple[str, str]]
    _callees: dict[str, list[str]] = field(default_factory=dict)

    def at(self, service: str) -> int | None:
        return self.index.get(self.alias.get(service, service))

    def pairs(self) -> list[tuple[int, int]]:
        """(caller, callee) as indices, both known."""
        known = ((self.index.get(a), self.index.get(b)) for a, b in self.edges)
        return [(a, b) for a, b in known if a is not None and b is not None and a != b]


# -------------------------------------------------------------------- metrics


def _score_metrics(frame: _Frame) -> tuple[Array, float, dict[int, list[tuple[float, int]]], int, float]:
    """Score per service, the calm level, deviating rows per service, the onset used, the symptom's strength."""
    case, n = frame.case, len(frame.services)
    rows = [i for i, m in enumerate(case.metrics) if frame.at(m.service) is not None]
    total = len(case.timestamps)
    if not rows or case.onset < MIN_HISTORY or case.onset >= total:
        return np.zeros(n), CALM_FLOOR, {}, case.onset, 0.0
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
    for kind in MetricKind:
        members = np.array([j for j, (k, _) in enumerate(kinds) if k is kind], np.int64)
        if not len(members):
            continue
        part = np.zeros((n, sustained.shape[1]))
        np.maximum.at(part, owner[members], weighted[members])
        if kind in (MetricKind.LATENCY, MetricKind.ERRORS):
            part = _explain_away(part, frame.pairs())
        score += part
    past = score[:, : max(1, case.onset - guard - width + 1)].max(axis=0)
    calm = max(CALM_FLOOR, float(np.quantile(past, CALM_QUANTILE)))
    strongest: dict[int, list[tuple[float, int]]] = {}
    for j in np.argsort(-weighted[:, -1], kind="stable"):
        if weighted[j, -1] > 0.05:
            strongest.setdefault(int(owner[j]), []).append((float(weighted[j, -1]), rows[j]))
    return score[:, -1], calm, strongest, onset, _felt(case, width, guard)


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


def _explain_away(part: Array, pairs: Iterable[tuple[int, int]]) -> Array:
    """``part`` [S, W] less what the best callee shows of the same kind."""
    best = np.zeros_like(part)
    for caller, callee in pairs:
        np.maximum(best[caller], part[callee], out=best[caller])
    return np.maximum(part - EXPLAINED * best, 0.0)


def _with_symptom(frame: _Frame, rows: Sequence[int], excess: Array, onset: int) -> Array:
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


# -------------------------------------------------------------------- spans and logs


def _score_spans(frame: _Frame) -> tuple[Array, dict[int, str]]:
    n = len(frame.services)
    own, wire, lost = np.zeros(n), np.zeros(n), np.zeros(n)
    words: dict[int, tuple[float, str]] = {}
    pair_wire: dict[tuple[int, int], float] = {}
    pair_usual: dict[tuple[int, int], tuple[float, float]] = {}
    drops: dict[int, float] = {}
    split = _span_split(frame.case)
    if not 3 <= split < len(frame.case.span_times):
        return own, {}
    for row in frame.case.spans:
        callee, caller = frame.at(row.service), frame.at(row.caller)
        if callee is None:
            continue
        slow, before, after = _rise(row.own, split)
        if slow > own[callee]:
            own[callee] = slow
            _keep(words, callee, slow, f"own time of {row.operation} {before:.3g} ms to {after:.3g} ms")
        fallen = _drop(row, split)
        if caller is not None and caller != callee:
            drops[callee] = max(drops.get(callee, 0.0), fallen)
            slow, before, after = _rise(row.wire, split)
            if slow >= pair_wire.get((caller, callee), -1.0):
                pair_wire[caller, callee], pair_usual[caller, callee] = slow, (before, after)
    for row in frame.case.spans:
        caller = frame.at(row.caller)
        if caller is None:
            continue
        missing = _drop(row, split) * (1.0 - drops.get(caller, 0.0)) * 2.0
        if missing > lost[caller]:
            lost[caller] = missing
            _keep(words, caller, missing, f"{row.service} {row.operation} is no longer called from it")
    mass = sum(pair_wire.values())
    for service in range(n):
        mine = {p: v for p, v in pair_wire.items() if service in p}
        if mine and mass > 0:
            held = sum(mine.values())
            wire[service] = held / len(mine) * (0.4 + 0.6 * held / mass)
            pair = max(mine, key=lambda p: mine[p])
            before, after = pair_usual[pair]
            names = " to ".join(frame.services[i] for i in pair)
            _keep(words, service, WIRE_WEIGHT * wire[service], f"wire time {names} {before:.3g} ms to {after:.3g} ms")
    return own + WIRE_WEIGHT * wire + lost, {s: text for s, (score, text) in words.items() if score > 0.3}


def _keep(words: dict[int, tuple[float, str]], service: int, score: float, text: str) -> None:
    if score > words.get(service, (0.0, ""))[0]:
        words[service] = (score, text)


def _rise(values: Array, before: int) -> tuple[float, float, float]:
    """(score, usual, now) of a duration row."""
    past, now = values[:before], values[before:]
    past, now = past[np.isfinite(past)], now[np.isfinite(now)]
    if len(past) < 3 or not len(now):
        return 0.0, float("nan"), float("nan")
    high, median = float(np.quantile(past, 0.99)), float(np.median(past))
    spread = max(float(np.quantile(past, 0.95) - np.quantile(past, 0.05)), SPREAD_FLOOR * median, 0.05)
    excess = np.sort(np.maximum(now - high, 0.0) / spread)[::-1]
    sustained = 0.35 * excess[0] + 0.65 * excess[1] if len(excess) > 1 else 0.7 * excess[0]
    return float(np.log1p(min(sustained, CAP))), median, float(now.max())


def _span_split(case: Case) -> int:
    """The first interval that may be faulty: a little before the told onset, which may be late."""
    onset = min(case.onset, len(case.timestamps) - 1)
    guard = int(case.timestamps[max(0, onset - ONSET_GUARD)]) if len(case.timestamps) else 0
    return int(np.searchsorted(case.span_times, guard, side="left"))


def _drop(row: SpanRow, split: int) -> float:
    """Share of a steady operation's calls that went missing, 0 to 1."""
    past, now = np.nan_to_num(row.count[:split]), np.nan_to_num(row.count[split:])
    usual = float(np.quantile(past, 0.1)) if len(past) else 0.0
    if usual < 3 or (past > 0).mean() < 0.9 or not len(now):
        return 0.0
    return float(np.clip(1.0 - now.min() / usual, 0.0, 1.0)) if now.min() < 0.5 * usual else 0.0


def _score_logs(frame: _Frame) -> tuple[Array, dict[int, LogRow]]:
    score = np.zeros(len(frame.services))
    best: dict[int, LogRow] = {}
    for row in frame.case.logs:
        service = frame.at(row.service)
        if service is None:
            continue
        value = 0.0
        if row.after > 3.0 * row.before + 1e-9 and row.after > 0:
            value = float(np.log1p(min(row.after - row.before, CAP))) * (1.0 if row.before == 0 else 0.5)
            value *= 3.0 if row.is_error else 1.0
        elif row.steady and row.before >= 3 and row.after == 0:
            value = float(np.log1p(min(row.before, CAP)))
        if value > score[service]:
            score[service], best[service] = value, row
    return np.minimum(score, 2.0 * np.log1p(CAP)), best


# -------------------------------------------------------------------- graph


def _reachability(frame: _Frame) -> Array:
    """1 for services that the symptom's calls can reach, less for the others; 1 for all where unknown."""
    start = frame.at(frame.case.symptom[0])
    factor = np.ones(len(frame.services))
    if start is None or not any(start in p for p in frame.pairs()):
        return factor
    reached, todo = {start}, [start]
    callees: dict[int, list[int]] = {}
    for caller, callee in frame.pairs():
        callees.setdefault(caller, []).append(callee)
    while todo:
        for callee in callees.get(todo.pop(), []):
            if callee not in reached:
                reached.add(callee)
                todo.append(callee)
    return np.where([i in reached for i in range(len(factor))], 1.0, UNREACHABLE)


def _spare_symptom(frame: _Frame, score: Array) -> Array:
    """The symptom's own service comes first only where nothing below it is anomalous."""
    start = frame.at(frame.case.symptom[0])
    if start is None or len(score) < 2:
        return score
    others = np.delete(score, start)
    if others.max() > 0.25 * score[start]:
        score = score.copy()
        score[start] *= 0.5
    return score


def _path(frame: _Frame, service: str) -> tuple[str, ...]:
    """From the cause to the symptom along the calls, shortest first; only the service where there is no way."""
    goal = frame.alias.get(frame.case.symptom[0], frame.case.symptom[0])
    callers: dict[str, list[str]] = {}
    for caller, callee in frame.edges:
        callers.setdefault(callee, []).append(caller)
    paths: list[tuple[str, ...]] = [(service,)]
    seen = {service}
    for path in paths:
        if path[-1] == goal:
            return path
        for caller in sorted(callers.get(path[-1], [])):
            if caller not in seen:
                seen.add(caller)
                paths.append((*path, caller))
    return (service,)


def _changes_near(frame: _Frame, onset: int) -> dict[str, ChangeRow]:
    """The last change of each service from 30 min before the onset to 2 min after it."""
    case = frame.case
    at = case.onset_ms
    if at is None:
        at = int(case.timestamps[min(onset, len(case.timestamps) - 1)]) if len(case.timestamps) else 0
    near: dict[str, ChangeRow] = {}
    for change in sorted(case.changes, key=lambda c: c.time_ms):
        if at - 1_800_000 <= change.time_ms <= at + 120_000:
            near[frame.alias.get(change.service, change.service)] = change
    return near


def _ranking(
    frame: _Frame,
    score: Array,
    calm: float,
    strongest: Mapping[int, Sequence[tuple[float, int]]],
    span_words: Mapping[int, str],
    log_rows: Mapping[int, LogRow],
    near: Mapping[str, ChangeRow],
    onset: int,
    clear_share: float,
    felt: float,
) -> Ranking:
    order = np.argsort(-score, kind="stable")
    square = score**2
    shares = square / (square.sum() + calm**2)
    ranked = tuple(
        Ranked(
            service=frame.services[i],
            score=float(score[i]),
            share=float(shares[i]),
            metrics=tuple(row for _, row in strongest.get(int(i), ())[:5]),
            span=span_words.get(int(i), ""),
            log=log_rows.get(int(i)),
            change=near.get(frame.services[i]),
            path=_path(frame, frame.services[i]),
        )
        for i in order
        if score[i] > 0
    )
    strength = float(score.max(initial=0.0)) / calm
    if strength <= (STRONG_WHEN_FELT if felt > 1.0 or frame.case.felt else STRONG):
        return Ranking((), strength, onset, False, felt)
    clear = bool(ranked) and ranked[0].share >= clear_share
    return Ranking(ranked, strength, onset, clear, felt)
