"""Scores on request: which version serves which series, in how much time, and what a candidate says beside it.

A request's series go to the champion, and where a trial runs those of the candidate's share to the candidate. What the
candidate does not answer in time, or answers without a score, the champion answers, so that a bad candidate fails no
request. Beside the requests, one thread scores the trial's series with both versions and counts what they say.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, Scores
from aiops.core.errors import InvalidInput, LimitExceeded, TransientError
from aiops.core.model import Strategy
from aiops.models.beside import Comparison, Pair
from aiops.models.deployments import Deployments, served_by_candidate
from aiops.models.detector_calls import Call, part_of, rows_of
from aiops.models.loaded import Loaded, LoadedModels
from aiops.models.microbatch import MicroBatcher
from aiops.models.score_bill import ScoreBill
from aiops.models.scored import Scored, ServingState, unscored
from aiops.models.served_before import ServedBefore
from aiops.models.serving_set import ServingSet, Trial
from aiops.settings.models import ServingSettings

log = logging.getLogger(__name__)

STABLE, CANDIDATE = "stable", "candidate"
PATIENCE = 10
"""A candidate is given so many times the latency objective, and at most half of the deadline."""


class ScoringService:
    """Thread-safe. :meth:`start` before the first request, :meth:`follow` every second or so.

    Args:
        before: what an earlier process served, for the first request.
        stopwatch: seconds, monotonic.
    """

    def __init__(
        self,
        models: LoadedModels,
        deployments: Deployments,
        settings: ServingSettings,
        *,
        bill: ScoreBill | None = None,
        before: ServedBefore | None = None,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._bill = bill or ScoreBill()
        self._now = stopwatch
        self._serving = ServingSet(models, deployments, before)
        self._count: Counter[str] = Counter()
        self._hands = threading.BoundedSemaphore(settings.max_waiting)
        self._comparison = Comparison()
        self._workers, self._trial_workers = self._batcher(STABLE), self._batcher(CANDIDATE)
        self._lock = threading.Lock()

    def _batcher(self, name: str) -> MicroBatcher[Call, Scores]:
        chosen = self._settings
        return MicroBatcher(
            self._bill.timed,
            window_s=chosen.window_ms / 1000,
            most_size=chosen.max_series,
            most_waiting=chosen.max_waiting,
            most_weight=chosen.waiting_points,
            minimum=chosen.min_workers,
            maximum=chosen.max_workers,
            objective_s=chosen.latency_ms / 1000,
            idle_s=chosen.idle_s,
            name=f"scoring-{name}",
            stopwatch=self._now,
        )

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        self._workers.start()
        self._trial_workers.start()
        self._comparison.start()

    def stop(self) -> None:
        self._workers.stop()
        self._trial_workers.stop()
        self._comparison.stop()

    def warm(self, name: str) -> bool:
        """Load a model's champion, and its candidate where a trial runs; false where it has none."""
        return self._serving.warm(name)

    def follow(self) -> None:
        """Serve what the registry names champion now, in place of what is served."""
        self._serving.follow()

    # ---------------------------------------------------------------- scoring

    def step_ms(self, name: str, version: str = "") -> int:
        """The step of a model's series. Raises as :meth:`score`."""
        return self._serving.chosen(name, version)[0].state.step_ms

    def series(self, name: str, version: str = "") -> tuple[str, ...]:
        """Ids of the series that a model knows. Raises as :meth:`score`."""
        return self._serving.chosen(name, version)[0].state.series_ids

    def score(
        self, name: str, batch: Batch, *, version: str = "", deadline_s: float | None = None, by: str = ""
    ) -> list[Scored]:
        """Scores of every series of the batch.

        Args:
            version: a version's number, instead of the champion and its candidate.
            deadline_s: seconds from now; by default the settings'.
            by: the principal who pays.

        Raises:
            NotFound: there is no such model or version, or it has no champion.
            InvalidInput: the batch's step is not the model's.
            LimitExceeded: too much waits already, or the request is too large.
            TransientError: it could not be scored in time.
        """
        if batch.values.size > self._settings.request_points:
            raise LimitExceeded(
                f"{batch.values.size} values are too many for one request.",
                kind="size",
                hint=f"At most {self._settings.request_points}; `aiops models score --from --to` takes any number.",
            )
        if not self._hands.acquire(blocking=False):
            self._counted("shed")
            raise LimitExceeded(
                f"{self._settings.max_waiting} requests for scores are in hand already.", retry_after_s=1
            )
        try:
            deadline = self._now() + (self._settings.deadline_ms / 1000 if deadline_s is None else deadline_s)
            stable, trial = self._serving.chosen(name, version)
            if batch.step_ms != stable.state.step_ms:
                raise InvalidInput(
                    f"{stable.reference} scores values every {stable.state.step_ms} ms, not every {batch.step_ms} ms."
                )
            self._bill.check(name, by)
            found = self._answer(stable, trial, batch, deadline)
            self._bill.book(stable.version, batch.values.size, by)
            return found
        finally:
            self._hands.release()

    def _answer(self, stable: Loaded, trial: Trial | None, batch: Batch, deadline: float) -> list[Scored]:
        out: dict[int, Scored] = {}
        tried = self._tried(trial, stable, batch) if trial is not None else []
        first = self._ask(self._trial_workers, trial.candidate, batch, tried, deadline) if trial and tried else None
        rest = [row for row in range(len(batch)) if row not in set(tried) and batch.series_ids[row] in stable.rows]
        second = self._ask(self._workers, stable, batch, rest, deadline) if rest else None
        if trial is not None and tried:
            missing = self._by_candidate(trial, first, batch, tried, deadline, out)
            again = [row for row in missing if batch.series_ids[row] in stable.rows]
            if again:
                self._counted("fallbacks")
                more = self._ask(self._workers, stable, batch, again, deadline)
                self._take(stable, STABLE, self._result(more, deadline), batch, again, out)
        if second is not None:
            self._take(stable, STABLE, self._result(second, deadline), batch, rest, out)
        for row in range(len(batch)):
            if row not in out:
                out[row] = unscored(batch, row)
        return [out[row] for row in range(len(batch))]

    def _tried(self, trial: Trial, stable: Loaded, batch: Batch) -> list[int]:
        """Rows that the candidate is to serve; those of the trial are compared beside."""
        ids = batch.series_ids
        known = [row for row, key in enumerate(ids) if key in trial.candidate.rows]
        if trial.deployment.strategy is Strategy.CANARY:
            known = [row for row in known if served_by_candidate(trial.deployment, ids[row])]
        both = [row for row in known if ids[row] in stable.rows]
        if both:
            self._comparison.offer(Pair(stable, trial.candidate, trial.record), rows_of(batch, both))
        if trial.deployment.strategy is Strategy.SHADOW or not known or not trial.willing():
            return []
        return known

    def _ask(
        self, workers: MicroBatcher[Call, Scores], loaded: Loaded, batch: Batch, rows: Sequence[int], deadline: float
    ) -> Future[Scores] | None:
        """The future answer; ``None`` where the candidate's workers have too much to do. Raises for the champion's."""
        call = Call(loaded, rows_of(batch, rows))
        try:
            return workers.submit(call, call.key, len(rows), call.batch.values.size, deadline)
        except LimitExceeded:
            if workers is self._trial_workers:
                return None
            self._counted("shed")
            raise

    def _by_candidate(
        self,
        trial: Trial,
        future: Future[Scores] | None,
        batch: Batch,
        rows: Sequence[int],
        deadline: float,
        out: dict[int, Scored],
    ) -> list[int]:
        """Take the candidate's answer; returns the rows that it gave none."""
        left = max(deadline - self._now(), 0.0)
        try:
            if future is None:
                raise TimeoutError
            scores = future.result(min(left / 2, PATIENCE * self._settings.latency_ms / 1000))
        except Exception as error:  # noqa: BLE001  (whatever a candidate does, the champion answers)
            trial.strikes += 1
            trial.record.failed()
            if future is not None:
                future.cancel()
            if trial.strikes == 1:
                log.warning("%s did not answer: %r", trial.candidate.reference, error)
            return list(rows)
        trial.strikes = 0
        mask = batch.mask[list(rows)]
        unsaid: NDArray[np.bool_] = np.any(mask & ~np.isfinite(scores.score), axis=1)
        said = np.flatnonzero(~unsaid)
        self._take(trial.candidate, CANDIDATE, part_of(scores, said), batch, [rows[k] for k in said.tolist()], out)
        return [rows[k] for k in np.flatnonzero(unsaid).tolist()]

    def _result(self, future: Future[Scores] | None, deadline: float) -> Scores:
        assert future is not None, "only a candidate's call may be left out"
        try:
            return future.result(max(deadline - self._now(), 0.0))
        except (TimeoutError, CancelledError):
            future.cancel()
            self._counted("late")
            raise TransientError("There was no time to score this.", retry_after_s=1) from None

    def _take(
        self, loaded: Loaded, served_by: str, scores: Scores, batch: Batch, rows: Sequence[int], out: dict[int, Scored]
    ) -> None:
        for k, row in enumerate(rows):
            key = batch.series_ids[row]
            limit = float("nan") if loaded.thresholds is None else float(loaded.thresholds[loaded.rows[key]])
            out[row] = Scored(
                key,
                served_by,
                loaded.reference,
                scores.score[k],
                scores.expected[k],
                scores.lower[k],
                scores.upper[k],
                {name: values[k] for name, values in scores.terms.items()},
                limit,
            )
        self._counted(served_by, len(rows))

    # ---------------------------------------------------------------- state

    def _counted(self, what: str, number: int = 1) -> None:
        with self._lock:
            self._count[what] += number

    def state(self) -> ServingState:
        """What serves, and how the workers are."""
        with self._lock:
            count = Counter(self._count)
        return ServingState(
            champions=self._serving.champions(),
            candidates=self._serving.candidates(),
            stable=self._workers.load(),
            candidate=self._trial_workers.load(),
            series_stable=count[STABLE],
            series_candidate=count[CANDIDATE],
            fallbacks=count["fallbacks"],
            shed=count["shed"],
            late=count["late"],
        )
