"""Jobs, claimed with a lease, and schedules."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import Select, delete, exists, func, or_, select, text, update
from sqlalchemy.exc import IntegrityError

from aiops.core.errors import LimitExceeded, NotFound
from aiops.core.job import Job, JobLimit, JobStatus, Schedule
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import JobRow, ScheduleRow

LOG_LINES = 50
QUEUED, RUNNING = JobStatus.QUEUED.value, JobStatus.RUNNING.value
LIMIT_LOCK = 7_420_002
"""Key of the PostgreSQL advisory lock under which limits are counted."""
FINISHED = (JobStatus.DONE.value, JobStatus.FAILED.value, JobStatus.CANCELLED.value)


class JobRepository:
    """The job table as a queue. A running job whose lease ran out may be claimed by any worker."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def add(self, job: Job, unique_key: str = "", limits: Sequence[JobLimit] = ()) -> bool:
        """Queue a job; false, and nothing is added, when ``unique_key`` was used before.

        Raises:
            LimitExceeded: a limit is reached; counting and adding are one transaction.
        """
        try:
            with self._database.session() as session:
                if unique_key and session.scalar(select(JobRow.id).where(JobRow.unique_key == unique_key)):
                    return False
                if limits and self._database.dialect == "postgresql":
                    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LIMIT_LOCK})
                for limit in limits:
                    made = session.scalar(
                        select(func.count()).where(
                            JobRow.kind.in_(limit.kinds),
                            JobRow.created_by.in_(limit.makers),
                            JobRow.created_ms >= limit.since_ms,
                        )
                    )
                    if (made or 0) >= limit.most:
                        raise LimitExceeded(f"{limit.said}; {made} were made.", hint="An administrator raises it.")
                session.add(_row(job, unique_key))
        except IntegrityError:
            if not unique_key:
                raise
            # Another service queued the same run between the look and the insert.
            return False
        return True

    def get(self, job_id: str) -> Job | None:
        with self._database.reader() as session:
            row = session.scalars(select(JobRow).where(JobRow.id == job_id)).one_or_none()
            return None if row is None else _job(row)

    def list(self, status: JobStatus | None = None, kind: str = "", limit: int = 100) -> tuple[Job, ...]:
        """The newest first."""
        query = select(JobRow).order_by(JobRow.sequence.desc()).limit(limit)
        if status is not None:
            query = query.where(JobRow.status == status.value)
        if kind:
            query = query.where(JobRow.kind == kind)
        with self._database.reader() as session:
            return tuple(_job(row) for row in session.scalars(query))

    def claim(
        self, worker: str, kinds: Collection[str], now_ms: int, lease_ms: int, pool: str | None = None
    ) -> Job | None:
        """Take a job that is due, or whose worker is gone, the most urgent and then the oldest; its attempt is counted.

        Args:
            pool: take from it alone; ``None`` takes from all.
        """
        ready = (
            JobRow.kind.in_(kinds),
            *([] if pool is None else [JobRow.pool == pool]),
            or_(
                (JobRow.status == QUEUED) & (JobRow.due_ms <= now_ms),
                (JobRow.status == RUNNING) & (JobRow.lease_until_ms <= now_ms),
            ),
        )
        with self._database.reader() as session:
            # Polling takes the write lock only when there is something to claim.
            if not session.scalar(select(exists(select(JobRow.id).where(*ready)))):
                return None
        query = (
            select(JobRow)
            .where(*ready)
            .order_by(JobRow.priority.desc(), JobRow.due_ms, JobRow.sequence)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._database.session() as session:
            row = session.scalars(query).one_or_none()
            if row is None:
                return None
            row.status = RUNNING
            row.worker = worker
            row.attempts += 1
            row.started_ms = now_ms
            row.lease_until_ms = now_ms + lease_ms
            return _job(row)

    def waiting(self, pool: str, above: int, now_ms: int) -> bool:
        """Whether a job of a higher priority than ``above`` is due in the pool."""
        query = select(
            exists(
                select(JobRow.id).where(
                    JobRow.pool == pool, JobRow.status == QUEUED, JobRow.due_ms <= now_ms, JobRow.priority > above
                )
            )
        )
        with self._database.reader() as session:
            return bool(session.scalar(query))

    def renew(
        self, job_id: str, worker: str, lease_until_ms: int, progress: float | None = None, line: str = ""
    ) -> Job | None:
        """Extend the lease and note progress; ``None`` when the job is no longer this worker's."""
        with self._database.session() as session:
            row = session.scalars(_mine(job_id, worker)).one_or_none()
            if row is None:
                return None
            row.lease_until_ms = lease_until_ms
            if progress is not None:
                row.progress = min(max(progress, 0.0), 1.0)
            if line:
                row.log = codec.dumps([*json.loads(row.log), line][-LOG_LINES:])
            return _job(row)

    def finish(self, job_id: str, worker: str, status: JobStatus, now_ms: int, error: str = "") -> bool:
        """Close a job; false when another worker has it by now."""
        with self._database.session() as session:
            row = session.scalars(_mine(job_id, worker)).one_or_none()
            if row is None:
                return False
            row.status = status.value
            row.finished_ms = now_ms
            row.lease_until_ms = None
            row.error = error
            if status is JobStatus.DONE:
                row.progress = 1.0
            return True

    def retry(self, job_id: str, worker: str, due_ms: int, error: str) -> bool:
        """Queue a job again for later; false when another worker has it by now."""
        with self._database.session() as session:
            row = session.scalars(_mine(job_id, worker)).one_or_none()
            if row is None:
                return False
            row.status = QUEUED
            row.due_ms = due_ms
            row.lease_until_ms = None
            row.error = error
            return True

    def put_back(self, job_id: str, worker: str, line: str = "") -> None:
        """Queue a job again as if this attempt had not been made, since its worker has to stop."""
        with self._database.session() as session:
            row = session.scalars(_mine(job_id, worker)).one_or_none()
            if row is not None:
                row.status, row.lease_until_ms = QUEUED, None
                row.attempts -= 1
                if line:
                    row.log = codec.dumps([*json.loads(row.log), line][-LOG_LINES:])

    def cancel(self, job_id: str, now_ms: int) -> Job:
        """Cancel at once what is queued, ask what runs to stop; a finished job is left. Raises ``NotFound``."""
        with self._database.session() as session:
            row = session.scalars(select(JobRow).where(JobRow.id == job_id).with_for_update()).one_or_none()
            if row is None:
                raise NotFound(f"There is no job '{job_id}'.")
            if row.status == QUEUED:
                row.status, row.finished_ms = JobStatus.CANCELLED.value, now_ms
            elif row.status == RUNNING:
                row.cancelling = True
            return _job(row)

    def release(self) -> int:
        """At the start of the only service: jobs that a dead process left running are claimable at once."""
        with self._database.session() as session:
            changed = session.execute(update(JobRow).where(JobRow.status == RUNNING).values(lease_until_ms=0))
            return int(changed.rowcount)  # type: ignore[attr-defined]

    def forget_finished(self, before_ms: int) -> None:
        """Retention of finished jobs."""
        with self._database.session() as session:
            session.execute(delete(JobRow).where(JobRow.status.in_(FINISHED), JobRow.finished_ms < before_ms))

    def counts(self) -> dict[str, int]:
        """Number of jobs by status word."""
        with self._database.reader() as session:
            rows = session.execute(select(JobRow.status, func.count()).group_by(JobRow.status)).all()
        return {str(status): int(count) for status, count in rows}

    # -------------------------------------------------------------- schedules

    def save_schedule(self, schedule: Schedule) -> None:
        with self._database.session() as session:
            session.merge(
                ScheduleRow(
                    name=schedule.name,
                    cron=schedule.cron,
                    zone=schedule.zone,
                    kind=schedule.kind,
                    arguments=codec.dumps(schedule.arguments),
                    next_run_ms=schedule.next_run_ms,
                    last_run_ms=schedule.last_run_ms,
                )
            )

    def schedule(self, name: str) -> Schedule | None:
        with self._database.reader() as session:
            row = session.get(ScheduleRow, name)
            return None if row is None else _schedule(row)

    def schedules(self) -> tuple[Schedule, ...]:
        with self._database.reader() as session:
            return tuple(_schedule(row) for row in session.scalars(select(ScheduleRow).order_by(ScheduleRow.name)))

    def delete_schedule(self, name: str) -> None:
        with self._database.session() as session:
            session.execute(delete(ScheduleRow).where(ScheduleRow.name == name))

    def fired(self, name: str, run_ms: int, next_run_ms: int | None) -> Schedule | None:
        """Note that a schedule ran; returns it, or ``None`` when it is gone."""
        with self._database.session() as session:
            row = session.get(ScheduleRow, name, with_for_update=True)
            if row is None:
                return None
            row.last_run_ms, row.next_run_ms = run_ms, next_run_ms
            return replace(_schedule(row), last_run_ms=run_ms, next_run_ms=next_run_ms)


def _mine(job_id: str, worker: str) -> Select[JobRow]:
    return (
        select(JobRow).where(JobRow.id == job_id, JobRow.worker == worker, JobRow.status == RUNNING).with_for_update()
    )


def _row(job: Job, unique_key: str) -> JobRow:
    return JobRow(
        id=job.id,
        kind=job.kind,
        arguments=codec.dumps(job.arguments),
        unique_key=unique_key or None,
        status=job.status.value,
        created_ms=job.created_ms,
        created_by=job.created_by,
        due_ms=job.due_ms,
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        lease_until_ms=job.lease_until_ms,
        worker="",
        progress=job.progress,
        log=codec.dumps(job.log),
        error=job.error,
        started_ms=job.started_ms,
        finished_ms=job.finished_ms,
        cancelling=job.cancelling,
        priority=job.priority,
        pool=job.pool,
    )


def _job(row: JobRow) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        arguments=codec.loads(tuple[tuple[str, str], ...], row.arguments),
        status=JobStatus(row.status),
        created_ms=row.created_ms,
        due_ms=row.due_ms,
        created_by=row.created_by,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        lease_until_ms=row.lease_until_ms,
        progress=row.progress,
        log=codec.loads(tuple[str, ...], row.log),
        error=row.error,
        started_ms=row.started_ms,
        finished_ms=row.finished_ms,
        cancelling=row.cancelling,
        priority=row.priority,
        pool=row.pool,
    )


def _schedule(row: ScheduleRow) -> Schedule:
    return Schedule(
        row.name,
        row.cron,
        row.zone,
        row.kind,
        codec.loads(tuple[tuple[str, str], ...], row.arguments),
        row.next_run_ms,
        row.last_run_ms,
    )
