"""From a verdict on a series to an anomaly that a person can read, and to the alert that carries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiops.core.anomaly import Anomaly, Scores
from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp, labels_of
from aiops.core.untrusted import Untrusted
from aiops.incidents.readings import group_of
from aiops.incidents.thresholds import Direction
from aiops.incidents.watch import WatchEntry

Narrow = Callable[[str, Sequence[Matcher]], str]
"""Adds matchers to every selector of a PromQL text."""
SOURCE = "aiops detection"
_SIGNS = {"up": 1, "down": -1, "both": 0}


@dataclass(frozen=True, slots=True)
class Series:
    """One watched series."""

    id: str
    entry: WatchEntry
    labels: Labels

    @property
    def service(self) -> str:
        return group_of(self.labels)


def direction_of(series: Sequence[Series]) -> Direction:
    return Direction(
        np.array([_SIGNS[s.entry.direction] for s in series], np.int8),
        np.array([s.entry.least for s in series], np.float64),
        np.array([s.entry.share for s in series], np.float64),
    )


def narrowed(series: Series, narrow: Narrow | None) -> str:
    """The PromQL that shows this series alone."""
    matchers = [Matcher(k, MatchOp.EQUAL, v) for k, v in series.labels]
    return narrow(series.entry.query, matchers) if narrow else series.entry.query


def begin(
    series: Series,
    narrow: Narrow | None,
    started_ms: int,
    now_ms: int,
    scores: Scores,
    row: int,
    value: float,
    p_value: float,
    model: str,
    threshold: float,
    beside: tuple[tuple[str, float], ...] = (),
) -> Anomaly:
    """The anomaly of a newly opened episode. Its id is the same if the step is judged again."""
    expected = float(scores.expected[row, 0])
    return Anomaly(
        id=f"{_fingerprint(series.labels, series.entry.metric)}-{started_ms}",
        series=series.labels,
        service=series.service,
        metric=series.entry.metric,
        query=narrowed(series, narrow),
        kind=series.entry.kind,
        direction="up" if value >= expected else "down",
        started_ms=started_ms,
        updated_ms=now_ms,
        ended_ms=None,
        value=value,
        expected=expected,
        lower=float(scores.lower[row, 0]),
        upper=float(scores.upper[row, 0]),
        score=float(scores.score[row, 0]),
        p_value=p_value,
        model=model,
        unit=series.entry.unit,
        terms=_terms(scores.terms, row),
        threshold=threshold,
        beside=beside,
    )


def carry_on(
    anomaly: Anomaly,
    now_ms: int,
    scores: Scores,
    row: int,
    value: float,
    p_value: float,
    beside: tuple[tuple[str, float], ...] = (),
) -> Anomaly:
    """The open anomaly one step later; figures are those of its largest deviation so far."""
    expected = float(scores.expected[row, 0])
    if not np.isfinite(value):
        return anomaly
    if abs(value - expected) <= abs(anomaly.value - anomaly.expected):
        return replace(anomaly, updated_ms=now_ms)
    return replace(
        anomaly,
        updated_ms=now_ms,
        value=value,
        expected=expected,
        lower=float(scores.lower[row, 0]),
        upper=float(scores.upper[row, 0]),
        score=float(scores.score[row, 0]),
        p_value=min(p_value, anomaly.p_value),
        terms=_terms(scores.terms, row),
        beside=beside or anomaly.beside,
    )


def alert_of(anomaly: Anomaly) -> Alert:
    """The metric's name and the labels identify the alert across episodes."""
    word = "high" if anomaly.direction == "up" else "low"
    labels = labels_of(pair for pair in anomaly.series if pair[0] != METRIC_NAME)
    said = f": {anomaly.note}" if anomaly.note else f" is unusually {word}"
    return Alert(
        fingerprint=_fingerprint(labels, anomaly.metric),
        kind=SignalKind.ANOMALY,
        name=anomaly.metric if anomaly.note else f"{anomaly.metric} {word}",
        labels=labels,
        severity=Severity.WARNING,
        starts_ms=anomaly.started_ms,
        updated_ms=anomaly.updated_ms,
        ends_ms=anomaly.ended_ms,
        summary=Untrusted(anomaly.metric + said),
        source=SOURCE,
        anomaly=anomaly,
    )


def _fingerprint(labels: Labels, metric: str) -> str:
    return fingerprint(labels_of([*labels, (METRIC_NAME, metric)]))


def _terms(
    terms: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], row: int
) -> tuple[tuple[str, float], ...]:
    found = [(name, float(values[row, 0])) for name, values in terms.items()]
    return tuple(sorted((t for t in found if np.isfinite(t[1])), key=lambda t: -t[1]))
