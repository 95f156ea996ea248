"""Silences: set, list, end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from aiops.api.auth import Reader, Responder
from aiops.api.schemas import Reply, RequestBody, Text
from aiops.api.services import Services, running
from aiops.core.incident import Silence
from aiops.incidents.silences import Silences, text_of


class SilenceIn(RequestBody):
    matchers: list[str] = Field(min_length=1, max_length=20, examples=[['service="web"', 'severity=~"info|warning"']])
    duration_s: float = Field(gt=0, description="how long it lasts")
    comment: str = Field(min_length=1, max_length=1000, description="why")
    starts_ms: int = Field(0, ge=0, description="when it begins; 0 is now")


class SilenceOut(Reply):
    id: str
    matchers: list[Text]
    starts_ms: int
    ends_ms: int
    author: Text
    comment: Text
    created_ms: int
    active: bool


class SilenceList(Reply):
    silences: list[SilenceOut]


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/silences", tags=["incidents"])

    def silences() -> Silences:
        return running(services.silences, "incident engine")

    def shown(silence: Silence) -> SilenceOut:
        return SilenceOut(
            id=silence.id, matchers=text_of(silence), starts_ms=silence.starts_ms, ends_ms=silence.ends_ms,
            author=silence.author, comment=silence.comment, created_ms=silence.created_ms,
            active=silence.active(services.clock()),
        )  # fmt: skip

    @routes.get("", response_model=SilenceList)
    def list_silences(
        _caller: Reader, past: Annotated[bool, Query(description="also those that ended in the last 30 days")] = False
    ) -> SilenceList:
        """Silences in force and to come, the first to end first."""
        return SilenceList(silences=[shown(s) for s in silences().list(past=past)])

    @routes.post("", response_model=SilenceOut, status_code=201)
    def create(body: SilenceIn, caller: Responder) -> SilenceOut:
        """Alerts that all matchers hold for wake nobody; incidents go on being opened and explained."""
        made = silences().create(
            body.matchers, caller, duration_s=body.duration_s, comment=body.comment, starts_ms=body.starts_ms
        )
        detail = {"matchers": ", ".join(text_of(made)), "ends_ms": str(made.ends_ms), "comment": made.comment}
        services.audit.append(caller.name, "silence.create", made.id, detail)
        return shown(made)

    @routes.get("/{silence_id}", response_model=SilenceOut)
    def show(silence_id: str, _caller: Reader) -> SilenceOut:
        """One silence, also one that is over."""
        return shown(silences().get(silence_id))

    @routes.post("/{silence_id}/end", response_model=SilenceOut)
    def end(silence_id: str, caller: Responder) -> SilenceOut:
        """End it now: what still fires is told of."""
        over = silences().end(silence_id, caller)
        services.audit.append(caller.name, "silence.end", silence_id)
        return shown(over)

    return routes
