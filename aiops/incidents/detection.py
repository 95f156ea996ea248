"""The detection loop: when a step closes, read it, score it, judge it, tell the one door of incidents.

One model serves all watched series of one step. Only new steps are read; a step is judged once, with what was
there when it closed. A missing value is missing, never zero, and a source that is down is a state of the loop,
not an anomaly. Training reads the trailing window on another thread and swaps the state between two steps.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Anomaly, Batch, Mark, Scores
from aiops.core.errors import AiopsError, ConfigError, Forbidden, QueryError, TransientError
from aiops.core.incident import Alert
from aiops.core.ports import AnomalySink, Clock, MetricQuerier, system_clock
from aiops.core.series import Labels
from aiops.incidents.episodes import Narrow, alert_of
from aiops.incidents.feedback import HALF_LIFE_MS, offsets
from aiops.incidents.fill_watch import FillWatch
from aiops.incidents.habits import habits
from aiops.incidents.ledger import Ledger
from aiops.incidents.memory import Documents, Memory
from aiops.incidents.presence import targets_up
from aiops.incidents.readings import Reader, Readings, series_id
from aiops.incidents.source_load import BudgetedQuerier
from aiops.incidents.tails import calibrate
from aiops.incidents.thresholds import Policy
from aiops.incidents.watch import WatchEntry, rule_entries, watch_list
from aiops.incidents.watched import WARM_UP_STEPS, DetectionStatus, GroupStatus, WatchedGroup, entries_of, ripe
from aiops.models.serving import Scorer
from aiops.models.training import UNREGISTERED, Calibrate, Progress, Trainer, silent
from aiops.settings import DetectionSettings, IncidentSettings

log = logging.getLogger(__name__)

MAX_POINTS = 20_160
"""Longest training window in steps: fourteen days of minutes."""
MAX_CATCH_UP = 240
"""Steps read at most after a pause; older ones are let go."""
KEEP_MS = 600_000
"""Live counts are written at most this often, and at a stop."""
LOOK_EVERY = 10
"""Steps between two looks for another champion, new metrics and new series."""


class EpisodeRepository(Documents, Protocol):
    """Open episodes and small documents, kept so that a restart goes on where it stopped."""

    def save_anomalies(self, anomalies: Sequence[Anomaly]) -> None: ...

    def open_anomalies(self) -> Sequence[Anomaly]: ...


class MarkSource(Protocol):
    """People's judgements of earlier anomalies, the oldest first."""

    def since(self, time_ms: int) -> Sequence[Mark]: ...


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
        marks: people's judgements, which move thresholds.
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
        marks: MarkSource | None = None,
    ) -> None:
        self._querier = querier
        self._reader = Reader(querier)
        self._sink = sink
        self._trainer = trainer
        self._scorer = scorer
        self._repository = repository
        self._settings = settings
        self._clock = clock
        self._lag_ms = lag_ms
        self._policy = Policy(
            incidents.false_alarms_per_day, incidents.min_duration_steps, incidents.resolve_after_steps
        )
        entries = watch_list(settings) if watch is None else tuple(watch)
        if len({(e.step_ms, e.metric) for e in entries}) != len(entries):
            raise ConfigError("Two entries of detection.watch have the same name or query.")
        self._marks = marks
        self._fill = FillWatch(querier, narrow)
        self._memory = Memory(repository)
        self._ledger = Ledger(incidents.false_alarms_per_day, clock())
        self._kept_ms = clock()
        self._groups = [
            WatchedGroup(step, tuple(e for e in entries if e.step_ms == step), self._policy, self._ledger, narrow)
            for step in sorted({entry.step_ms for entry in entries})
        ]
        for group in self._groups:
            group.target = self._target
            group.follows_rules = settings.watch_rules and watch is None and not settings.watch
        self._unsent: dict[str, Alert] = {}
        self._refused: dict[str, str] = {}
        self._source = ""
        # Held over whole steps, reading included; the status needs no lock, so that a slow source does not hide it.
        self._stepping = threading.RLock()
        self._training = threading.Lock()
        self._looking = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    # ---------------------------------------------------------------- state

    def status(self) -> DetectionStatus:
        groups = tuple(
            GroupStatus(
                g.model, g.step_ms, len(g.series), len(g.warming), len(g.anomalies), g.judged_ms, self._reference(g)
            )
            for g in self._groups
        )
        load = self._querier.load().words if isinstance(self._querier, BudgetedQuerier) else ""
        refused = tuple(sorted(self._refused.items()))
        return DetectionStatus(groups, self._source, refused, self._training.locked(), load)

    @property
    def trained(self) -> bool:
        """True once at least one series is scored."""
        return any(group.judge is not None for group in self._groups)

    def _reference(self, group: WatchedGroup) -> str:
        served = self._scorer.served(group.model)
        return served.reference if served else ""

    def _watched(self, apart: WatchedGroup) -> int:
        return sum(len(group.series) for group in self._groups if group is not apart)

    # ---------------------------------------------------------------- running

    def start(self) -> None:
        """Restore, train where there is no model yet, then run at every step's close, on threads of its own."""
        self._stop.clear()
        self._spawn("detection", self._run)

    def stop(self) -> None:
        """Finish the step in hand and stop; a training in hand is given up at its next part."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self._threads.clear()
        try:
            self._keep(self._clock(), now=True)
        except TransientError as error:
            log.warning("what detection has counted could not be kept: %s", error)

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
                    self._in_background(lambda: self.train(self._clock()))
                self.run_once(now)
            except Exception:
                log.exception("a detection step failed")

    def _until_next_s(self) -> float:
        now = self._clock()
        waits = [g.step_ms - (now - self._lag(g)) % g.step_ms for g in self._groups]
        return min(waits, default=60_000) / 1000

    def _in_background(self, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                work()
            except TransientError as error:
                log.warning("training put off: %s", error)
            except Exception:
                log.exception("training failed")

        self._spawn("detection-training", run)

    def _spawn(self, name: str, run: Callable[[], None]) -> None:
        self._threads = [t for t in self._threads if t.is_alive()]
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _lag(self, group: WatchedGroup) -> int:
        return min(group.step_ms // 4, 5000) if self._lag_ms is None else self._lag_ms

    def _closed(self, group: WatchedGroup, now_ms: int) -> int:
        return (now_ms - self._lag(group)) // group.step_ms * group.step_ms

    # ---------------------------------------------------------------- models

    def restore(self) -> bool:
        """Serve the registry's champions and take up the episodes that were open; true if every group has one."""
        now = self._clock()
        with self._stepping:
            self._ledger = self._memory.ledger(self._ledger.per_day, now)
            for group in self._groups:
                group.ledger = self._ledger
        found = [self._restore_group(group) for group in self._groups]
        for group in self._groups:
            group.take_live(self._memory.live(group.model, [one.id for one in group.series], now))
        with self._looking:
            self._fill.take_up(self._repository.open_anomalies())
        self.follow_marks()
        self._share_budget()
        return all(found)

    def _restore_group(self, group: WatchedGroup) -> bool:
        try:
            served = self._scorer.load_champion(self._trainer.registry, group.model)
        except AiopsError as error:
            log.warning("the champion of %s cannot be served: %s", group.model, error)
            return False
        if served is None or served.state.step_ms != group.step_ms:
            return False
        late = self._memory.joined(group.model, served.reference)
        with self._stepping:
            first = group.judge is None
            state = served.state
            group.joined = set()
            if late is not None and late.step_ms == state.step_ms and set(late.arrays) == set(state.arrays):
                state, group.joined = state.concat(late), set(late.series_ids)
            if not group.install(state, self._watched(group)):
                return False
            self._scorer.serve(group.model, state, served.reference, served.last_ms)
            closed = self._closed(group, self._clock())
            group.last_ms = max(served.last_ms, closed - WARM_UP_STEPS * group.step_ms)
            if first:
                group.present, group.judged_ms = group.entries, closed - group.step_ms
                group.take_up(self._repository.open_anomalies())
        return True

    def follow_marks(self, paid_back_ms: int | None = None) -> None:
        """Move the thresholds to where people's marks put them.

        Args:
            paid_back_ms: the beginning of an anomaly that has just been marked as true.
        """
        if self._marks is None:
            return
        found = offsets(self._marks.since(self._clock() - 4 * HALF_LIFE_MS), self._clock())
        with self._stepping:
            if paid_back_ms is not None:
                self._ledger.forgive(paid_back_ms)
            for group in self._groups:
                names = {entry.metric: entry.name for entry in group.entries}
                group.move_thresholds(
                    {series_id(names[m], labels): value for (m, labels), value in found.items() if m in names}
                )

    def scores(self, anomaly: Anomaly, batch: Batch) -> Scores | None:
        """Scores of a batch of one anomaly's series by the model in service; ``None`` where it is not watched."""
        for group in self._groups:
            name = next((e.name for e in group.entries if e.metric == anomaly.metric), None)
            if name is not None and group.step_ms == batch.step_ms:
                key = series_id(name, anomaly.series)
                return self._scorer.trace(group.model, key, dataclasses.replace(batch, series_ids=(key,)))
        return None

    def follow_registry(self) -> None:
        """Serve another version where a person has promoted it or rolled back to it."""
        with self._training:
            for group in self._groups:
                served = self._scorer.served(group.model)
                if served is None or served.reference == UNREGISTERED:
                    continue
                champion = self._trainer.registry.get(group.model)
                if champion is not None and champion.reference != served.reference:
                    log.info("serving %s in place of %s", champion.reference, served.reference)
                    self._restore_group(group)
        self._share_budget()

    def train(self, now_ms: int, progress: Progress | None = None) -> int:
        """Fit every group on its trailing window and put the result in service; returns the series now watched.

        A group with no series of at least ``min_points`` is left as it is.

        Raises:
            TransientError: the source cannot be read, or the loop is stopping; what was in service stays.
        """
        report = progress or silent
        with self._training:
            for number, group in enumerate(self._groups):

                def part(share: float, text: str, number: int = number) -> None:
                    if self._stop.is_set():
                        raise TransientError("Detection is stopping.")
                    report((number + share) / len(self._groups), text)

                self._train_group(group, now_ms, part)
        report(1.0, "done")
        return sum(len(group.series) for group in self._groups)

    def _train_group(self, group: WatchedGroup, now_ms: int, report: Progress) -> None:
        report(0.0, "looking for metrics to watch")
        end, start = self._window(group, now_ms)
        self._add_rules(group, now_ms)
        present = self._reader.existing(group.entries, now_ms)
        readings = self._read(group, present, start, end, lambda share, text: report(0.5 * share, text))
        ids, warming = ripe(readings, self._settings.min_points)
        with self._stepping:
            group.present = present
            for key in warming:
                group.warming.setdefault(key, end + self._settings.min_points * group.step_ms)
        if not ids:
            return
        batch = readings.batch(ids)
        trained = self._trainer.train(
            group.model,
            batch,
            query="\n".join(entry.query for entry in present),
            calibrate=self._calibrator(batch),
            progress=lambda share, text: report(0.5 + 0.5 * share, text),
        )
        if not trained.champion and self._scorer.served(group.model) is not None:
            log.warning("the new version of %s stays challenger: %s", group.model, trained.reason)
            return
        with self._stepping:
            self._scorer.serve(group.model, trained.state, trained.reference, trained.end_ms)
            group.install(trained.state, self._watched(group))
            group.last_ms, group.judged_ms = trained.end_ms, max(group.judged_ms, trained.end_ms)
            group.joined = set()
        self._memory.forget_joined(group.model)
        self._share_budget()

    def _add_rules(self, group: WatchedGroup, now_ms: int) -> None:
        """Watch the recording rules whose results the source has now."""
        if not group.follows_rules:
            return
        known = {entry.name for entry in group.entries}
        recorded = rule_entries(self._reader.recorded(now_ms), group.step_ms)
        with self._stepping:
            group.entries += tuple(entry for entry in recorded if entry.name not in known)

    def _window(self, group: WatchedGroup, now_ms: int) -> tuple[int, int]:
        """End and start of the training window."""
        end = self._closed(group, now_ms)
        steps = max(min(int(self._settings.train_window_s * 1000) // group.step_ms, MAX_POINTS), 1)
        return end, end - (steps - 1) * group.step_ms

    def _calibrator(self, batch: Batch) -> Calibrate:
        """What is kept of the training window beside the models: the tails of its scores, its gaps and flat runs."""

        def run(score: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
            tails = calibrate(score, self._policy.min_duration_steps, self._policy.resolve_after_steps)
            return {**tails, **habits(batch.values, batch.mask)}

        return run

    def _target(self, labels: Labels) -> bool | None:
        """Whether the targets behind a series are up, by the source's ``up``; ``None`` where it does not say."""
        try:
            return targets_up(self._reader.now("up", self._clock()))(labels)
        except (AiopsError, ValueError):
            return None

    def _share_budget(self) -> None:
        with self._stepping:
            fleet = sum(len(group.series) for group in self._groups)
            for group in self._groups:
                if group.judge is not None:
                    group.judge.set_rate(self._ledger.rate(group.step_ms, fleet, self._clock()))

    # ---------------------------------------------------------------- steps

    def run_once(self, now_ms: int) -> list[Anomaly]:
        """Score and judge the steps that have closed; returns the anomalies that began, went on or ended."""
        changed: dict[str, Anomaly] = {}
        for group in self._groups:
            with self._stepping:
                end = self._closed(group, now_ms)
                if group.judge is None or end <= group.judged_ms:
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
                changed |= group.judge_steps(readings, self._scorer)
                group.note_new(readings, self._settings.max_series - len(group.series))
        self._tell(changed)
        self._keep(now_ms, now=False)
        self._look_around(now_ms)
        return list(changed.values())

    def _keep(self, now_ms: int, *, now: bool) -> None:
        """Write the ledger and live counts, and share what is left of the budget."""
        if not now and now_ms - self._kept_ms < KEEP_MS:
            return
        self._kept_ms = now_ms
        with self._stepping:
            self._share_budget()
            self._memory.save_ledger(self._ledger)
            for group in self._groups:
                if group.judge is not None:
                    ids = [one.id for one in group.series]
                    self._memory.save_live(group.model, ids, group.judge.drift.live, now_ms)

    def _tell(self, changed: dict[str, Anomaly]) -> None:
        """Save, then submit. What cannot be delivered now is delivered with the next step, in its latest form."""
        with self._stepping:
            self._unsent |= {key: alert_of(anomaly) for key, anomaly in changed.items()}
            if not self._unsent:
                return
            alerts = list(self._unsent.values())
            try:
                self._repository.save_anomalies([a.anomaly for a in alerts if a.anomaly is not None])
                self._sink.submit(alerts)
            except TransientError as error:
                log.warning("%d anomalies wait to be delivered: %s", len(alerts), error)
                return
            self._unsent.clear()

    def _read(
        self,
        group: WatchedGroup,
        entries: Sequence[WatchEntry],
        start_ms: int,
        end_ms: int,
        progress: Progress = silent,
    ) -> Readings:
        """The entries' series; an entry that the source refuses is left out and shown in the status."""
        out = self._reader.read((), start_ms, end_ms, group.step_ms, 0)
        for number, entry in enumerate(entries):
            progress(number / len(entries), f"reading {entry.metric}")
            room = self._settings.max_series - len(out.rows)
            try:
                out.rows |= self._reader.read((entry,), start_ms, end_ms, group.step_ms, room).rows
                self._refused.pop(entry.name, None)
            except QueryError as error:
                if entry.name not in self._refused:
                    log.warning("the watched query %s is refused: %s", entry.name, error)
                self._refused[entry.name] = str(error)
        return out

    # ---------------------------------------------------------------- new series

    def _look_around(self, now_ms: int) -> None:
        """Every few steps, off the loop's thread: another champion, new metrics, new series."""
        due = any(g.judge is not None and g.steps and g.steps % LOOK_EVERY == 0 for g in self._groups)
        if not due or self._training.locked() or self._stop.is_set():
            return

        def look() -> None:
            self.look_ahead(now_ms)
            self.follow_registry()
            self.join_new(now_ms)

        self._in_background(look)

    def look_ahead(self, now_ms: int) -> list[Anomaly]:
        """Warn of what will be full, where it is time to look again; returns what began, changed or ended."""
        with self._looking:
            found = self._fill.look(now_ms)
        self._tell({anomaly.id: anomaly for anomaly in found})
        return found

    def join_new(self, now_ms: int) -> int:
        """Fit the new series that have enough points, alone, and watch them too; returns how many joined."""
        joined = 0
        with self._training:
            for group in self._groups:
                if group.judge is None:
                    continue
                self._add_rules(group, now_ms)
                present = self._reader.existing(group.entries, now_ms)
                with self._stepping:
                    group.present = present
                    due = set(group.due(now_ms))
                if not due:
                    continue
                end, start = self._window(group, now_ms)
                readings = self._read(group, entries_of(sorted(due), present), start, end)
                ids = [key for key in ripe(readings, self._settings.min_points)[0] if key in due]
                fresh = readings.batch(ids)
                state = self._trainer.fit(fresh, self._calibrator(fresh)) if ids else None
                with self._stepping:
                    for key in due:
                        group.warming[key] = now_ms + self._settings.min_points * group.step_ms // 4
                    if state is not None:
                        everything = self._scorer.join(group.model, state)
                        group.install(everything, self._watched(group))
                        group.joined |= set(ids)
                        late = everything.select(sorted(group.joined))
                        self._memory.save_joined(group.model, self._reference(group), late)
                        joined += len(ids)
        self._share_budget()
        return joined
