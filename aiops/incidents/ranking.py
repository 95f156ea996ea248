"""Which service a fault started in: a deterministic ranking over arrays, explained.

Each metric is scored by how far it leaves its own history's 1 and 99 % tails, in units of the 5 to 95 % range
with a floor, sustained over rows, capped, on a log scale. A saturated resource points at its own service;
latency and errors flow from callee to caller, so what the best callee shows is taken off. Spans, logs and
changes add to it. The same figures over past windows say how high the score gets when nothing is wrong:
"no clear cause" is the answer below that.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aiops.incidents.call_aliases import fold
from aiops.incidents.metric_scores import EXPLAINED, MetricScores, score_metrics
from aiops.incidents.ranking_case import (
    Array,
    Case,
    ChangeRow,
    Frame,
    LogRow,
    MetricRow,
    Ranked,
    Ranking,
    SpanRow,
    reachability,
)
from aiops.incidents.signal_scores import changes_near, score_logs, score_spans

__all__ = ["Case", "ChangeRow", "LogRow", "MetricRow", "Ranked", "Ranking", "SpanRow", "rank"]

STRONG, STRONG_WHEN_FELT = 0.6, 0.25
"""How far above the calm level the best score must be; less will do where the symptom itself deviates."""
MORE_CALM = 2.0
"""What spans and logs add up to when nothing is wrong."""
SPAN_WEIGHT, LOG_WEIGHT = 1.0, 0.6
CHANGE_BONUS = 0.5


def rank(case: Case, clear_share: float = 0.3) -> Ranking:
    """Services by how likely the fault started there; empty where nothing stands out from calm times."""
    if not case.metrics and not case.spans and not case.logs:
        return Ranking((), 0.0, case.onset, False)
    outside = {case.symptom[0]} - {s for edge in case.edges for s in edge}
    names = {m.service for m in case.metrics} | {s.service for s in case.spans} | {x.service for x in case.logs}
    edges, alias = fold(case.edges, names)
    services = sorted({alias.get(n, n) for n in names} - outside) or sorted(names)
    frame = Frame(case, services, {s: i for i, s in enumerate(services)}, alias, edges)
    metrics = score_metrics(frame)
    span_score, waiting, span_words = score_spans(frame)
    own = metrics.own - np.minimum(metrics.latency, EXPLAINED * waiting)
    log_score, log_rows = score_logs(frame)
    more = SPAN_WEIGHT * span_score + LOG_WEIGHT * log_score
    reach = reachability(frame)
    score = (own + more) * reach
    strength = float((reach * (own / metrics.calm_each + more / MORE_CALM)).max(initial=0.0))
    score = _spare_symptom(frame, score)
    near = changes_near(frame, metrics.onset)
    changed = np.array([s in near for s in services])
    score = score + np.where(changed & (score > 0.3), CHANGE_BONUS, 0.0)
    return _ranking(frame, score, metrics, span_words, log_rows, near, clear_share, strength)


def _spare_symptom(frame: Frame, score: Array) -> Array:
    """The symptom's own service comes first only where nothing below it is anomalous."""
    start = frame.at(frame.case.symptom[0])
    if start is None or len(score) < 2:
        return score
    others = np.delete(score, start)
    if others.max() > 0.25 * score[start]:
        score = score.copy()
        score[start] *= 0.5
    return score


def _path(frame: Frame, service: str) -> tuple[str, ...]:
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


def _ranking(
    frame: Frame,
    score: Array,
    metrics: MetricScores,
    span_words: Mapping[int, str],
    log_rows: Mapping[int, LogRow],
    near: Mapping[str, ChangeRow],
    clear_share: float,
    strength: float,
) -> Ranking:
    order = np.argsort(-score, kind="stable")
    square = score**2
    shares = square / (square.sum() + metrics.calm**2)
    ranked = tuple(
        Ranked(
            service=frame.services[i],
            score=float(score[i]),
            share=float(shares[i]),
            metrics=tuple(row for _, row in metrics.strongest.get(int(i), ())[:5]),
            span=span_words.get(int(i), ""),
            log=log_rows.get(int(i)),
            change=near.get(frame.services[i]),
            path=_path(frame, frame.services[i]),
        )
        for i in order
        if score[i] > 0
    )
    onset, felt = metrics.onset, metrics.felt
    if strength <= (STRONG_WHEN_FELT if felt > 1.0 or frame.case.felt else STRONG):
        return Ranking((), strength, onset, False, felt)
    clear = bool(ranked) and ranked[0].share >= clear_share
    return Ranking(ranked, strength, onset, clear, felt)
