"""The audit trail, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from aiops.api import views
from aiops.api.auth import Administrator
from aiops.api.schemas_operations import AuditList, AuditVerdict
from aiops.api.services import Services


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/audit", tags=["audit"])

    @routes.get("", response_model=AuditList)
    def list_entries(
        _caller: Administrator,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Annotated[int | None, Query(ge=1, description="a sequence number, for paging")] = None,
        actor: Annotated[str, Query(max_length=200)] = "",
        action: Annotated[str, Query(max_length=200)] = "",
        subject: Annotated[str, Query(max_length=200)] = "",
    ) -> AuditList:
        """Entries, the newest first."""
        found = services.audit.list(limit, before, actor, action, subject)
        return AuditList(entries=[views.audit_entry(e) for e in found])

    @routes.get("/verify", response_model=AuditVerdict)
    def verify(_caller: Administrator) -> AuditVerdict:
        """Walk the hash chain. Keep the head's hash elsewhere to notice rows cut off the end."""
        broken = services.audit.verify()
        sequence, digest = services.audit.head()
        return AuditVerdict(
            whole=broken is None,
            entries=services.audit.count(),
            head_sequence=sequence,
            head_hash=digest,
            broken=None if broken is None else views.audit_entry(broken),
        )

    return routes
