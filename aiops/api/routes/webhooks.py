"""Alerts and changes from other systems."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from aiops.access.permissions import Permission, require
from aiops.api.auth import address_of, principal
from aiops.api.schemas_operations import WebhookOut
from aiops.api.services import Services, running
from aiops.core.errors import Forbidden, NotFound
from aiops.core.ports import Collected, InboundParser
from aiops.incidents.outside import synchronise

ALERTMANAGER = "alertmanager"


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["webhooks"])
    proving = {name: _asks_for_proof(parser) for name, parser in services.inbound.items()}

    def take(source: str, request: Request, body: bytes) -> WebhookOut:
        parser = services.inbound.get(source)
        if parser is None:
            raise NotFound(f"There is no inbound source '{source}'.", hint="Configure it under connectors.inbound.")
        if proving[source]:
            try:
                parser.verify(dict(request.headers), body)
            except Forbidden:
                services.rates.failed(address_of(request))
                raise
        else:
            require(principal(request), Permission.SEND_ALERTS)
        found = parser.parse(body)
        if found.changes:
            key = request.headers.get("idempotency-key") or hashlib.sha256(body).hexdigest()
            services.store.append(Collected(changes=found.changes), key=f"webhook:{source}:{key}")
            services.tell_changes(found.changes)
        if found.alerts:
            running(services.incidents, "incident engine").submit(found.alerts)
        if found.heartbeats and services.watchdogs is not None:
            services.watchdogs.beat(source, found.heartbeats)
        updated = 0
        if found.updates:
            updated = synchronise(running(services.incidents, "incident engine"), found.updates, source)
        return WebhookOut(alerts=len(found.alerts), changes=len(found.changes), updates=updated)

    @routes.post("/api/v1/webhooks/{source}", response_model=WebhookOut, status_code=202)
    async def webhook(source: str, request: Request) -> WebhookOut:
        """Alerts or changes in the sender's own form; a reply means that they are stored.

        The sender proves itself as the source is configured (token or signature), else by an API key.
        """
        return await run_in_threadpool(take, source, request, await request.body())

    @routes.post("/api/v2/alerts", response_class=Response)
    async def alerts(request: Request) -> Response:
        """Alerts in the form of Alertmanager's API, so that a Prometheus takes us for an Alertmanager."""
        await run_in_threadpool(take, ALERTMANAGER, request, await request.body())
        return Response(status_code=200)

    return routes


def _asks_for_proof(parser: InboundParser[Any]) -> bool:
    """Whether the source was given a secret to check: then an empty request is refused."""
    try:
        parser.verify({}, b"")
    except Forbidden:
        return True
    return False
