"""Worker threads: claim a job, run its handler, keep the lease alive, give way, retry or close it."""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Callable, Collection, Mapping

from aiops.core.errors import AiopsError, LimitExceeded, PermanentError
from aiops.core.job import Job, JobStatus
from aiops.core.ports import Clock, JobProgress, ProgressJobHandler, system_clock
from aiops.store.state.jobs import JobRepository

FIRST_RETRY_MS = 5_000
LAST_RETRY_MS = 10 * 60_000
ERROR_CAP = 500

log = logging.getLogger(__name__)


class JobCancelled(Exception):
    """Raised by the progress callback of a job that was cancelled, or that another worker took over."""


class _Interrupted(Exception):
    """Raised by the progress callback when the service stops; the job is put back as it was."""


class _Displaced(Exception):
    """Raised by the progress callback of a job that gives way to a more urgent one; it is put back as it was."""


class _Report(JobProgress):
    """The progress callback of one run; also renews the lease from the heartbeat thread."""

    def __init__(
        self,
        repository: JobRepository,
        job: Job,
        worker: str,
        lease_ms: int,
        clock: Clock,
        closing: threading.Event,
        displaced: Callable[[Job], bool],
    ) -> None:
        self._repository, self._job, self._worker = repository, job, worker
        self._lease_ms, self._clock, self._closing = lease_ms, clock, closing
        self._displaced = displaced
        self._stopped = threading.Event()

    def __call__(self, share: float | None = None, line: str = "") -> None:
        self.renew(share, line)
        if self._stopped.is_set():
            raise JobCancelled
        if self._closing.is_set():
            raise _Interrupted
        if self._displaced(self._job):
            raise _Displaced

    def renew(self, share: float | None = None, line: str = "") -> None:
        until = self._clock() + self._lease_ms
        held = self._repository.renew(self._job.id, self._worker, until, share, line)
        if held is None or held.cancelling:
            self._stopped.set()


class Worker:
    """Threads over the job table.

    Args:
        handlers: what to run, by job kind; jobs of other kinds are left alone.
        threads: take jobs of the pool ``""``, or of every pool where ``pools`` is not given.
        lease_ms: a job whose worker is silent for longer is claimed by another.
        pools: threads of each named pool, which run at most that many of its jobs at once.
        resumable: kinds that go on where they stopped, so that one that runs gives way, at its next progress
            report, to a job of a higher priority that waits for a thread of its pool.
    """

    def __init__(
        self,
        repository: JobRepository,
        handlers: Mapping[str, ProgressJobHandler],
        clock: Clock = system_clock,
        threads: int = 1,
        lease_ms: int = 60_000,
        pools: Mapping[str, int] | None = None,
        resumable: Collection[str] = (),
    ) -> None:
        self._sizes: dict[str | None, int] = {None if pools is None else "": threads}
        self._sizes.update((name, count) for name, count in (pools or {}).items())
        self._resumable = frozenset(resumable)
        self._running: dict[str, tuple[Job, str | None]] = {}
        self._lock = threading.Lock()
        self._repository = repository
        self._handlers = dict(handlers)
        self._clock = clock
        self._lease_ms = lease_ms
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, poll_s: float = 0.5) -> None:
        """Run jobs on threads until :meth:`stop`."""
        for pool, count in self._sizes.items():
            for number in range(count):
                name = "-".join(filter(None, ("job-worker", pool, str(number))))
                thread = threading.Thread(target=self._loop, args=(poll_s, pool), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Take no more jobs. A running one is put back at its next progress report, or taken over after its lease."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout_s)

    def run_once(self, pool: str | None = None) -> bool:
        """Claim and run one job, of ``pool`` or of any, in this thread; false when none is due."""
        name = uuid.uuid4().hex
        job = self._repository.claim(name, self._handlers.keys(), self._clock(), self._lease_ms, pool)
        if job is None:
            return False
        with self._lock:
            self._running[name] = (job, pool)
        try:
            self._run(job, name)
        finally:
            with self._lock:
                del self._running[name]
        return True

    def _displaced(self, job: Job) -> bool:
        """Whether a running job has to give way: all threads of its pool are busy, it is the least urgent of those
        that run there, and a more urgent one waits."""
        if job.kind not in self._resumable:
            return False
        with self._lock:
            pool = next((pool for other, pool in self._running.values() if other.id == job.id), None)
            rivals = [other for other, own in self._running.values() if own == pool]
        if len(rivals) < self._sizes.get(pool, 1):
            return False
        if job.id != min(rivals, key=lambda other: (other.priority, -other.created_ms, other.id)).id:
            return False
        return self._repository.waiting(job.pool, job.priority, self._clock())

    def _loop(self, poll_s: float, pool: str | None) -> None:
        while not self._stop.is_set():
            try:
                busy = self.run_once(pool)
            except Exception:
                log.exception("a job could not be claimed or closed")
                busy = False
            if not busy:
                self._stop.wait(poll_s)

    def _run(self, job: Job, name: str) -> None:
        if job.cancelling:
            self._repository.finish(job.id, name, JobStatus.CANCELLED, self._clock())
            return
        if job.attempts > job.max_attempts:
            self._repository.finish(job.id, name, JobStatus.FAILED, self._clock(), job.error or "Its worker died.")
            return
        report = _Report(self._repository, job, name, self._lease_ms, self._clock, self._stop, self._displaced)
        done = threading.Event()
        heartbeat = threading.Thread(target=self._beat, args=(report, done), name="job-heartbeat", daemon=True)
        heartbeat.start()
        try:
            self._handlers[job.kind](dict(job.arguments), report)
        except JobCancelled:
            self._repository.finish(job.id, name, JobStatus.CANCELLED, self._clock())
        except _Interrupted:
            self._repository.put_back(job.id, name)
        except _Displaced:
            self._repository.put_back(job.id, name, "gave way to more urgent work")
        except LimitExceeded as error:
            if error.kind == "budget":  # nothing changes before a person or the next day does
                self._repository.finish(job.id, name, JobStatus.FAILED, self._clock(), str(error)[:ERROR_CAP])
            else:
                self._again(job, name, str(error))
        except PermanentError as error:
            self._repository.finish(job.id, name, JobStatus.FAILED, self._clock(), str(error)[:ERROR_CAP])
        except AiopsError as error:
            self._again(job, name, str(error))
        except Exception as error:
            log.exception("job %s (%s) failed", job.id, job.kind)
            self._again(job, name, f"{type(error).__name__}: unexpected; see the service's log.")
        else:
            self._repository.finish(job.id, name, JobStatus.DONE, self._clock())
        finally:
            done.set()
            heartbeat.join()

    def _beat(self, report: _Report, done: threading.Event) -> None:
        while not done.wait(self._lease_ms / 3000):
            try:
                report.renew()
            except AiopsError as error:
                log.warning("a job's lease could not be renewed: %s", error)

    def _again(self, job: Job, name: str, error: str) -> None:
        if job.attempts >= job.max_attempts:
            self._repository.finish(job.id, name, JobStatus.FAILED, self._clock(), error[:ERROR_CAP])
            return
        wait = min(FIRST_RETRY_MS * 4 ** (job.attempts - 1), LAST_RETRY_MS)
        jittered = int(wait * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, no secret
        self._repository.retry(job.id, name, self._clock() + jittered, error[:ERROR_CAP])
