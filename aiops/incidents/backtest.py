"""A finished range judged as the detection loop would have judged it: fit, score, judge, block after block.

Every block is judged by a model that was fitted to the window before it, so that nothing looks ahead; episodes, the
ledger and what live scores say go on from block to block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aiops.core.anomaly import Anomaly, Batch, Scores, State
from aiops.core.errors import AiopsError, InvalidInput, QueryError
from aiops.core.ports import Detector, MetricQuerier
from aiops.core.series import Labels
from aiops.incidents.episodes import Narrow
from aiops.incidents.explain import AFTER_STEPS, BEFORE_STEPS, Explanation, similar_windows, trace_of
from aiops.incidents.filling import Filling
from aiops.incidents.habits import habits
from aiops.incidents.ledger import Ledger
from aiops.incidents.past_filling import past_warnings
from aiops.incidents.presence import WORDS as PRESENCE_WORDS
from aiops.incidents.presence import Target, targets_up
from aiops.incidents.readings import Reader, Readings, series_id, series_of, together
from aiops.incidents.tails import calibrate
from aiops.incidents.thresholds import Policy
from aiops.incidents.watch import WatchEntry
from aiops.incidents.watched import WatchedGroup, ripe
from aiops.models.fitting import held_out_scores, parts_of
from aiops.settings import DetectionSettings, IncidentSettings

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
BLOCKS = 7
"""Fits over the range at most; a block is at least a day."""
CONTEXT_STEPS = 512
MODEL = "backtest"
Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Backtest:
    """``series`` were judged; ``unripe`` had too few points, ``refused`` are entries that the source would not answer.

    ``explanations`` are in order of time.
    """

    start_ms: int
    end_ms: int
    series: int
    unripe: int
    explanations: tuple[Explanation, ...]
    refused: tuple[tuple[str, str], ...] = ()
    metrics: tuple[tuple[str, int], ...] = ()
    """Series by metric."""

    @property
    def per_series_week(self) -> float:
        weeks = self.series * (self.end_ms - self.start_ms) / WEEK_MS
        return len(self.explanations) / weeks if weeks else 0.0


@dataclass
class _Run:
    detector: Detector[Any]
    group: WatchedGroup
    reader: Reader
    readings: Readings
    settings: DetectionSettings
    policy: Policy
    seen: set[str] = field(default_factory=set)
    unripe: set[str] = field(default_factory=set)
    anomalies: dict[str, Anomaly] = field(default_factory=dict)
    found: dict[str, Explanation] = field(default_factory=dict)

    def target(self, now_ms: int) -> Target:
        """Whether targets were up then."""

        def answer(labels: Labels) -> bool | None:
            try:
                return targets_up(self.reader.now("up", now_ms))(labels)
            except (AiopsError, ValueError):
                return None

        return answer


def backtest(
    querier: MetricQuerier,
    entries: Sequence[WatchEntry],
    detector: Detector[Any],
    start_ms: int,
    end_ms: int,
    settings: DetectionSettings,
    incidents: IncidentSettings,
    progress: Progress,
    narrow: Narrow | None = None,
    *,
    levels: Sequence[Filling] = (),
) -> Backtest:
    """Judge ``[start_ms, end_ms)``.

    Args:
        entries: what is watched.
        levels: what must not fill up.

    Raises:
        InvalidInput: an empty range, or nothing to judge in it.
        TransientError: the source cannot be read.
    """
    if not start_ms < end_ms:
        raise InvalidInput("The range to look at ends before it begins.")
    steps = sorted({entry.step_ms for entry in entries})
    ledger = Ledger(incidents.false_alarms_per_day, start_ms)
    refused: dict[str, str] = {}
    runs: list[_Run] = []
    policy = Policy(incidents.false_alarms_per_day, incidents.min_duration_steps, incidents.resolve_after_steps)
    reader = Reader(querier)
    for number, step in enumerate(steps):
        own = tuple(e for e in entries if e.step_ms == step)

        def part(share: float, text: str, number: int = number) -> None:
            progress((number + share) / len(steps), text)

        first = start_ms - round(settings.train_window_s * 1000)
        readings = _read(reader, own, first, end_ms, step, settings.max_series, refused, part)
        group = WatchedGroup(step, own, policy, ledger, narrow)
        run = _Run(detector, group, reader, readings, settings, policy)
        _judge(run, start_ms, end_ms, part)
        runs.append(run)
    if not any(run.seen for run in runs):
        raise InvalidInput(
            "No watched series has enough history before and in that time.",
            hint=f"A series needs {settings.min_points} points before it is judged; name others with --query.",
        )
    progress(1.0, "looking at what fills up")
    filling = past_warnings(querier, levels, start_ms, end_ms, narrow, refused)
    judged = [explanation for run in runs for explanation in run.found.values()]
    found = sorted([*judged, *filling], key=lambda e: e.anomaly.started_ms)
    counts: dict[str, int] = {}
    for run in runs:
        names = {e.name: e.metric for e in run.group.entries}
        for one in run.seen:
            name = names[series_of(one)[0]]
            counts[name] = counts.get(name, 0) + 1
    progress(1.0, "done")
    return Backtest(
        start_ms,
        end_ms,
        sum(len(run.seen) for run in runs),
        sum(len(run.unripe - run.seen) for run in runs),
        tuple(found),
        tuple(sorted(refused.items())),
        tuple(sorted(counts.items())),
    )


def _read(
    reader: Reader,
    entries: Sequence[WatchEntry],
    start_ms: int,
    end_ms: int,
    step_ms: int,
    cap: int,
    refused: dict[str, str],
    progress: Progress,
) -> Readings:
    first, last = -(-start_ms // step_ms) * step_ms, (end_ms - 1) // step_ms * step_ms
    out = reader.read((), first, last, step_ms, 0)
    present = reader.existing_in(entries, first, last)
    for number, entry in enumerate(present):
        progress(0.3 * number / len(present), f"reading {entry.metric}")
        try:
            out.rows |= reader.read((entry,), first, last, step_ms, cap - len(out.rows)).rows
        except QueryError as error:
            refused[entry.name] = str(error)
    return out


def _judge(run: _Run, start_ms: int, end_ms: int, progress: Progress) -> None:
    step, times = run.group.step_ms, run.readings.times
    block_ms = max(DAY_MS, -(-(end_ms - start_ms) // (BLOCKS * step)) * step)
    for start in range(start_ms, end_ms, block_ms):
        end = min(start + block_ms, end_ms)
        share = 0.3 + 0.7 * (start - start_ms) / (end_ms - start_ms)
        a = int(np.searchsorted(times, start - round(run.settings.train_window_s * 1000)))
        b, c = (int(np.searchsorted(times, t)) for t in (start, end))
        if b == c:
            continue
        before = _columns(run.readings, a, b)
        ripened, unripe = ripe(before, run.settings.min_points)
        ids, groups = together(ripened)
        run.unripe |= set(unripe)
        if not ids:
            continue
        progress(share, f"fitting {len(ids)} series")
        state = _fit(run, before.batch(ids, groups))
        if not run.group.install(state, 0):
            continue
        run.seen |= set(ids)
        progress(share, f"judging {len(ids)} series")
        first = max(b - CONTEXT_STEPS, 0)
        batch = _columns(run.readings, first, c).batch(ids)
        scores = run.detector.score(state, batch)
        changed: dict[str, Anomaly] = {}
        apart: dict[str, Anomaly] = {}
        for column in range(b - first, c - first):
            if column % 60 == 0 and run.group.judge is not None:
                run.group.judge.set_rate(run.group.ledger.rate(step, len(ids), int(batch.timestamps[column])))
            one = slice(column, column + 1)
            tick = batch.steps(column, column + 1)
            now = int(batch.timestamps[column])
            run.group.judge_step(_cut(scores, one), tick, now, MODEL, changed)
            if run.group.presence is not None:
                apart |= run.group.presence.step(tick, run.target(now))
        run.anomalies |= changed
        _explain(run, changed, batch, scores, c)
        _show(run, apart, batch)


def _fit(run: _Run, batch: Batch) -> State:
    states, moments = [], []
    for start, end in parts_of(batch):
        part = batch.rows(start, end)
        score = held_out_scores(run.detector, part)
        moments.append(calibrate(score, run.policy.min_duration_steps, run.policy.resolve_after_steps))
        states.append(run.detector.fit(part))
    arrays = {k: np.concatenate([s.arrays[k] for s in states]) for k in states[0].arrays}
    arrays |= {k: np.concatenate([m[k] for m in moments]) for k in moments[0]}
    arrays |= habits(batch.values, batch.mask)
    return State(batch.series_ids, batch.step_ms, arrays, states[0].shared)


def _explain(run: _Run, changed: dict[str, Anomaly], batch: Batch, scores: Scores, upto: int) -> None:
    """Traces by the model of the block; an episode that goes on is drawn again with the next block's."""
    step = run.group.step_ms
    rows = {key: row for row, key in enumerate(batch.series_ids)}
    by_metric = {e.metric: e.name for e in run.group.entries}
    for anomaly in changed.values():
        key = series_id(by_metric[anomaly.metric], anomaly.series)
        row = rows.get(key)
        if row is None:
            continue
        one = slice(row, row + 1)
        mine = batch.rows(row, row + 1)
        known = run.found.get(anomaly.id)
        trace = trace_of(mine, _row(scores, one), anomaly.started_ms - BEFORE_STEPS * step)
        if known is not None and known.trace is not None:
            trace = known.trace  # it began in an earlier block
        else:
            trace = trace.until((anomaly.ended_ms or anomaly.updated_ms) + AFTER_STEPS * step)
        past = _columns(run.readings, 0, upto)
        earlier = [
            a
            for a in run.anomalies.values()
            if a.series == anomaly.series and a.metric == anomaly.metric and a.id != anomaly.id
        ]
        similar = similar_windows(anomaly, past.batch([key]), earlier, lambda _: ())
        finite = np.flatnonzero(np.isfinite(past.rows[key]))
        searched = int(anomaly.started_ms - past.times[finite[0]]) if len(finite) else 0
        run.found[anomaly.id] = Explanation(anomaly, trace, similar, (), max(searched, 0))


def _show(run: _Run, apart: dict[str, Anomaly], batch: Batch) -> None:
    """Silence and stillness, with the course of the series around it."""
    step = run.group.step_ms
    rows = {
        (one.labels, f"{one.entry.metric} {word}"): row
        for row, one in enumerate(run.group.series)
        for word in PRESENCE_WORDS
    }
    for anomaly in apart.values():
        known, row = run.found.get(anomaly.id), rows.get((anomaly.series, anomaly.metric))
        trace = known.trace if known is not None else None
        if trace is None and row is not None:
            whole = trace_of(batch.rows(row, row + 1), None, anomaly.started_ms - BEFORE_STEPS * step)
            trace = whole.until((anomaly.ended_ms or anomaly.updated_ms) + AFTER_STEPS * step)
        run.found[anomaly.id] = Explanation(anomaly, trace)


def _columns(readings: Readings, a: int, b: int) -> Readings:
    return Readings(readings.times[a:b], readings.step_ms, {k: row[a:b] for k, row in readings.rows.items()})


def _cut(scores: Scores, columns: slice) -> Scores:
    terms = {k: v[:, columns] for k, v in scores.terms.items()}
    return Scores(
        scores.score[:, columns], scores.expected[:, columns], scores.lower[:, columns], scores.upper[:, columns], terms
    )


def _row(scores: Scores, rows: slice) -> Scores:
    terms = {k: v[rows] for k, v in scores.terms.items()}
    return Scores(scores.score[rows], scores.expected[rows], scores.lower[rows], scores.upper[rows], terms)
