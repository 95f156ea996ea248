"""The detection loop: when a step closes, read it, score it, judge it, tell the one door of incidents.

One model serves all watched series of one step. Only new steps are read; a step is scored once, with what was
there when it closed. A missing value is missing, never zero, and a source that is down is a state of the loop,
not an anomaly. Training reads the trailing window on another thread and swaps the state between two steps.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Anomaly, Batch, State
from aiops.core.errors import AiopsError, ConfigError, Forbidden, QueryError, TransientError
from aiops.core.incident import Alert
from aiops.core.ports import AnomalySink, Clock, MetricQuerier, system_clock
from aiops.incidents.episodes import Narrow, Series, alert_of, begin, carry_on, direction_of
from aiops.incidents.readings import Reader, Readings, series_of
from aiops.incidents.thresholds import Judge, Policy, calibrate, tail_of
from aiops.incidents.watch import WatchEntry, watch_list
from aiops.models.serving import Scorer
from aiops.models.training import Progress, Trainer, silent
from aiops.settings import DetectionSettings, IncidentSettings

log = logging.getLogger(__name__)

MAX_POINTS = 20_160
"""Longest training window in steps: fourteen days of minutes."""
MAX_CATCH_UP = 240
"""Steps read at most after a pause; older ones are let go."""
JOIN_EVERY = 10
"""Steps between two looks at new series."""


class EpisodeRepository(Protocol):
    """Open episodes, kept so that a restart does not tell of them again."""

    def save_anomalies(self, anomalies: Sequence[Anomaly]) -> None: ...

    def open_anomalies(self) -> Sequence[Anomaly]: ...


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


@dataclass
class _Group:
    step_ms: int
    entries: tuple[WatchEntry, ...]
    present: tuple[WatchEntry, ...] = ()
    series: list[Series] = field(default_factory=list)
    judge: Judge | None = None
    anomalies: dict[str, Anomaly] = field(default_factory=dict)
    warming: dict[str, int] = field(default_factory=dict)
    last_ms: int = 0
    steps: int = 0

    @property
    def model(self) -> str:
        return f"anomaly-{self.step_ms // 1000}s" if self.step_ms % 1000 == 0 else f"anomaly-{self.step_ms}ms"


class DetectionLoop:
    """Watches, scores, judges, reports.

    Args:
        querier: what the watch list is asked of.
        sink: takes alerts; repeats do no harm.
        trainer, scorer: of the same detector.
        repository: keeps episodes.
        settings, incidents: policy.
        clock: ms UTC.
        narrow: adds matchers to a query, so that an anomaly's query shows its series alone.
        watch: instead of the settings' list.
        lag_ms: wait after a step's close for late samples; by default a quarter of the step, at most 5 s.
    """

    def __init__(
        self,
        querier: MetricQuerier,
        sink: AnomalySink,
        trainer: Trainer,
        scorer: Scorer,
        repository: EpisodeRepository,
        settings: DetectionSettings,
        incidents: IncidentSettings,
        clock: Clock = system_clock,
        *,
        narrow: Narrow | None = None,
        watch: Sequence[WatchEntry] | None = None,
        lag_ms: int | None = None,
    ) -> None:
        self._reader = Reader(querier)
        self._sink = sink
        self._trainer = trainer
        self._scorer = scorer
        self._repository = repository
        self._settings = settings
        self._clock = clock
        self._narrow = narrow
        self._lag_ms = lag_ms
        self._policy = Policy(
            incidents.false_alarms_per_day, incidents.min_duration_steps, incidents.resolve_after_steps
        )
        entries = watch_list(settings) if watch is None else tuple(watch)
        if len({(e.step_ms, e.name) for e in entries}) != len(entries):
            raise ConfigError("Two entries of detection.watch have the same query.")
        steps = sorted({entry.step_ms for entry in entries})
        self._groups = [_Group(step, tuple(e for e in entries if e.step_ms == step)) for step in steps]
        self._unsent: list[Alert] = []
        self._refused: dict[str, str] = {}
        self._source = ""
        self._lock = threading.RLock()
        self._training = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    # ---------------------------------------------------------------- state

    def status(self) -> DetectionStatus:
        with self._lock:
            groups = tuple(
                GroupStatus(
                    g.model, g.step_ms, len(g.series), len(g.warming), len(g.anomalies), g.last_ms, self._reference(g)
                )
                for g in self._groups
            )
            return DetectionStatus(groups, self._source, tuple(sorted(self._refused.items())), self._training.locked())

    @property
    def trained(self) -> bool:
        """True once at least one series is scored."""
        with self._lock:
            return any(group.judge is not None for group in self._groups)

    def _reference(self, group: _Group) -> str:
        served = self._scorer.served(group.model)
        return served.reference if served else ""

    # ---------------------------------------------------------------- running

    def start(self) -> None:
        """Restore, train where there is no model yet, then run at every step's close on a thread of its own."""
        self._stop.clear()
        thread = threading.Thread(target=self._run, name="detection", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Finish the step or training in hand and stop."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self._threads.clear()

    def _run(self) -> None:
        try:
            self.restore()
        except Exception:
            log.exception("the detection models could not be restored")
        tried_ms = 0
        while not self._stop.wait(self._until_next_s()):
            try:
                now = self._clock()
                retry_ms = 12 * min((g.step_ms for g in self._groups), default=60_000)
                if not self.trained and now - tried_ms >= retry_ms and not self._training.locked():
                    tried_ms = now
                    self._background(lambda: self.train(self._clock()))
                self.run_once(now)
            except Exception:
                log.exception("a detection step failed")

    def _until_next_s(self) -> float:
        now = self._clock()
        waits = [g.step_ms - (now - self._lag(g)) % g.step_ms for g in self._groups]
        return min(waits, default=60_000) / 1000

    def _background(self, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                work()
            except TransientError as error:
                log.warning("training put off: %s", error)
            except Exception:
                log.exception("training failed")

        self._threads = [t for t in self._threads if t.is_alive()]
        thread = threading.Thread(target=run, name="detection-training", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _lag(self, group: _Group) -> int:
        return min(group.step_ms // 4, 5000) if self._lag_ms is None else self._lag_ms

    def _closed(self, group: _Group, now_ms: int) -> int:
        return (now_ms - self._lag(group)) // group.step_ms * group.step_ms

    # ---------------------------------------------------------------- models

    def restore(self) -> bool:
        """Serve the champions of the registry, and take up the episodes that were open; true if all groups have one."""
        found = 0
        for group in self._groups:
            try:
                served = self._scorer.load_champion(self._trainer.registry, group.model)
            except AiopsError as error:
                log.warning("the champion of %s cannot be served: %s", group.model, error)
                continue
            if served is None or served.state.step_ms != group.step_ms:
                continue
            with self._lock:
                group.present = group.entries
                if self._install(group, served.state):
                    group.last_ms = max(served.last_ms, self._closed(group, self._clock()) - 64 * group.step_ms)
                    found += 1
        return found == len(self._groups)

    def train(self, now_ms: int, progress: Progress | None = None) -> int:
        """Fit every group on its trailing window and put the result in service; returns the series now watched.

        A group with no series of at least ``min_points`` is left as it is.

        Raises:
            TransientError: the source cannot be read; what was in service stays.
        """
        report = progress or silent
        with self._training:
            for number, group in enumerate(self._groups):

                def part(share: float, text: str, number: int = number) -> None:
                    report((number + share) / len(self._groups), text)

                self._train_group(group, now_ms, part)
        report(1.0, "done")
        with self._lock:
            return sum(len(group.series) for group in self._groups)

    def _train_group(self, group: _Group, now_ms: int, report: Progress) -> None:
        end = self._closed(group, now_ms)
        steps = max(min(int(self._settings.train_window_s * 1000) // group.step_ms, MAX_POINTS), 1)
        report(0.0, "looking for metrics to watch")
        present = self._reader.existing(group.entries, now_ms)
        readings = Readings(end - group.step_ms * np.arange(steps - 1, -1, -1, dtype=np.int64), group.step_ms)
        for number, entry in enumerate(present):
            report(0.5 * number / len(present), f"reading {entry.metric}")
            part = self._read(group, (entry,), end - (steps - 1) * group.step_ms, end)
            room = self._settings.max_series - len(readings.rows)
            readings.rows.update(list(part.rows.items())[:room])
        ids, warming = self._ripe(readings)
        with self._lock:
            group.present = present
            group.warming = {i: group.warming.get(i, end) for i in warming}
        if not ids:
            return
        trained = self._trainer.train(
            group.model,
            readings.batch(ids),
            query="\n".join(entry.query for entry in present),
            calibrate=self._calibrate,
            progress=lambda share, text: report(0.5 + 0.5 * share, text),
        )
        if not trained.champion and self._scorer.served(group.model) is not None:
            log.warning("the new version of %s stays challenger: %s", group.model, trained.reason)
            return
        with self._lock:
            self._scorer.serve(group.model, trained.state, trained.reference, trained.end_ms)
            self._install(group, trained.state)
            self._catch_up(group)

    def _ripe(self, readings: Readings) -> tuple[list[str], list[str]]:
        """Series with enough points that are still alive, and live ones with too few."""
        alive = max(self._settings.min_points, 60)
        ripe: list[str] = []
        warming: list[str] = []
        for key, row in readings.rows.items():
            known = np.isfinite(row)
            if known[-alive:].any():
                (ripe if known.sum() >= self._settings.min_points else warming).append(key)
        return ripe, warming

    def _calibrate(self, score: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        return calibrate(score, self._policy.min_duration_steps, self._policy.resolve_after_steps)

    def _install(self, group: _Group, state: State) -> bool:
        """Judge the series of ``state`` from now on; runs and open episodes of known series go on."""
        entries = {entry.name: entry for entry in group.entries}
        series = []
        try:
            for key in state.series_ids:
                name, labels = series_of(key)
                series.append(Series(key, entries[name], labels))
            tail = tail_of(state)
        except (KeyError, ValueError) as error:
            log.warning("the model of %s was trained for another watch list: %s", group.model, error)
            return False
        others = sum(len(g.series) for g in self._groups if g is not group)
        judge = Judge(tail, direction_of(series), self._policy, group.step_ms, others + len(series))
        if group.judge is not None:
            before = {s.id: row for row, s in enumerate(group.series)}
            for row, one in enumerate(series):
                if (old := before.get(one.id)) is not None:
                    judge.run[row], judge.quiet[row] = group.judge.run[old], group.judge.quiet[old]
        else:
            self._take_up(group, series)
        judge.reopen(np.array([r for r, s in enumerate(series) if s.id in group.anomalies], np.int64))
        group.series, group.judge = series, judge
        group.warming = {k: v for k, v in group.warming.items() if k not in set(state.series_ids)}
        for other in self._groups:
            if other is not group and other.judge is not None:
                other.judge.set_fleet(others + len(series))
        return True

    def _take_up(self, group: _Group, series: Sequence[Series]) -> None:
        """Open episodes of before a restart, by metric and labels."""
        kept = {(a.metric, a.series): a for a in self._repository.open_anomalies()}
        for one in series:
            if (found := kept.get((one.entry.metric, one.labels))) is not None:
                group.anomalies.setdefault(one.id, found)

    def _catch_up(self, group: _Group) -> None:
        """Move a fresh state over the steps that were judged while it was trained."""
        served = self._scorer.served(group.model)
        if served is None or group.last_ms <= served.last_ms:
            group.last_ms = max(group.last_ms, served.last_ms if served else 0)
            return
        start = max(served.last_ms, group.last_ms - MAX_CATCH_UP * group.step_ms) + group.step_ms
        batch = self._read(group, group.present, start, group.last_ms).batch([s.id for s in group.series])
        for k in range(batch.values.shape[1]):
            self._scorer.score_tick(group.model, _column(batch, k))

    # ---------------------------------------------------------------- steps

    def run_once(self, now_ms: int) -> list[Anomaly]:
        """Score and judge the steps that have closed; returns the anomalies that began, went on or ended."""
        changed: dict[str, Anomaly] = {}
        for group in self._groups:
            with self._lock:
                end = self._closed(group, now_ms)
                if group.judge is None or end <= group.last_ms:
                    continue
                start = max(group.last_ms + group.step_ms, end - (MAX_CATCH_UP - 1) * group.step_ms)
                try:
                    readings = self._read(group, group.present, start, end)
                except (TransientError, Forbidden) as error:
                    if not self._source:
                        log.warning("the metrics source cannot be read: %s", error)
                    self._source = str(error)
                    continue
                self._source = ""
                alerts = self._judge(group, readings, changed)
                self._note_new(group, readings, end)
                group.last_ms = end
            self._tell(alerts)
            self._look_for_new(group, now_ms)
        return list(changed.values())

    def _judge(self, group: _Group, readings: Readings, changed: dict[str, Anomaly]) -> list[Alert]:
        batch = readings.batch([s.id for s in group.series])
        judge, reference = group.judge, self._reference(group)
        assert judge is not None
        latest: dict[str, Alert] = {}
        for k in range(batch.values.shape[1]):
            now = int(batch.timestamps[k])
            tick = _column(batch, k)
            scores = self._scorer.score_tick(group.model, tick)
            value = batch.values[:, k].astype(np.float64)
            score = scores.score[:, 0].astype(np.float64)
            verdict = judge.step(score, value, scores.expected[:, 0].astype(np.float64))
            p_value = judge.p_value(np.where(np.isfinite(score), score, 0.0))
            started = now - (self._policy.min_duration_steps - 1) * group.step_ms
            for row in verdict.opened:
                one = group.series[row]
                group.anomalies[one.id] = begin(
                    one, self._narrow, started, now, scores, row, float(value[row]), float(p_value[row]), reference
                )
            for row in verdict.open:
                one = group.series[row]
                group.anomalies[one.id] = carry_on(
                    group.anomalies[one.id], now, scores, row, float(value[row]), float(p_value[row])
                )
            ended = {}
            for row in verdict.closed:
                one = group.series[row]
                ended[one.id] = replace(group.anomalies.pop(one.id), updated_ms=now, ended_ms=now)
            for row in (*verdict.opened, *verdict.open, *verdict.closed):
                one = group.series[row]
                anomaly = ended.get(one.id) or group.anomalies[one.id]
                changed[anomaly.id] = anomaly
                latest[anomaly.id] = alert_of(anomaly, one.entry.name)
        return list(latest.values())

    def _tell(self, alerts: list[Alert]) -> None:
        """Save, then submit. What cannot be delivered now is delivered with the next step, in order."""
        with self._lock:
            self._unsent = [*self._unsent, *alerts]
            if not self._unsent:
                return
            try:
                self._repository.save_anomalies([a.anomaly for a in self._unsent if a.anomaly is not None])
                self._sink.submit(self._unsent)
            except TransientError as error:
                log.warning("anomalies wait to be delivered: %s", error)
                return
            self._unsent = []

    def _read(self, group: _Group, entries: Sequence[WatchEntry], start_ms: int, end_ms: int) -> Readings:
        """Like :meth:`Reader.read`; an entry that the source refuses is left out and shown in the status."""
        out: Readings | None = None
        for entry in entries:
            try:
                part = self._reader.read((entry,), start_ms, end_ms, group.step_ms, self._settings.max_series)
                self._refused.pop(entry.name, None)
            except QueryError as error:
                if entry.name not in self._refused:
                    log.warning("the watched query %s is refused: %s", entry.name, error)
                self._refused[entry.name] = str(error)
                continue
            if out is None:
                out = part
            else:
                out.rows.update(part.rows)
        return out if out is not None else self._reader.read((), start_ms, end_ms, group.step_ms, 0)

    # ---------------------------------------------------------------- new series

    def _note_new(self, group: _Group, readings: Readings, end_ms: int) -> None:
        known = {s.id for s in group.series}
        for key, row in readings.rows.items():
            if (
                key not in known
                and np.isfinite(row[-1])
                and len(known) + len(group.warming) < self._settings.max_series
            ):
                group.warming.setdefault(key, end_ms)
        group.steps += 1

    def _look_for_new(self, group: _Group, now_ms: int) -> None:
        """Every few steps: new metrics, and new series that have their points by now."""
        if group.steps % JOIN_EVERY or self._training.locked():
            return
        with self._lock:
            oldest = min(group.warming.values(), default=now_ms)
        ripe = now_ms - oldest >= self._settings.min_points * group.step_ms
        if ripe or group.steps % (10 * JOIN_EVERY) == 0 or len(group.present) < len(group.entries):
            self._background(lambda: self.join_new(now_ms))

    def join_new(self, now_ms: int) -> int:
        """Fit the new series that have enough points, alone, and watch them too; returns how many joined."""
        joined = 0
        with self._training:
            for group in self._groups:
                present = self._reader.existing(group.entries, now_ms)
                with self._lock:
                    group.present = present
                    waiting = set(group.warming)
                    known = {s.id for s in group.series}
                    wanted = {e for e in present for key in waiting if series_of(key)[0] == e.name}
                if group.judge is None or not wanted:
                    continue
                end = self._closed(group, now_ms)
                steps = min(int(self._settings.train_window_s * 1000) // group.step_ms, MAX_POINTS)
                readings = self._read(group, tuple(wanted), end - (steps - 1) * group.step_ms, end)
                ids = [i for i in self._ripe(readings)[0] if i in waiting and i not in known]
                if not ids:
                    continue
                state = self._trainer.fit(readings.batch(ids), self._calibrate)
                with self._lock:
                    self._install(group, self._scorer.join(group.model, state))
                joined += len(ids)
        return joined


def _column(batch: Batch, k: int) -> Batch:
    return Batch(
        batch.values[:, k : k + 1],
        batch.mask[:, k : k + 1],
        batch.timestamps[k : k + 1],
        batch.step_ms,
        batch.series_ids,
    )
