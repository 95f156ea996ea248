"""Worker threads: claim a job, run its handler, keep the lease alive, retry or close it."""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Mapping

from aiops.core.errors import AiopsError, PermanentError
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


class _Report(JobProgress):
    """The progress callback of one run; also renews the lease from the heartbeat thread."""

    def __init__(
        self, repository: JobRepository, job: Job, worker: str, lease_ms: int, clock: Clock, closing: threading.Event
    ) -> None:
        self._repository, self._job, self._worker = repository, job, worker
        self._lease_ms, self._clock, self._closing = lease_ms, clock, closing
        self._stopped = threading.Event()

    def __call__(self, share: float | None = None, line: str = "") -> None:
        self.renew(share, line)
        if self._stopped.is_set():
            raise JobCancelled
        if self._closing.is_set():
            raise _Interrupted

    def renew(self, share: float | None = None, line: str = "") -> None:
        until = self._clock() + self._lease_ms
        held = self._repository.renew(self._job.id, self._worker, until, share, line)
        if held is None or held.cancelling:
            self._stopped.set()


class Worker:
    """A pool of threads over the job table.

    Args:
        handlers: what to run, by job kind; jobs of other kinds are left alone.
        lease_ms: a job whose worker is silent for longer is claimed by another.
    """

    def __init__(
        self,
        repository: JobRepository,
        handlers: Mapping[str, ProgressJobHandler],
        clock: Clock = system_clock,
        threads: int = 1,
        lease_ms: int = 60_000,
    ) -> None:
        self._repository = repository
        self._handlers = dict(handlers)
        self._clock = clock
        self._count = threads
        self._lease_ms = lease_ms
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, poll_s: float = 0.5) -> None:
        """Run jobs on threads until :meth:`stop`."""
        for number in range(self._count):
            thread = threading.Thread(target=self._loop, args=(poll_s,), name=f"job-worker-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Take no more jobs. A running one is put back at its next progress report, or taken over after its lease."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout_s)

    def run_once(self) -> bool:
        """Claim and run one job in this thread; false when none is due."""
        name = uuid.uuid4().hex
        job = self._repository.claim(name, self._handlers.keys(), self._clock(), self._lease_ms)
        if job is None:
            return False
        self._run(job, name)
        return True

    def _loop(self, poll_s: float) -> None:
        while not self._stop.is_set():
            try:
                busy = self.run_once()
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
        report = _Report(self._repository, job, name, self._lease_ms, self._clock, self._stop)
        done = threading.Event()
        heartbeat = threading.Thread(target=self._beat, args=(report, done), name="job-heartbeat", daemon=True)
        heartbeat.start()
        try:
            self._handlers[job.kind](dict(job.arguments), report)
        except JobCancelled:
            self._repository.finish(job.id, name, JobStatus.CANCELLED, self._clock())
        except _Interrupted:
            self._repository.put_back(job.id, name)
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
