"""The queue of background jobs, as its users see it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from aiops.core.errors import NotFound
from aiops.core.job import Job, JobLimit, JobStatus, Schedule
from aiops.core.ports import Clock, system_clock
from aiops.store.state.jobs import JobRepository


class JobQueue:
    """Submit, look up, cancel. Workers take from the same table.

    Args:
        pools: the pool of each kind that has one.
    """

    def __init__(
        self, repository: JobRepository, clock: Clock = system_clock, pools: Mapping[str, str] | None = None
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._pools = dict(pools or {})

    def submit(
        self,
        kind: str,
        arguments: Mapping[str, str] | None = None,
        *,
        by: str = "system:aiops",
        due_ms: int | None = None,
        max_attempts: int = 3,
        unique_key: str = "",
        priority: int = 0,
        limits: Sequence[JobLimit] = (),
        job_id: str = "",
    ) -> Job | None:
        """Queue a job, committed on return; ``None`` when ``unique_key`` was used before.

        Args:
            job_id: 32 hexadecimal digits where the caller has to know it before; by default one is made.

        Raises:
            LimitExceeded: one of the limits is reached.
        """
        now = self._clock()
        job = Job(
            id=job_id or uuid.uuid4().hex,
            kind=kind,
            arguments=tuple(sorted((arguments or {}).items())),
            status=JobStatus.QUEUED,
            created_ms=now,
            due_ms=now if due_ms is None else due_ms,
            created_by=by,
            max_attempts=max_attempts,
            priority=priority,
            pool=self._pools.get(kind, ""),
        )
        return job if self._repository.add(job, unique_key, limits) else None

    def get(self, job_id: str) -> Job:
        """Raises ``NotFound``."""
        job = self._repository.get(job_id)
        if job is None:
            raise NotFound(f"There is no job '{job_id}'.")
        return job

    def list(self, status: JobStatus | None = None, kind: str = "", limit: int = 100) -> tuple[Job, ...]:
        """The newest first."""
        return self._repository.list(status, kind, limit)

    def counts(self) -> dict[str, int]:
        """Number of jobs by status word."""
        return self._repository.counts()

    def cancel(self, job_id: str) -> Job:
        """Drop a queued job; ask a running one to stop at its next progress report. Raises ``NotFound``."""
        return self._repository.cancel(job_id, self._clock())

    def schedules(self) -> tuple[Schedule, ...]:
        return self._repository.schedules()

    def schedule(self, name: str) -> Schedule | None:
        return self._repository.schedule(name)

    def save_schedule(self, schedule: Schedule) -> None:
        self._repository.save_schedule(schedule)

    def delete_schedule(self, name: str) -> None:
        self._repository.delete_schedule(name)

    def fired(self, name: str, run_ms: int, next_run_ms: int | None) -> Schedule | None:
        """Note a run of a schedule and its next."""
        return self._repository.fired(name, run_ms, next_run_ms)
