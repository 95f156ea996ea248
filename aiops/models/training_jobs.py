"""Trainings as jobs: who asks, how urgently, within which limits; and what a job does."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from aiops.core.errors import NotFound
from aiops.core.job import BATCH, TRAINING, Job, JobLimit, JobStatus
from aiops.core.model import UseKind
from aiops.core.ports import Clock, JobProgress, system_clock
from aiops.jobs.queue import JobQueue
from aiops.models.batch_scoring import KIND as SCORE_KIND
from aiops.models.metering import DAY_MS, Metering
from aiops.models.training import Progress, Request
from aiops.settings.models import TrainingSettings

KIND = "train"
POOLS = {KIND: TRAINING, SCORE_KIND: BATCH}
"""Pools of the kinds of job that models need."""
RESUMABLE = (KIND,)
FOLDER = "training"
SCHEDULE = "schedule:train"
DRIFT = "system:drift"
SCHEDULED, ASKED, URGENT = 0, 10, 20
"""Priorities: of the schedule, of people, of what drift asks for."""
KEEP_FOLDERS_MS = 7 * DAY_MS
_RUN = re.compile(r"[0-9a-f]{32}")


class Train(Protocol):
    """Trains one watched group and puts the result in service; implemented by the detection loop."""

    def __call__(self, model: str, request: Request, progress: Progress) -> None: ...


class TrainingJobs:
    """Puts trainings into the queue and does them. Thread-safe.

    Args:
        models: names of the models that can be trained; empty until detection has started.
        train: does one.
        data_dir: pieces of unfinished trainings go into ``training/`` below it.
    """

    def __init__(
        self,
        queue: JobQueue,
        settings: TrainingSettings,
        meter: Metering,
        models: Callable[[], Sequence[str]],
        train: Train,
        data_dir: Path,
        clock: Clock = system_clock,
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._meter = meter
        self._models = models
        self._train = train
        self._folder = data_dir / FOLDER
        self._clock = clock

    def submit(
        self,
        model: str,
        reason: str,
        by: str,
        *,
        as_challenger: bool = False,
        warm: bool = False,
        priority: int = ASKED,
    ) -> Job:
        """Queue a training, or give the one of the same kind that waits already.

        Args:
            as_challenger: the result never becomes champion by itself; so it must be where drift asked.
            warm: series that the champion knows keep their calibration, while that is young.

        Raises:
            NotFound: there is no such model.
            LimitExceeded: the principal or its team has started as many today as it may, or the budget is used up.
        """
        known = self._models()
        if model not in known:
            raise NotFound(f"There is no group of series for the model '{model}'.", hint=f"There are: {_list(known)}.")
        flags = {"as_challenger": "1" if as_challenger else "", "warm": "1" if warm else ""}
        for job in self._queue.list(JobStatus.QUEUED, KIND, 1000):
            told = dict(job.arguments)
            if told.get("model") == model and all(told.get(key, "") == value for key, value in flags.items()):
                return job
        self._meter.check(model, UseKind.TRAIN, by, 0.0)
        run = uuid.uuid4().hex
        arguments = {"model": model, "reason": reason, "by": by, "run": run, **flags}
        made = self._queue.submit(KIND, arguments, by=by, priority=priority, limits=self.limits(by), job_id=run)
        assert made is not None, "without a unique key a job is always queued"
        return made

    def models(self) -> tuple[str, ...]:
        """Names of the models that can be trained."""
        return tuple(self._models())

    def submit_all(self, reason: str, by: str, *, warm: bool = False, priority: int = ASKED) -> list[Job]:
        """Queue a training of every model. Raises as :meth:`submit` does."""
        return [self.submit(model, reason, by, warm=warm, priority=priority) for model in self._models()]

    def limits(self, by: str) -> list[JobLimit]:
        """What the principal may start on this UTC day; schedules and parts of the service have no limit."""
        if by.startswith(("system:", "schedule:")):
            return []
        since, kinds = self._clock() // DAY_MS * DAY_MS, (KIND, SCORE_KIND)
        own, all_of = self._settings.jobs_per_day, self._settings.team_jobs_per_day
        words = "trainings and batch scorings a day"
        found = [JobLimit(kinds, (by,), since, own, f"'{by}' may start {own} {words}")]
        if team := self._meter.team_of(by):
            makers = {job.created_by for kind in kinds for job in self._queue.list(kind=kind, limit=1000)} | {by}
            members = tuple(sorted(maker for maker in makers if self._meter.team_of(maker) == team))
            found.append(JobLimit(kinds, members, since, all_of, f"The team '{team}' may start {all_of} {words}"))
        return found

    def run(self, arguments: Mapping[str, str], progress: JobProgress) -> None:
        """The work of a job: of a schedule's, to queue one for every model; of any other, the training itself.

        It goes on where the same job was cut. Raises what the training raises.
        """
        model = arguments.get("model", "")
        if not model:
            jobs = self.submit_all("schedule", arguments.get("by", SCHEDULE), warm=True, priority=SCHEDULED)
            progress(1.0, f"queued {len(jobs)} trainings: {_list([dict(job.arguments)['model'] for job in jobs])}")
            self._forget_old()
            return
        run = arguments.get("run", "")
        folder = self._folder / run if _RUN.fullmatch(run) else None
        request = Request(
            by=arguments.get("by", "system:aiops"),
            reason=arguments.get("reason", ""),
            job=run,
            as_challenger=bool(arguments.get("as_challenger")),
            warm=bool(arguments.get("warm")),
            folder=folder,
        )
        said = ""

        def report(share: float, text: str) -> None:
            nonlocal said
            progress(share, "" if text == said else text)
            said = text

        self._train(model, request, report)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _forget_old(self) -> None:
        """Pieces of trainings that were cancelled or given up."""
        if not self._folder.is_dir():
            return
        for place in self._folder.iterdir():
            if place.stat().st_mtime * 1000 < self._clock() - KEEP_FOLDERS_MS:
                shutil.rmtree(place, ignore_errors=True)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
