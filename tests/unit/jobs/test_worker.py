from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from aiops.core.errors import InvalidInput, NotFound, TransientError
from aiops.core.job import JobStatus, Schedule
from aiops.core.ports import JobProgress
from aiops.jobs.clock import JobClock
from aiops.jobs.queue import JobQueue
from aiops.jobs.worker import Worker
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.jobs import JobRepository

START = 1_764_000_000_000


class Time:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[JobRepository]:
    database = StateDatabase(sqlite_url(tmp_path))
    database.upgrade()
    yield JobRepository(database)
    database.close()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def queue(repository: JobRepository, time: Time) -> JobQueue:
    return JobQueue(repository, time)


def test_a_job_runs_once_with_progress_and_log(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    seen: list[Mapping[str, str]] = []

    def handler(arguments: Mapping[str, str], progress: JobProgress) -> None:
        seen.append(arguments)
        progress(0.5, "half")
        job = queue.list()[0]
        assert (job.status, job.progress, job.log) == (JobStatus.RUNNING, 0.5, ("half",))

    submitted = queue.submit("train", {"model": "m"}, by="key:1")
    assert submitted is not None
    worker = Worker(repository, {"train": handler}, time)
    assert worker.run_once()
    assert not worker.run_once()
    job = queue.get(submitted.id)
    assert (job.status, job.progress, job.attempts, job.finished_ms) == (JobStatus.DONE, 1.0, 1, START)
    assert seen == [{"model": "m"}]


def test_unknown_kinds_are_left_alone(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    queue.submit("other")
    assert not Worker(repository, {"train": lambda a, p: None}, time).run_once()


def test_transient_failures_are_retried_with_growing_waits(
    repository: JobRepository, queue: JobQueue, time: Time
) -> None:
    def handler(arguments: Mapping[str, str], progress: JobProgress) -> None:
        raise TransientError("away")

    job = queue.submit("train")
    assert job is not None
    worker = Worker(repository, {"train": handler}, time)
    waits = []
    for _ in range(2):
        assert worker.run_once()
        assert not worker.run_once()
        state = queue.get(job.id)
        assert (state.status, state.error) == (JobStatus.QUEUED, "away")
        waits.append(state.due_ms - time.now)
        time.now = state.due_ms
    assert worker.run_once()
    assert queue.get(job.id).status is JobStatus.FAILED
    assert waits[1] > waits[0] > 0


def test_an_unexpected_failure_hides_its_text(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    def handler(arguments: Mapping[str, str], progress: JobProgress) -> None:
        raise RuntimeError("password=hunter2")

    job = queue.submit("train", max_attempts=1)
    assert job is not None
    Worker(repository, {"train": handler}, time).run_once()
    assert queue.get(job.id).status is JobStatus.FAILED
    assert "hunter2" not in queue.get(job.id).error


def test_bad_arguments_are_not_retried(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    def handler(arguments: Mapping[str, str], progress: JobProgress) -> None:
        raise InvalidInput("no such report")

    job = queue.submit("report")
    assert job is not None
    Worker(repository, {"report": handler}, time).run_once()
    assert queue.get(job.id).error == "no such report"
    assert queue.get(job.id).status is JobStatus.FAILED


def test_a_job_whose_worker_died_is_taken_over_after_its_lease(
    repository: JobRepository, queue: JobQueue, time: Time
) -> None:
    job = queue.submit("train")
    assert job is not None
    assert repository.claim("dead", ["train"], time.now, 60_000) is not None
    ran: list[int] = []
    worker = Worker(repository, {"train": lambda a, p: ran.append(1)}, time)
    assert not worker.run_once()
    time.now += 60_000
    assert worker.run_once()
    assert ran == [1]
    assert queue.get(job.id).attempts == 2
    assert not repository.finish(job.id, "dead", JobStatus.FAILED, time.now)


def test_a_job_that_kills_its_workers_is_given_up(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    job = queue.submit("train", max_attempts=2)
    assert job is not None
    for _ in range(2):
        assert repository.claim("dead", ["train"], time.now, 1) is not None
        time.now += 1
    assert Worker(repository, {"train": lambda a, p: None}, time).run_once()
    assert queue.get(job.id).status is JobStatus.FAILED


def test_cancelling_a_queued_and_a_running_job(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    queued = queue.submit("train")
    assert queued is not None
    assert queue.cancel(queued.id).status is JobStatus.CANCELLED

    def handler(arguments: Mapping[str, str], progress: JobProgress) -> None:
        assert queue.cancel(queue.list()[0].id).cancelling
        progress(0.9)
        pytest.fail("progress must end a cancelled job")

    running = queue.submit("train")
    assert running is not None
    Worker(repository, {"train": handler}, time).run_once()
    assert queue.get(running.id).status is JobStatus.CANCELLED
    with pytest.raises(NotFound):
        queue.cancel("none")


def test_stopping_puts_a_running_job_back(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    started = threading.Event()

    def handler(arguments: Mapping[str, str], progress: JobProgress) -> None:
        started.set()
        while True:
            progress(0.1)

    job = queue.submit("train")
    assert job is not None
    worker = Worker(repository, {"train": handler}, time)
    worker.start(poll_s=0.01)
    assert started.wait(20)
    worker.stop()
    state = queue.get(job.id)
    assert (state.status, state.attempts, state.lease_until_ms) == (JobStatus.QUEUED, 0, None)


def test_the_lease_of_a_silent_handler_is_renewed(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    renewed = threading.Event()

    def handler(arguments: Mapping[str, str], progress: JobProgress) -> None:
        time.now += 5
        for _ in range(2000):
            found = queue.get(job.id).lease_until_ms
            if found is not None and found > START + 30:
                renewed.set()
                return
            threading.Event().wait(0.005)

    job = queue.submit("train")
    assert job is not None
    Worker(repository, {"train": handler}, time, lease_ms=30).run_once()
    assert renewed.is_set()


def test_a_restart_frees_what_ran(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    queue.submit("train")
    repository.claim("dead", ["train"], time.now, 10**9)
    assert repository.release() == 1
    assert Worker(repository, {"train": lambda a, p: None}, time).run_once()


def test_threads_share_the_queue(repository: JobRepository, queue: JobQueue, time: Time) -> None:
    done, lock, seen = threading.Event(), threading.Lock(), []

    def handler(arguments: Mapping[str, str], progress: JobProgress) -> None:
        with lock:
            seen.append(arguments["n"])
            if len(seen) == 12:
                done.set()

    for n in range(12):
        queue.submit("train", {"n": str(n)})
    worker = Worker(repository, {"train": handler}, time, threads=3)
    worker.start(poll_s=0.01)
    assert done.wait(20)
    worker.stop()
    assert sorted(seen, key=int) == [str(n) for n in range(12)]


def test_a_due_schedule_queues_its_job_once(queue: JobQueue, time: Time) -> None:
    clock = JobClock(queue, time)
    stored = clock.put(Schedule("weekly", "0 8 * * 1", "Europe/Berlin", "report", (("name", "weekly"),)))
    assert stored.next_run_ms is not None
    clock.fire("weekly")
    assert queue.list() == ()
    time.now = stored.next_run_ms + 5
    after = clock.fire("weekly")
    assert after is not None
    assert after.next_run_ms is not None
    assert after.next_run_ms - stored.next_run_ms == 7 * 86_400_000
    assert after.last_run_ms == stored.next_run_ms
    assert [dict(j.arguments) for j in queue.list()] == [{"name": "weekly", "due_ms": str(stored.next_run_ms)}]
    queue.save_schedule(stored)
    clock.fire("weekly")
    assert len(queue.list()) == 1, "another service over the same table fires the same run"


def test_a_missed_run_is_made_up_for_once_and_an_old_one_dropped(queue: JobQueue, time: Time) -> None:
    clock = JobClock(queue, time)
    stored = clock.put(Schedule("hourly", "0 * * * *", "UTC", "train"))
    assert stored.next_run_ms is not None
    time.now = stored.next_run_ms + 5 * 3_600_000
    after = clock.fire("hourly")
    assert after is not None
    assert after.next_run_ms is not None
    assert after.next_run_ms > time.now
    assert len(queue.list()) == 1
    time.now = after.next_run_ms + 3 * 86_400_000
    clock.fire("hourly")
    assert len(queue.list()) == 1


def test_an_unchanged_schedule_keeps_its_next_run(queue: JobQueue, time: Time) -> None:
    clock = JobClock(queue, time)
    first = clock.put(Schedule("a", "0 * * * *", "UTC", "train"))
    time.now += 7_200_000
    assert clock.put(Schedule("a", "0 * * * *", "UTC", "train")).next_run_ms == first.next_run_ms
    assert clock.put(Schedule("a", "30 * * * *", "UTC", "train")).next_run_ms != first.next_run_ms
    clock.keep_only(set())
    assert queue.schedules() == ()


def test_the_clock_fires_by_itself(repository: JobRepository) -> None:
    queue = JobQueue(repository)
    clock = JobClock(queue)
    clock.put(Schedule("past", "* * * * *", "UTC", "train"))
    stored = queue.schedule("past")
    assert stored is not None
    assert stored.next_run_ms is not None
    queue.fired("past", 0, stored.next_run_ms - 60_000)
    clock.start()
    finished = threading.Event()
    worker = Worker(repository, {"train": lambda a, p: finished.set()})
    worker.start(poll_s=0.02)
    assert finished.wait(20)
    worker.stop()
    clock.stop()
