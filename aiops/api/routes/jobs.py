"""Background jobs, schedules, backfills."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from aiops.api import views
from aiops.api.auth import Operator
from aiops.api.schemas_operations import BackfillIn, JobList, JobOut, ScheduleList
from aiops.api.services import Services, running
from aiops.core.errors import NotFound
from aiops.core.job import JobStatus
from aiops.jobs.queue import JobQueue

BACKFILL = "backfill"


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["jobs"])

    def queue() -> JobQueue:
        return running(services.jobs, "job queue")

    @routes.get("/jobs", response_model=JobList)
    def list_jobs(
        _caller: Operator,
        status: JobStatus | None = None,
        kind: Annotated[str, Query(max_length=80)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> JobList:
        """Jobs, the newest first."""
        return JobList(jobs=[views.job(j) for j in queue().list(status, kind, limit)])

    @routes.get("/jobs/{job_id}", response_model=JobOut)
    def show(job_id: str, _caller: Operator) -> JobOut:
        """One job with its progress and the end of its log."""
        return views.job(queue().get(job_id))

    @routes.post("/jobs/{job_id}/cancel", response_model=JobOut)
    def cancel(job_id: str, caller: Operator) -> JobOut:
        """Drop a queued job, or ask a running one to stop."""
        cancelled = queue().cancel(job_id)
        services.audit.append(caller.name, "job.cancel", job_id, {"kind": cancelled.kind})
        return views.job(cancelled)

    @routes.get("/schedules", response_model=ScheduleList)
    def list_schedules(_caller: Operator) -> ScheduleList:
        """Schedules with their next runs."""
        return ScheduleList(schedules=[views.schedule(s) for s in queue().schedules()])

    @routes.post("/schedules/{name}/run", response_model=JobOut, status_code=202)
    def run_now(name: str, caller: Operator) -> JobOut:
        """Start a schedule's job now, beside its usual runs."""
        found = queue().schedule(name)
        if found is None:
            raise NotFound(f"There is no schedule '{name}'.")
        job = queue().submit(found.kind, dict(found.arguments), by=caller.name)
        assert job is not None, "without a unique key a job is always queued"
        services.audit.append(caller.name, "schedule.run", name, {"job": job.id})
        return views.job(job)

    @routes.post("/backfills", response_model=JobOut, status_code=202)
    def backfill(body: BackfillIn, caller: Operator) -> JobOut:
        """Pull history from a configured telemetry source; it goes on where it stopped."""
        if body.source not in services.settings.connectors.telemetry:
            known = ", ".join(sorted(services.settings.connectors.telemetry)) or "none"
            raise NotFound(f"There is no telemetry source '{body.source}'.", hint=f"Configured: {known}.")
        job = queue().submit(BACKFILL, {"source": body.source, "days": repr(body.days)}, by=caller.name)
        assert job is not None, "without a unique key a job is always queued"
        services.audit.append(caller.name, "backfill.start", body.source, {"job": job.id})
        return views.job(job)

    @routes.get("/backfills/{job_id}", response_model=JobOut)
    def backfill_state(job_id: str, _caller: Operator) -> JobOut:
        """How far a backfill is."""
        found = queue().get(job_id)
        if found.kind != BACKFILL:
            raise NotFound(f"There is no backfill '{job_id}'.")
        return views.job(found)

    return routes
