"""The detection loop: when a step closes, read it, score it, judge it, tell the one door of incidents.

One model serves all watched series of one step. Only new steps are read; a step is judged once, with what was
there when it closed. A missing value is missing, never zero, and a source that is down is a state of the loop,
not an anomaly. Training (``group_training``) reads the trailing window on another thread and swaps the state between
two steps; ``champions`` serves the version that the registry names.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aiops.core.anomaly import Anomaly, Batch, Mark, Scores
from aiops.core.errors import ConfigError, Forbidden, TransientError
from aiops.core.ports import AnomalySink, Clock, MetricQuerier, system_clock
from aiops.core.watching import Discover
from aiops.incidents.anomaly_delivery import AnomalyDelivery
from aiops.incidents.champions import Champions
from aiops.incidents.checkpointing import StateKeeper
from aiops.incidents.episodes import Narrow
from aiops.incidents.feedback import HALF_LIFE_MS, offsets
from aiops.incidents.fill_watch import FillWatch
from aiops.incidents.fleet import Fleet, watched_groups
from aiops.incidents.found_entries import FoundEntries
from aiops.incidents.group_training import GroupTraining
from aiops.incidents.ledger import Ledger
from aiops.incidents.memory import Documents, Memory
from aiops.incidents.readings import series_id
from aiops.incidents.series_groups import SeriesGroups
from aiops.incidents.source_load import BudgetedQuerier
from aiops.incidents.thresholds import Policy
from aiops.incidents.watch import WatchEntry, watch_list
from aiops.incidents.watched import DetectionStatus, GroupStatus
from aiops.models.checkpoints import Checkpoints
from aiops.models.serving import Scorer
from aiops.models.training import Progress, Request, Trainer
from aiops.settings import DetectionSettings, IncidentSettings, TrainingGroupSettings

log = logging.getLogger(__name__)

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
        named: groups of series with a model of their own.
        checkpoints: where states in service are kept, so that series that joined outlive a restart.
        discover: what the source has that is worth watching beside the default list.
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
        checkpoints: Checkpoints | None = None,
        discover: Discover | None = None,
        named: Mapping[str, TrainingGroupSettings] | None = None,
    ) -> None:
        entries = watch_list(settings) if watch is None else tuple(watch)
        if len({(e.step_ms, e.metric) for e in entries}) != len(entries):
            raise ConfigError("Two entries of detection.watch have the same name or query.")
        self._querier = querier
        self._delivery = AnomalyDelivery(repository, sink)
        self._scorer = scorer
        self._repository = repository
        self._clock = clock
        self._marks = marks
        self._fill = FillWatch(querier, narrow)
        self._kept_ms = clock()
        self._source = ""
        self._looking = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        policy = Policy(incidents.false_alarms_per_day, incidents.min_duration_steps, incidents.resolve_after_steps)
        ledger = Ledger(incidents.false_alarms_per_day, clock())
        follows_rules = settings.watch_rules and watch is None and not settings.watch
        own = SeriesGroups(named or {})
        groups = watched_groups(entries, own, policy, ledger, narrow, follows_rules=follows_rules)
        memory = Memory(repository)
        self.fleet = Fleet(
            groups,
            ledger,
            memory,
            scorer,
            querier,
            settings.max_series,
            clock,
            lag_ms,
            discover,
            FoundEntries(repository),
            settings.watch_found,
            own,
        )
        self.keeper = StateKeeper(self.fleet, policy, trainer.registry, checkpoints)
        self._training = GroupTraining(self.fleet, trainer, policy, settings, self.keeper, self._stop)
        self._champions = Champions(self.fleet, trainer.registry, self.keeper, repository.open_anomalies, clock)

    # ---------------------------------------------------------------- state

    def status(self) -> DetectionStatus:
        groups = tuple(
            GroupStatus(
                g.model,
                g.step_ms,
                len(g.series),
                len(g.warming),
                len(g.anomalies),
                g.judged_ms,
                self.fleet.reference(g),
            )
            for g in self.fleet.groups
        )
        load = self._querier.load().words if isinstance(self._querier, BudgetedQuerier) else ""
        refused = tuple(sorted(self.fleet.refused.items()))
        return DetectionStatus(groups, self._source, refused, self.fleet.training.locked(), load)

    @property
    def trained(self) -> bool:
        """True once at least one series is scored."""
        return self.fleet.trained

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
                # A group of rare series may have nothing to train on for long.
                pause = 12 if not self.trained else 12 * LOOK_EVERY
                retry_ms = pause * min((g.step_ms for g in self.fleet.groups), default=60_000)
                untrained = any(g.judge is None for g in self.fleet.groups)
                if untrained and now - tried_ms >= retry_ms and not self.fleet.training.locked():
                    tried_ms = now
                    self._in_background(self._train_first)
                self.run_once(now)
            except Exception:
                log.exception("a detection step failed")

    def _train_first(self) -> None:
        """The groups that have no model yet."""
        for group in self.fleet.groups:
            if group.judge is None:
                self.train(self._clock(), model=group.model)

    def _until_next_s(self) -> float:
        now = self._clock()
        waits = [g.step_ms - (now - self.fleet.lag(g)) % g.step_ms for g in self.fleet.groups]
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

    # ---------------------------------------------------------------- models

    def restore(self) -> bool:
        """Serve the registry's champions and take up the episodes that were open; true if every group has one."""
        found = self._champions.restore()
        with self._looking:
            self._fill.take_up(self._repository.open_anomalies())
        self.follow_marks()
        self.fleet.share_budget()
        return found

    def follow_registry(self) -> None:
        """Serve another version where a person has promoted it or rolled back to it."""
        self._champions.follow()

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models of all groups."""
        return tuple(group.model for group in self.fleet.groups)

    def train(
        self, now_ms: int, progress: Progress | None = None, request: Request | None = None, model: str = ""
    ) -> int:
        """Fit every group, or that of ``model``, on its trailing window and put the result in service; returns the
        series now watched.

        A group with no series of at least ``min_points`` is left as it is.

        Raises:
            NotFound: no group has that model.
            TransientError: the source cannot be read, or the loop is stopping; what was in service stays.
        """
        return self._training.train(now_ms, progress, request, model)

    def join_new(self, now_ms: int) -> int:
        """Fit the new series that have enough points, alone, and watch them too; returns how many joined."""
        return self._training.join_new(now_ms)

    def follow_marks(self, paid_back_ms: int | None = None) -> None:
        """Move the thresholds to where people's marks put them.

        Args:
            paid_back_ms: the beginning of an anomaly that has just been marked as true.
        """
        if self._marks is None:
            return
        found = offsets(self._marks.since(self._clock() - 4 * HALF_LIFE_MS), self._clock())
        with self.fleet.stepping:
            if paid_back_ms is not None:
                self.fleet.ledger.forgive(paid_back_ms)
            for group in self.fleet.groups:
                names = {entry.metric: entry.name for entry in group.entries}
                group.move_thresholds(
                    {series_id(names[m], labels): value for (m, labels), value in found.items() if m in names}
                )

    def scores(self, anomaly: Anomaly, batch: Batch) -> Scores | None:
        """Scores of a batch of one anomaly's series by the model in service; ``None`` where it is not watched."""
        for group in self.fleet.groups:
            name = next((e.name for e in group.entries if e.metric == anomaly.metric), None)
            if name is not None and group.step_ms == batch.step_ms:
                key = series_id(name, anomaly.series)
                if self.fleet.named.of(key) == group.name:
                    return self._scorer.trace(group.model, key, dataclasses.replace(batch, series_ids=(key,)))
        return None

    # ---------------------------------------------------------------- steps

    def run_once(self, now_ms: int) -> list[Anomaly]:
        """Score and judge the steps that have closed; returns the anomalies that began, went on or ended."""
        changed: dict[str, Anomaly] = {}
        for group in self.fleet.groups:
            with self.fleet.stepping:
                end = self.fleet.closed(group, now_ms)
                if group.judge is None or end <= group.judged_ms:
                    continue
                start = max(group.last_ms + group.step_ms, end - (MAX_CATCH_UP - 1) * group.step_ms)
                try:
                    readings = self.fleet.read(group, group.present, start, end)
                except (TransientError, Forbidden) as error:
                    if not self._source:
                        log.warning("the metrics source cannot be read: %s", error)
                    self._source = str(error)
                    continue
                self._source = ""
                changed |= group.judge_steps(readings, self._scorer)
                group.note_new(readings, self.fleet.room(group))
        self._delivery.deliver(changed.values())
        self._keep(now_ms, now=False)
        self._look_around(now_ms)
        return list(changed.values())

    def _keep(self, now_ms: int, *, now: bool) -> None:
        """Write the ledger and live counts, and share what is left of the budget."""
        if not now and now_ms - self._kept_ms < KEEP_MS:
            return
        self._kept_ms = now_ms
        with self.fleet.stepping:
            self.fleet.share_budget()
            self.fleet.memory.save_ledger(self.fleet.ledger)
            for group in self.fleet.groups:
                if group.judge is not None:
                    ids = [one.id for one in group.series]
                    self.fleet.memory.save_live(group.model, ids, group.judge.drift.live, now_ms)

    # ---------------------------------------------------------------- new series

    def _look_around(self, now_ms: int) -> None:
        """Every few steps, off the loop's thread: another champion, new metrics, new series."""
        due = any(g.judge is not None and g.steps and g.steps % LOOK_EVERY == 0 for g in self.fleet.groups)
        if not due or self.fleet.training.locked() or self._stop.is_set():
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
        self._delivery.deliver(found)
        return found
