"""Jobs: what each kind does, when the scheduled ones run, the worker and the clock."""

from __future__ import annotations

from collections.abc import Mapping

from aiops.core.job import Schedule
from aiops.core.ports import JobProgress, ProgressJobHandler, system_clock
from aiops.incidents.silences import Silences
from aiops.jobs.queue import JobQueue
from aiops.models.training_jobs import RESUMABLE
from aiops.settings import Settings
from aiops.store.state.jobs import JobRepository
from aiops.store.telemetry.store import TelemetryStore
from aiops.wiring.lifetime import Lifetime
from aiops.wiring.model_oversight import DRIFT_KIND

RETENTION_CRON, COST_CRON = "41 * * * *", "7 * * * *"
JOBS_KEPT_MS = 30 * 86_400_000


def retention_job(store: TelemetryStore, rows: JobRepository, silences: Silences) -> ProgressJobHandler:
    """Telemetry and finished jobs that are past their time."""

    def run(arguments: Mapping[str, str], progress: JobProgress) -> None:  # noqa: ARG001
        done = store.apply_retention()
        progress(0.5, f"{done.tables} day tables dropped by age, {len(done.days)} days for want of room")
        rows.forget_finished(system_clock() - JOBS_KEPT_MS)
        silences.forget_old()

    return run


def schedules_of(settings: Settings, *, training: bool) -> list[Schedule]:
    """The schedules that the settings ask for."""
    from aiops.reports.delivery import JOB_KIND, report_arguments

    reports = [
        Schedule(f"report:{name}", r.cron, r.zone, JOB_KIND, tuple(sorted(report_arguments(name, r).items())))
        for name, r in settings.reports.items()
    ]
    found = [
        Schedule("retention", RETENTION_CRON, "UTC", "retention"),
        Schedule("cost", COST_CRON, "UTC", "cost"),
        *reports,
    ]
    if training and settings.models.drift.enabled:
        found.append(Schedule(DRIFT_KIND, settings.models.drift.cron, "UTC", DRIFT_KIND))
    return [*found, Schedule("train", settings.detection.retrain_cron, "UTC", "train")] if training else found


def start_jobs(
    rows: JobRepository,
    queue: JobQueue,
    handlers: Mapping[str, ProgressJobHandler],
    schedules: list[Schedule],
    lifetime: Lifetime,
    pools: Mapping[str, int],
) -> None:
    """Schedules that are not given any more are forgotten; ``pools`` are the threads of each pool."""
    from aiops.jobs.clock import JobClock
    from aiops.jobs.worker import Worker

    clock = JobClock(queue)
    worker = Worker(rows, handlers, pools=pools, resumable=RESUMABLE)
    clock.keep_only({schedule.name for schedule in schedules})
    for schedule in schedules:
        clock.put(schedule)
    clock.start()
    worker.start()
    lifetime.on_stop(worker.stop, clock.stop)
