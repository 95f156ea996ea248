from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiops.core.errors import LimitExceeded, NotFound
from aiops.core.job import TRAINING, JobStatus
from aiops.core.model import ModelUse, UseKind
from aiops.jobs.processes import Processes
from aiops.jobs.queue import JobQueue
from aiops.jobs.worker import Worker
from aiops.models.datasets import DatasetStore
from aiops.models.metering import Metering
from aiops.models.registry import ModelRegistry
from aiops.models.training import Progress, Request, Trainer
from aiops.models.training_jobs import ASKED, DRIFT, POOLS, RESUMABLE, SCHEDULED, URGENT, TrainingJobs
from aiops.settings import ModelBudgetSettings, ModelCostSettings, TrainingSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.datasets import DatasetRepository
from aiops.store.state.jobs import JobRepository
from aiops.store.state.model_uses import ModelUseRepository
from tests.unit.models.test_training_runs import LENGTH, NAME, NOW, Tops, batch, mortal

MODELS = (NAME, "anomaly-60s-checkout")


class Desk:
    """The queue, the jobs and one worker of the training pool; trainings are noted, or done by ``train``."""

    def __init__(self, folder: Path, database: StateDatabase, cost: ModelCostSettings) -> None:
        self.now = NOW
        self.rows = JobRepository(database)
        self.queue = JobQueue(self.rows, lambda: self.now, POOLS)
        self.meter = Metering(ModelUseRepository(database), cost, lambda: self.now)
        self.done: list[tuple[str, Request]] = []
        self.train: Callable[[str, Request, Progress], None] = self.note
        chosen = TrainingSettings(jobs_per_day=3, team_jobs_per_day=4)
        self.jobs = TrainingJobs(
            self.queue,
            chosen,
            self.meter,
            lambda: MODELS,
            lambda model, request, progress: self.train(model, request, progress),
            folder,
            lambda: self.now,
        )
        self.worker = self.new_worker()

    def new_worker(self) -> Worker:
        handlers = {"train": self.jobs.run}
        return Worker(self.rows, handlers, lambda: self.now, pools={TRAINING: 1}, resumable=RESUMABLE)

    def note(self, model: str, request: Request, progress: Progress) -> None:
        progress(0.5, "half")
        self.done.append((model, request))

    def work(self) -> None:
        while self.worker.run_once(TRAINING):
            pass


@pytest.fixture
def database(tmp_path: Path) -> Iterator[StateDatabase]:
    found = StateDatabase(sqlite_url(tmp_path))
    found.upgrade()
    yield found
    found.close()


@pytest.fixture
def desk(tmp_path: Path, database: StateDatabase) -> Desk:
    teams = {"payments": ("key:1", "key:2")}
    budgets = {"checkout": ModelBudgetSettings(per_day=0.0, model="*-checkout", team="payments")}
    return Desk(tmp_path, database, ModelCostSettings(teams=teams, budgets=budgets))


def test_what_is_asked_for_reaches_the_training(desk: Desk) -> None:
    job = desk.jobs.submit(NAME, "the season changed", DRIFT, as_challenger=True, priority=URGENT)
    assert (job.pool, job.priority, job.created_by) == (TRAINING, URGENT, "system:drift")
    desk.work()
    [(model, request)] = desk.done
    assert model == NAME
    assert (request.by, request.reason, request.as_challenger, request.warm) == (
        "system:drift",
        "the season changed",
        True,
        False,
    )
    assert request.job == job.id
    assert desk.queue.get(job.id).status is JobStatus.DONE
    with pytest.raises(NotFound, match="anomaly-60s-checkout"):
        desk.jobs.submit("nope", "", "key:9")


def test_the_schedule_queues_a_warm_training_of_every_model_and_people_go_first(desk: Desk) -> None:
    desk.queue.submit("train", {"due_ms": "1"}, by="schedule:train")
    assert desk.worker.run_once(TRAINING)
    assert desk.done == []
    desk.jobs.submit(NAME, "look", "key:9")
    desk.work()
    assert [(model, request.warm, request.by) for model, request in desk.done] == [
        (NAME, False, "key:9"),
        (NAME, True, "schedule:train"),
        ("anomaly-60s-checkout", True, "schedule:train"),
    ]
    assert SCHEDULED < ASKED < URGENT


def test_one_that_waits_already_is_given_again(desk: Desk) -> None:
    first = desk.jobs.submit(NAME, "", "key:9")
    assert desk.jobs.submit(NAME, "", "key:8").id == first.id
    assert desk.jobs.submit(NAME, "", "key:8", as_challenger=True).id != first.id


def test_a_principal_and_a_team_may_start_so_many_a_day(desk: Desk) -> None:
    def start(by: str) -> None:
        desk.jobs.submit(NAME, "", by)
        desk.work()

    for _ in range(3):
        start("key:1")
    with pytest.raises(LimitExceeded, match="'key:1' may start 3 trainings"):
        start("key:1")
    start("key:2")
    with pytest.raises(LimitExceeded, match="'payments' may start 4 trainings"):
        start("key:2")
    start("key:9")
    for _ in range(5):
        start("system:drift")
    desk.now += 86_400_000
    start("key:1")


def test_a_budget_that_is_used_up_refuses_the_job(desk: Desk) -> None:
    desk.meter.record(ModelUse("anomaly-60s-checkout", "1", UseKind.TRAIN, "key:1", NOW, 1.0, "cpu-seconds", 0.01))
    with pytest.raises(LimitExceeded, match="'checkout'"):
        desk.jobs.submit("anomaly-60s-checkout", "", "key:1")
    desk.jobs.submit("anomaly-60s-checkout", "", "key:9")


def test_a_job_that_is_cancelled_stops_at_its_next_report(desk: Desk) -> None:
    job = desk.jobs.submit(NAME, "", "key:9")

    def train(model: str, request: Request, progress: Progress) -> None:
        progress(0.1, "begun")
        desk.queue.cancel(job.id)
        progress(0.2, "not reached")
        desk.done.append((model, request))

    desk.train = train
    desk.work()
    assert desk.queue.get(job.id).status is JobStatus.CANCELLED
    assert desk.done == []


def test_a_job_whose_worker_process_is_killed_goes_on_where_it_was(
    desk: Desk, database: StateDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiops.models.fitting.CHUNK_POINTS", 2 * LENGTH)
    processes = Processes()
    datasets = DatasetStore(tmp_path, DatasetRepository(database))
    (tmp_path / "none").write_text("")  # where no registry can be made, which takes seconds and is not at issue here
    trainer = Trainer(ModelRegistry(tmp_path / "none"), mortal(tmp_path / "flag"), compute=processes, datasets=datasets)
    begun: list[bool] = []

    def train(model: str, request: Request, progress: Progress) -> None:
        assert request.folder is not None
        held = trainer.unfinished(request.folder)
        window, query = (batch(len(begun)), "up") if held is None else held

        begun.append(held is not None)
        trainer.train(model, window, query=query, calibrate=Tops(), progress=progress, request=request)

    desk.train = train
    try:
        job = desk.jobs.submit(NAME, "", "key:9")
        desk.work()
        cut = desk.queue.get(job.id)
        assert (cut.status, cut.attempts) == (JobStatus.QUEUED, 1)
        assert "worker process ended" in cut.error
        kept = list((tmp_path / "training").rglob("piece-*"))
        assert len(kept) == 2
        desk.now += 60_000
        desk.work()
    finally:
        processes.close()
    assert begun == [False, True]
    assert desk.queue.get(job.id).status is JobStatus.DONE
    assert not list((tmp_path / "training").iterdir())


def test_a_job_that_a_dead_service_left_is_taken_up_by_the_next(desk: Desk) -> None:
    job = desk.jobs.submit(NAME, "", "key:9")

    class Killed(BaseException):
        """The service is gone: nothing closes the job."""

    def die(model: str, request: Request, progress: Progress) -> None:
        raise Killed

    desk.train = die
    with pytest.raises(Killed):
        desk.worker.run_once(TRAINING)
    assert desk.queue.get(job.id).status is JobStatus.RUNNING
    desk.rows.release()
    desk.train = desk.note
    desk.worker = desk.new_worker()
    desk.work()
    found = desk.queue.get(job.id)
    assert (found.status, found.attempts) == (JobStatus.DONE, 2)
    [(_, request)] = desk.done
    assert request.folder is not None
    assert request.folder.name == dict(job.arguments)["run"]
