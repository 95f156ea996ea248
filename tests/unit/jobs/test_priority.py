from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiops.core.errors import LimitExceeded
from aiops.core.job import TRAINING, JobLimit, JobStatus
from aiops.core.ports import JobProgress
from aiops.jobs.queue import JobQueue
from aiops.jobs.worker import Worker
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.jobs import JobRepository

NOW = 1_764_000_000_000
POOLS = {"train": TRAINING}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[JobRepository]:
    database = StateDatabase(sqlite_url(tmp_path))
    database.upgrade()
    yield JobRepository(database)
    database.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-3, 3)), max_size=6))
def test_the_most_urgent_is_taken_first_then_the_one_due_longest(
    repository: JobRepository, asked: list[tuple[int, int]]
) -> None:
    queue = JobQueue(repository, lambda: NOW)
    order = []
    for number, (priority, due) in enumerate(asked):
        job = queue.submit("train", priority=priority, due_ms=NOW + due)
        assert job is not None
        if due <= 0:
            order.append((-priority, due, number, job.id))
    taken: list[str] = []
    worker = Worker(repository, {"train": lambda a, p: None}, lambda: NOW)
    before = {job.id for job in queue.list(JobStatus.DONE, limit=1000)}
    while worker.run_once():
        done = {job.id for job in queue.list(JobStatus.DONE, limit=1000)} - before
        taken += done
        before |= done
    assert taken == [key for *_, key in sorted(order)]
    for job in queue.list(JobStatus.QUEUED):
        queue.cancel(job.id)


def test_a_pool_is_served_by_its_own_threads_alone(repository: JobRepository) -> None:
    queue = JobQueue(repository, lambda: NOW, POOLS)
    ran: list[str] = []
    handlers = {kind: lambda a, p, kind=kind: ran.append(kind) for kind in ("train", "report")}
    worker = Worker(repository, handlers, lambda: NOW, pools={TRAINING: 1})
    queue.submit("train")
    assert not worker.run_once("")
    queue.submit("report")
    assert worker.run_once("")
    assert worker.run_once(TRAINING)
    assert ran == ["report", "train"]


def test_training_gives_way_to_what_is_more_urgent_and_goes_on_afterwards(repository: JobRepository) -> None:
    queue = JobQueue(repository, lambda: NOW, POOLS)
    steps: list[str] = []

    def train(arguments: Mapping[str, str], progress: JobProgress) -> None:
        name = arguments["model"]
        steps.append(name)
        if name == "slow" and len(steps) == 1:
            progress(0.5, "half")  # nothing waits yet
            queue.submit("train", {"model": "other"}, priority=0)
            progress(0.6, "as urgent is not more urgent")
            queue.submit("train", {"model": "quick"}, priority=5)
            progress(0.7, "not reached")
            steps.append("went on")

    worker = Worker(repository, {"train": train}, lambda: NOW, pools={TRAINING: 1}, resumable=("train",))
    slow = queue.submit("train", {"model": "slow"})
    assert slow is not None
    for _ in range(4):
        worker.run_once(TRAINING)
    assert steps == ["slow", "quick", "slow", "other"]
    found = queue.get(slow.id)
    assert (found.status, found.attempts) == (JobStatus.DONE, 1)
    assert "gave way to more urgent work" in found.log


def test_with_a_thread_to_spare_nothing_gives_way(repository: JobRepository) -> None:
    queue = JobQueue(repository, lambda: NOW, POOLS)
    done: list[str] = []

    def train(arguments: Mapping[str, str], progress: JobProgress) -> None:
        if arguments["model"] == "slow":
            queue.submit("train", {"model": "quick"}, priority=5)
            progress(0.5)
        done.append(arguments["model"])

    worker = Worker(repository, {"train": train}, lambda: NOW, pools={TRAINING: 2}, resumable=("train",))
    queue.submit("train", {"model": "slow"})
    while worker.run_once(TRAINING):
        pass
    assert done == ["slow", "quick"]


def test_limits_are_counted_in_the_transaction_that_adds(repository: JobRepository) -> None:
    queue = JobQueue(repository, lambda: NOW, POOLS)
    limit = JobLimit(("train",), ("key:1", "key:2"), NOW - 10, 5, "The team may start 5 trainings a day")
    refused: list[str] = []

    def ask(by: str) -> None:
        for _ in range(3):
            try:
                queue.submit("train", by=by, limits=[limit])
            except LimitExceeded as error:
                refused.append(str(error))

    threads = [threading.Thread(target=ask, args=(by,)) for by in ("key:1", "key:2", "key:1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(queue.list(kind="train")) == 5
    assert len(refused) == 4
    assert "5 trainings a day; 5 were made" in refused[0]
    assert queue.submit("train", by="key:3", limits=[JobLimit(("train",), ("key:3",), NOW, 1, "One")]) is not None


def test_a_budget_that_is_used_up_ends_a_job_at_once(repository: JobRepository) -> None:
    queue = JobQueue(repository, lambda: NOW)

    def train(arguments: Mapping[str, str], progress: JobProgress) -> None:
        raise LimitExceeded("The day's budget is used up.", kind="budget")

    job = queue.submit("train")
    assert job is not None
    Worker(repository, {"train": train}, lambda: NOW).run_once()
    found = queue.get(job.id)
    assert (found.status, found.attempts, found.error) == (JobStatus.FAILED, 1, "The day's budget is used up.")
