"""Deliveries to receivers: list, test, send a dead letter again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from aiops.api import views
from aiops.api.auth import Operator
from aiops.api.schemas_operations import NotificationList, NotificationOut, TestIn, TestOut
from aiops.api.services import Services, running
from aiops.core.incident import DeliveryStatus


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/notifications", tags=["notifications"])

    @routes.get("", response_model=NotificationList)
    def list_notifications(
        _caller: Operator,
        status: DeliveryStatus | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> NotificationList:
        """The outbox, the newest first; dead letters have the status ``dead``."""
        found = running(services.outbox, "outbox").list(status, limit)
        return NotificationList(notifications=[views.notification(d) for d in found])

    @routes.post("/test", response_model=TestOut)
    def test(body: TestIn, caller: Operator) -> TestOut:
        """Send a test message to one receiver now."""
        thread = running(services.dispatcher, "dispatcher").test(body.receiver)
        services.audit.append(caller.name, "notification.test", body.receiver)
        return TestOut(receiver=body.receiver, thread=thread)

    @routes.post("/{notification_id}/resend", response_model=NotificationOut)
    def resend(notification_id: str, caller: Operator) -> NotificationOut:
        """Put a dead letter back in the queue."""
        found = running(services.dispatcher, "dispatcher").resend(notification_id)
        services.audit.append(caller.name, "notification.resend", notification_id)
        return views.notification(found)

    return routes
