"""Operations on the telemetry store, for administrators; each change is audited."""

from __future__ import annotations

from fastapi import APIRouter

from aiops.api.auth import Administrator, Operator
from aiops.api.schemas_store import FileUsageOut, RetentionOut, usage_view
from aiops.api.services import Services
from aiops.store.telemetry.schema import DAY_MS


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/store", tags=["store"])

    @routes.get("", response_model=FileUsageOut)
    def usage(_caller: Operator) -> FileUsageOut:
        """What each signal takes, from when to when, and the limits that hold."""
        return usage_view(services.store.usage())

    @routes.post("/retention", response_model=RetentionOut)
    def apply_retention(caller: Administrator) -> RetentionOut:
        """Drop now what is past its time or above the limit, instead of within the hour."""
        done = services.store.apply_retention()
        detail = {"tables": str(done.tables), "days": str(len(done.days))}
        services.audit.append(caller.name, "store.retention", "store", detail)
        return RetentionOut(dropped=done.tables, days=[day * DAY_MS for day in done.days])

    return routes
