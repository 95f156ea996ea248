"""Background jobs and the schedules that start them. Times are ms UTC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TRAINING, BATCH = "training", "batch"
"""Pools with threads of their own, so that hours of training delay no report; other jobs are in the pool ``""``."""


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """One unit of work: a kind and string arguments.

    Attributes:
        due_ms: not before this time.
        lease_until_ms: while it runs, the time at which another worker may take it over.
        progress: share done, in [0, 1].
        log: the latest lines, newest last.
        cancelling: cancellation was asked for while it runs.
        priority: higher ones are taken first.
        pool: jobs of one pool share its threads; see :data:`TRAINING` and :data:`BATCH`.
    """

    id: str
    kind: str
    arguments: tuple[tuple[str, str], ...]
    status: JobStatus
    created_ms: int
    due_ms: int
    created_by: str = ""
    attempts: int = 0
    max_attempts: int = 3
    lease_until_ms: int | None = None
    progress: float = 0.0
    log: tuple[str, ...] = ()
    error: str = ""
    started_ms: int | None = None
    finished_ms: int | None = None
    cancelling: bool = False
    priority: int = 0
    pool: str = ""


@dataclass(frozen=True, slots=True)
class JobLimit:
    """At most ``most`` jobs of ``kinds`` made by any of ``makers`` since ``since_ms``; ``said`` names the limit."""

    kinds: tuple[str, ...]
    makers: tuple[str, ...]
    since_ms: int
    most: int
    said: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job started by a five-field cron line, read in an IANA ``zone``."""

    name: str
    cron: str
    zone: str
    kind: str
    arguments: tuple[tuple[str, str], ...] = ()
    next_run_ms: int | None = None
    last_run_ms: int | None = None
