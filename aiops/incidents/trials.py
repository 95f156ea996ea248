"""A candidate in the live loop: it scores every step beside the stable version and decides for its own series.

Both versions move on with every step, so that either can take over at once. Which one's scores are judged, by whose
thresholds, and whose name an anomaly bears, is decided series by series. What each would have raised alone is
counted for the guards by judges of their own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.errors import AiopsError
from aiops.core.model import Deployment, DeploymentState
from aiops.incidents.episodes import direction_of
from aiops.incidents.fleet import Fleet
from aiops.incidents.tails import PREFIX, tail_of
from aiops.incidents.thresholds import Judge
from aiops.incidents.watched import WARM_UP_STEPS, WatchedGroup
from aiops.models.deployments import Deployments, served_by_candidate
from aiops.models.loaded import Loaded
from aiops.models.serving import Scorer
from aiops.models.trial_record import Observation, TrialRecord

log = logging.getLogger(__name__)

_CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class _Judges:
    """What either version would raise if it served every series that both know."""

    stable: Judge
    candidate: Judge


class Trial:
    """One group's candidate (:class:`~aiops.incidents.watched.Beside`). Guarded by the fleet's ``stepping``.

    Args:
        watched: series watched in all groups, which share the budget of false alarms.
    """

    def __init__(
        self,
        deployment: Deployment,
        loaded: Loaded,
        record: TrialRecord,
        group: WatchedGroup,
        watched: Callable[[], int],
    ) -> None:
        self.deployment = deployment
        self._loaded = loaded
        self._record = record
        self._group = group
        self._watched = watched
        self._scorer = Scorer(loaded.detector)
        self._scorer.serve(_CANDIDATE, loaded.state, loaded.reference, 0)
        self._stable = loaded.state
        self._mine: NDArray[np.int64] = np.empty(0, np.int64)
        self._theirs: NDArray[np.int64] = np.empty(0, np.int64)
        self._serves: NDArray[np.bool_] = np.empty(0, bool)
        self._judges: _Judges | None = None
        self._decided: frozenset[str] = frozenset()

    @property
    def reference_of_candidate(self) -> str:
        return self._loaded.reference

    @property
    def state(self) -> State:
        """The candidate's, moved on to the last step."""
        served = self._scorer.served(_CANDIDATE)
        return served.state if served is not None else self._loaded.state

    def tails(self, state: State) -> State:
        """The stable version's state with the candidate's calibration for the series that the candidate serves."""
        pairs = [(row, self._loaded.rows[key]) for row, key in enumerate(state.series_ids) if key in self._loaded.rows]
        self._stable = state
        self._mine = np.array([row for row, _ in pairs], np.int64)
        self._theirs = np.array([row for _, row in pairs], np.int64)
        self._serves = np.array([served_by_candidate(self.deployment, state.series_ids[row]) for row, _ in pairs], bool)
        self._judges = None
        return self._mixed(self._serves)

    def _mixed(self, chosen: NDArray[np.bool_]) -> State:
        stable, candidate = self._stable, self._loaded.state
        arrays = dict(stable.arrays)
        for name in stable.arrays:
            if name.startswith(PREFIX) and name in candidate.arrays:
                mixed = stable.arrays[name].copy()
                mixed[self._mine[chosen]] = candidate.arrays[name][self._theirs[chosen]]
                arrays[name] = mixed
        return State(stable.series_ids, stable.step_ms, arrays, stable.shared)

    def warm(self, batch: Batch) -> None:
        """Move the candidate over steps that are past, in the order of the group's series."""
        for column in range(batch.values.shape[1]):
            self._scorer.score_tick(_CANDIDATE, self._tick(batch, column))

    def step(self, tick: Batch, stable: Callable[[], Scores], judged: bool) -> Scores:
        """The scores that decide, [S, 1]: the stable version's, and the candidate's for its series.

        Args:
            stable: scores the step with the stable version.
            judged: whether the step counts; otherwise it only moves both on.
        """
        begin, busy = time.perf_counter(), time.thread_time()
        scores = stable()
        stable_s, stable_busy = time.perf_counter() - begin, time.thread_time() - busy
        self._decided = frozenset()
        begin, busy = time.perf_counter(), time.thread_time()
        try:
            tried = self._scorer.score_tick(_CANDIDATE, self._tick(tick, 0))
        except Exception as error:  # noqa: BLE001  (whatever a candidate does, the stable version decides)
            log.warning("%s failed: %r", self._loaded.reference, error)
            self._record.failed()
            return scores
        seconds = (stable_s, time.perf_counter() - begin)
        processor = (stable_busy, time.thread_time() - busy)
        if judged:
            self._observe(tick, scores, tried, seconds, processor)
        return self._decide(tick, scores, tried)

    def reference(self, series_id: str, stable: str) -> str:
        """The version that decided on a series in the last step."""
        return self._loaded.reference if series_id in self._decided else stable

    def _tick(self, batch: Batch, column: int) -> Batch:
        ids = self._loaded.state.series_ids
        values, mask = np.zeros((len(ids), 1), np.float32), np.zeros((len(ids), 1), bool)
        values[self._theirs, 0] = batch.values[self._mine, column]
        mask[self._theirs, 0] = batch.mask[self._mine, column]
        return Batch(values, mask, batch.timestamps[column : column + 1], batch.step_ms, ids)

    def _decide(self, tick: Batch, scores: Scores, tried: Scores) -> Scores:
        finite = np.isfinite(tried.score[self._theirs, 0])
        chosen = self._serves & (finite | ~np.isfinite(scores.score[self._mine, 0]))
        mine, theirs = self._mine[chosen], self._theirs[chosen]
        self._decided = frozenset(tick.series_ids[row] for row in mine.tolist())

        def mix(own: NDArray[np.float32], other: NDArray[np.float32] | None) -> NDArray[np.float32]:
            out = own.copy()
            out[mine] = np.nan if other is None else other[theirs]
            return out

        return Scores(
            mix(scores.score, tried.score),
            mix(scores.expected, tried.expected),
            mix(scores.lower, tried.lower),
            mix(scores.upper, tried.upper),
            {name: mix(values, tried.terms.get(name)) for name, values in scores.terms.items()},
        )

    def _observe(
        self,
        tick: Batch,
        scores: Scores,
        tried: Scores,
        seconds: tuple[float, float],
        processor: tuple[float, float],
    ) -> None:
        judges = self._judges = self._judges or self._make_judges()
        mine, theirs = self._mine, self._theirs
        value = tick.values[:, 0].astype(np.float64)
        mixed = Scores(scores.score.copy(), scores.expected.copy(), scores.lower, scores.upper)
        mixed.score[mine], mixed.expected[mine] = tried.score[theirs], tried.expected[theirs]
        for judge, said in ((judges.stable, scores), (judges.candidate, mixed)):
            judge.step(said.score[:, 0].astype(np.float64), value, said.expected[:, 0].astype(np.float64))
        known = tick.mask[mine, 0] & np.isfinite(scores.score[mine, 0])
        self._record.observe(
            Observation(
                series_ids=[tick.series_ids[row] for row in mine.tolist()],
                points=int(known.sum()),
                missing=(known & ~np.isfinite(tried.score[theirs, 0])).astype(np.int64),
                stable=judges.stable.open[mine],
                candidate=judges.candidate.open[mine],
                seconds=seconds,
                processor=processor,
            )
        )

    def _make_judges(self) -> _Judges:
        group, fleet = self._group, self._watched()
        direction = direction_of(group.series)
        everything = self._mixed(np.ones(len(self._mine), bool))
        stable, candidate = (
            Judge(tail_of(state), direction, group.policy, group.step_ms, fleet) for state in (self._stable, everything)
        )
        if group.judge is not None:
            stable.offset = candidate.offset = group.judge.offset
            for judge in (stable, candidate):
                judge.refresh()
        # An episode that runs when the trial starts is no news from either.
        now = np.array([row for row, one in enumerate(group.series) if one.id in group.anomalies], np.int64)
        stable.reopen(now)
        candidate.reopen(now)
        return _Judges(stable, candidate)

    def stable_sees(self, series_id: str) -> bool:
        """Whether the stable version alone would have an episode on that series now."""
        if self._judges is None:
            return False
        row = next((r for r, one in enumerate(self._group.series) if one.id == series_id), None)
        return row is not None and bool(self._judges.stable.open[row])


class Trials:
    """Brings trials into the loop's groups and takes them out. Thread-safe.

    Args:
        load: a version, by model and number.
    """

    def __init__(self, fleet: Fleet, deployments: Deployments, load: Callable[[str, str], Loaded]) -> None:
        self._fleet = fleet
        self._deployments = deployments
        self._load = load
        self._refused: set[str] = set()
        deployments.on_change(self.changed)

    def follow(self) -> None:
        """Begin the trials that run and are not in the loop yet."""
        for group in self._fleet.groups:
            running = self._deployments.running(group.model)
            if running is None or group.judge is None or running.id in self._refused:
                continue
            if isinstance(group.trial, Trial) and group.trial.deployment.id == running.id:
                continue
            if self._fleet.reference(group) == f"{running.model}/{running.stable}":
                try:
                    self._begin(group, running)
                except AiopsError as error:
                    self._refused.add(running.id)
                    log.warning("%s/%s is not tried in detection: %s", running.model, running.candidate, error)

    def _begin(self, group: WatchedGroup, deployment: Deployment) -> None:
        loaded, record = self._load(deployment.model, deployment.candidate), self._deployments.record(deployment.model)
        if record is None:
            return
        trial = Trial(deployment, loaded, record, group, lambda: self._fleet.watched)
        with self._fleet.stepping:
            served = self._fleet.scorer.served(group.model)
            if served is None or self._deployments.running(group.model) != deployment:
                return
            trial.tails(served.state)
            end = group.last_ms
            readings = self._fleet.read(group, group.present, end - (WARM_UP_STEPS - 1) * group.step_ms, end)
            trial.warm(readings.batch(list(served.state.series_ids)))
            group.trial = trial
            group.install(served.state, self._fleet.beside(group))
        self._fleet.share_budget()
        # Quietly, since the deployment is on record, and a new log line would be looked at as a cause of what follows.
        log.debug("%s is tried in detection (%s)", loaded.reference, deployment.strategy.value)

    def changed(self, deployment: Deployment) -> None:
        """Take a trial that ended out of the loop at once; its candidate serves on where it was promoted."""
        if deployment.state is DeploymentState.RUNNING:
            return
        for group in self._fleet.groups:
            trial = group.trial
            if isinstance(trial, Trial) and trial.deployment.id == deployment.id:
                self._finish(group, trial, promoted=deployment.state is DeploymentState.PROMOTED)
        self._fleet.share_budget()

    def _finish(self, group: WatchedGroup, trial: Trial, *, promoted: bool) -> None:
        fleet = self._fleet
        with fleet.stepping:
            served = fleet.scorer.served(group.model)
            group.trial = None
            if served is None:
                return
            state = served.state
            if promoted:
                state = _taking_over(served.state, trial.state)
                fleet.scorer.serve(group.model, state, trial.reference_of_candidate, group.last_ms)
            else:
                _disown(group, trial, served.reference)
            group.install(state, fleet.beside(group))


def _taking_over(stable: State, candidate: State) -> State:
    """The candidate's state, with the series of the stable one that joined later."""
    late = [key for key in stable.series_ids if key not in set(candidate.series_ids)]
    if not late or set(stable.arrays) != set(candidate.arrays):
        return candidate
    return candidate.concat(stable.select(late))


def _disown(group: WatchedGroup, trial: Trial, stable: str) -> None:
    """End the candidate's anomalies with the next step, and take over those that the stable version sees as well."""
    for key, anomaly in list(group.anomalies.items()):
        if anomaly.model != trial.reference_of_candidate:
            continue
        if trial.stable_sees(key):
            group.anomalies[key] = replace(anomaly, model=stable)
        else:
            # An anomaly under another key than its series' is of no series, and ends.
            group.anomalies[anomaly.id] = group.anomalies.pop(key)
