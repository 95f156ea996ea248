"""The series of one step: which are watched, which are warming up, which are in an episode."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Anomaly, Batch, Scores, State
from aiops.incidents.drift import Live, carried
from aiops.incidents.episodes import Narrow, Series, begin, carry_on, direction_of
from aiops.incidents.ledger import Ledger
from aiops.incidents.presence import Presence, Target, limits_of
from aiops.incidents.readings import Readings, series_of
from aiops.incidents.tails import tail_of
from aiops.incidents.thresholds import Judge, Policy
from aiops.incidents.watch import WatchEntry, rule_entries
from aiops.models.serving import Scorer

log = logging.getLogger(__name__)

BESIDE = 3
"""Other metrics of a service that an anomaly names."""
WARM_UP_STEPS = 64
"""Steps that a restored state is moved over before it judges, so that its memory is of the present."""


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One model's group: ``watched`` series are scored, ``warming`` ones have too few points yet."""

    model: str
    step_ms: int
    watched: int
    warming: int
    open: int
    last_step_ms: int
    reference: str


@dataclass(frozen=True, slots=True)
class DetectionStatus:
    """``source`` is empty, or why the metrics source could not be read; ``refused`` are entries it would not answer."""

    groups: tuple[GroupStatus, ...]
    source: str = ""
    refused: tuple[tuple[str, str], ...] = ()
    training: bool = False
    load: str = ""
    """What is asked of the user's own source, beside the budget; empty where the store is asked."""


class Beside(Protocol):
    """A candidate that scores beside the model in service."""

    def tails(self, state: State) -> State:
        """A state whose calibration is of the version that decides on each series."""
        ...

    def step(self, tick: Batch, stable: Callable[[], Scores], judged: bool) -> Scores:
        """The scores that decide, of a step that the stable version scores when called."""
        ...

    def reference(self, series_id: str, stable: str) -> str:
        """The version that decided on a series in the last step."""
        ...


@dataclass
class WatchedGroup:
    """Not thread-safe; sizes may be read from other threads.

    Attributes:
        last_ms: the step that the model in service has seen last.
        judged_ms: the step judged last; steps up to it only move a fresh state on.
        warming: series id to the time at which to look again whether it has enough points.
        name: of the named group; empty for the rest of the step.
        follows_rules: the results of the user's recording rules are watched beside the entries.
        offsets: series id to how far people's marks have moved its threshold.
        trial: a candidate that scores beside the model in service and decides for some series.
    """

    step_ms: int
    entries: tuple[WatchEntry, ...]
    policy: Policy
    ledger: Ledger
    narrow: Narrow | None = None
    present: tuple[WatchEntry, ...] = ()
    series: list[Series] = field(default_factory=list)
    judge: Judge | None = None
    anomalies: dict[str, Anomaly] = field(default_factory=dict)
    warming: dict[str, int] = field(default_factory=dict)
    last_ms: int = 0
    judged_ms: int = 0
    steps: int = 0
    follows_rules: bool = False
    name: str = ""
    presence: Presence | None = None
    target: Target = lambda _: None
    offsets: Mapping[str, float] = field(default_factory=dict)
    trial: Beside | None = None

    @property
    def model(self) -> str:
        step = f"{self.step_ms // 1000}s" if self.step_ms % 1000 == 0 else f"{self.step_ms}ms"
        return "-".join(filter(None, ("anomaly", step, self.name)))

    def install(self, state: State, others: int) -> bool:
        """Judge the series of ``state`` from now on; runs and open episodes of known series go on.

        Args:
            others: series watched in other groups, which share the budget of false alarms.

        Returns:
            False where the state was trained for another watch list; nothing changes then.
        """
        entries = {entry.name: entry for entry in self.entries}
        series = []
        try:
            for key in state.series_ids:
                name, labels = series_of(key)
                if name not in entries and self.follows_rules:
                    entries |= {entry.name: entry for entry in rule_entries([name], self.step_ms)}
                series.append(Series(key, entries[name], labels))
            tail = tail_of(state if self.trial is None else self.trial.tails(state))
        except (KeyError, ValueError, TypeError) as error:
            log.warning("the model %s was trained for another watch list: %r", self.model, error)
            return False
        self.entries = tuple(entries.values())
        judge = Judge(tail, direction_of(series), self.policy, self.step_ms, others + len(series))
        if self.judge is not None:
            before = {s.id: row for row, s in enumerate(self.series)}
            for row, one in enumerate(series):
                if (old := before.get(one.id)) is not None:
                    judge.run[row], judge.quiet[row] = self.judge.run[old], self.judge.quiet[old]
            ids = [one.id for one in series]
            judge.drift.take(carried(self.judge.drift.live, before, ids, self.judge.tail, tail))
        judge.reopen(np.array([row for row, s in enumerate(series) if s.id in self.anomalies], np.int64))
        self._watch_presence(state, series)
        self.series, self.judge = series, judge
        self.move_thresholds(self.offsets)
        for key in state.series_ids:
            self.warming.pop(key, None)
        return True

    def _watch_presence(self, state: State, series: Sequence[Series]) -> None:
        limits = limits_of(state, self.step_ms)
        if limits is None:
            self.presence = None
            return
        fresh = Presence(series, limits, self.step_ms, self.narrow, f"{self.model}/presence")
        if self.presence is not None:
            fresh.carry(self.presence)
        self.presence = fresh

    def take_live(self, live: Live) -> None:
        """Go on from the live counts of an earlier process."""
        if self.judge is not None:
            self.judge.drift.take(live)
            self.judge.refresh()

    def move_thresholds(self, offsets: Mapping[str, float]) -> None:
        """Apply what people's marks say, by series id."""
        self.offsets = offsets
        if self.judge is not None:
            self.judge.offset = np.array([offsets.get(one.id, 0.0) for one in self.series])
            self.judge.refresh()

    def take_up(self, kept: Iterable[Anomaly]) -> None:
        """Go on with the episodes that were open before a restart; those of series not watched any more are ended
        with the next step."""
        by_key = {(s.entry.metric, s.labels): row for row, s in enumerate(self.series)}
        rows = []
        for anomaly in kept:
            if not anomaly.model.startswith(f"{self.model}/"):
                continue
            row = by_key.get((anomaly.metric, anomaly.series))
            self.anomalies[anomaly.id if row is None else self.series[row].id] = anomaly
            rows += [] if row is None else [row]
        if self.judge is not None:
            self.judge.reopen(np.array(rows, np.int64))

    def judge_steps(self, readings: Readings, scorer: Scorer) -> dict[str, Anomaly]:
        """Score and judge each step once; anomalies that began, went on or ended, by id, in their latest form."""
        assert self.judge is not None
        batch = readings.batch([s.id for s in self.series])
        served = scorer.served(self.model)
        reference = served.reference if served else ""
        changed: dict[str, Anomaly] = {}
        for k, now in enumerate(batch.timestamps.tolist()):
            tick = batch.steps(k, k + 1)
            if self.trial is None:
                scores = scorer.score_tick(self.model, tick)
            else:
                scores = self.trial.step(tick, partial(scorer.score_tick, self.model, tick), now > self.judged_ms)
            self.last_ms = now
            if now > self.judged_ms:
                self.judge_step(scores, tick, now, reference, changed)
                if self.presence is not None:
                    changed |= self.presence.step(tick, self.target)
                self.judged_ms = now
                self.steps += 1
        return changed

    def judge_step(self, scores: Scores, tick: Batch, now: int, reference: str, changed: dict[str, Anomaly]) -> None:
        """Judge one step that has been scored; ``changed`` takes the anomalies that it began, carried on or ended."""
        judge = self.judge
        assert judge is not None
        value, score = tick.values[:, 0].astype(np.float64), scores.score[:, 0].astype(np.float64)
        verdict = judge.step(score, value, scores.expected[:, 0].astype(np.float64))
        self.ledger.record(now, len(verdict.opened))
        busy = len(verdict.opened) or len(verdict.open)
        p_value = judge.p_value(np.where(np.isfinite(score), score, 0.0)) if busy else np.ones(len(score))
        started = now - (self.policy.min_duration_steps - 1) * self.step_ms
        touched: dict[str, Anomaly] = {}
        for row in verdict.opened:
            one = self.series[row]
            figures = (scores, int(row), float(value[row]), float(p_value[row]))
            limit = float(judge.threshold[row])
            model = reference if self.trial is None else self.trial.reference(one.id, reference)
            touched[one.id] = begin(one, self.narrow, started, now, *figures, model, limit, self._beside(row, score))
        for row in verdict.open:
            key = self.series[row].id
            figures = (scores, int(row), float(value[row]), float(p_value[row]))
            touched[key] = carry_on(self.anomalies[key], now, *figures, self._beside(row, score))
        self.anomalies |= touched
        gone = set(self.anomalies) - {s.id for s in self.series} if self.anomalies else set()
        for key in [*(self.series[row].id for row in verdict.closed), *gone]:
            touched[key] = replace(self.anomalies.pop(key), updated_ms=now, ended_ms=now)
        changed.update((anomaly.id, anomaly) for anomaly in touched.values())

    def _beside(self, row: int, score: NDArray[np.float64]) -> tuple[tuple[str, float], ...]:
        """The metrics of the same service that also leave their usual range at this step, the largest scores first."""
        assert self.judge is not None
        mine, out = self.series[row], dict[str, float]()
        for other in np.flatnonzero(score >= self.judge.tail.level).tolist():
            one = self.series[other]
            if mine.service and one.service == mine.service and one.entry.metric != mine.entry.metric:
                out[one.entry.metric] = max(out.get(one.entry.metric, 0.0), float(score[other]))
        return tuple(sorted(out.items(), key=lambda item: -item[1])[:BESIDE])

    def note_new(self, readings: Readings, room: int) -> None:
        """Remember series that are neither watched nor known to warm up, at most ``room`` of them in all."""
        known = {s.id for s in self.series}
        for key, row in readings.rows.items():
            if key not in known and np.isfinite(row[-1]) and len(self.warming) < room:
                self.warming.setdefault(key, 0)

    def due(self, now_ms: int) -> list[str]:
        return [key for key, at in self.warming.items() if at <= now_ms]


def ripe(readings: Readings, min_points: int) -> tuple[list[str], list[str]]:
    """Series with enough points that are still alive, and live ones with too few."""
    enough: list[str] = []
    warming: list[str] = []
    alive = max(min_points, 60)
    for key, row in readings.rows.items():
        known = np.isfinite(row)
        if known[-alive:].any():
            (enough if int(known.sum()) >= min_points else warming).append(key)
    return enough, warming


def entries_of(keys: Sequence[str], entries: Iterable[WatchEntry]) -> tuple[WatchEntry, ...]:
    """The entries that gave these series."""
    names = {series_of(key)[0] for key in keys}
    return tuple(entry for entry in entries if entry.name in names)
