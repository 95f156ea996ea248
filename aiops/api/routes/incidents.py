"""Incidents: list, show, acknowledge, resolve, annotate, merge, split, report."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from aiops.api import views
from aiops.api.auth import Reader, Responder
from aiops.api.pages import page
from aiops.api.schemas import (
    AssignIn,
    IncidentList,
    IncidentOut,
    MergeIn,
    NoteIn,
    ResolveIn,
    SimilarList,
    SimilarOut,
    SplitIn,
)
from aiops.api.services import Services, running
from aiops.core.incident import IncidentStatus
from aiops.incidents.lifecycle import IncidentService


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/incidents", tags=["incidents"])

    def incidents() -> IncidentService:
        return running(services.incidents, "incident engine")

    @routes.get("", response_model=IncidentList)
    def list_incidents(
        caller: Reader,
        status: IncidentStatus | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        since_ms: Annotated[int, Query(ge=0, description="updated at or after")] = 0,
    ) -> IncidentList:
        """Incidents that the caller may see, the most recently updated first."""
        found = incidents().list(caller, status, limit, since_ms)
        return IncidentList(incidents=[views.incident(i) for i in found])

    @routes.get("/{incident_id}", response_model=IncidentOut)
    def show(incident_id: str, caller: Reader) -> IncidentOut:
        """One incident with its signals, ranked causes and timeline."""
        return views.incident(incidents().get(incident_id, caller))

    @routes.get("/{incident_id}/report", response_class=Response)
    def report(
        incident_id: str,
        caller: Reader,
        format: Annotated[Literal["html", "markdown", "text", "postmortem"], Query()] = "html",
    ) -> Response:
        """One incident for people, to keep or to pass on: a self-contained page, Markdown, plain text, or the draft
        of a postmortem in Markdown.
        """
        from aiops.reports import incident as forms  # templates and charts, which starting need not wait for

        found, zone = incidents().get(incident_id, caller), services.settings.agent.zone
        if format == "html":
            return page(forms.html(found, zone))
        if format == "postmortem":
            from aiops.reports import postmortem

            past = incidents().similar(incident_id, caller, 3)
            return Response(postmortem.markdown(found, zone, past), media_type="text/markdown; charset=utf-8")
        if format == "markdown":
            return Response(forms.markdown(found, zone), media_type="text/markdown; charset=utf-8")
        return Response(forms.text(found, zone), media_type="text/plain; charset=utf-8")

    @routes.get("/{incident_id}/similar", response_model=SimilarList)
    def alike(incident_id: str, caller: Reader, limit: Annotated[int, Query(ge=1, le=20)] = 5) -> SimilarList:
        """Past incidents that were most like this one, why, and what ended them."""
        return SimilarList(
            similar=[
                SimilarOut(
                    incident=views.incident(s.incident), score=s.score, common=list(s.common), ended_by=list(s.ended_by)
                )
                for s in incidents().similar(incident_id, caller, limit)
            ]
        )

    @routes.post("/{incident_id}/acknowledge", response_model=IncidentOut)
    def acknowledge(incident_id: str, caller: Responder) -> IncidentOut:
        """Take an incident on; repeating it does nothing."""
        changed = incidents().acknowledge(incident_id, caller)
        services.audit.append(caller.name, "incident.acknowledge", incident_id)
        return views.incident(changed)

    @routes.post("/{incident_id}/resolve", response_model=IncidentOut)
    def resolve(incident_id: str, caller: Responder, body: ResolveIn | None = None) -> IncidentOut:
        """Close an incident by hand."""
        changed = incidents().resolve(incident_id, caller, body.reason if body else "")
        services.audit.append(caller.name, "incident.resolve", incident_id)
        return views.incident(changed)

    @routes.post("/{incident_id}/assign", response_model=IncidentOut)
    def assign(incident_id: str, body: AssignIn, caller: Responder) -> IncidentOut:
        """Name who works on it; repeating it does nothing."""
        changed = incidents().assign(incident_id, body.assignee, caller)
        services.audit.append(caller.name, "incident.assign", incident_id, {"assignee": changed.assignee})
        return views.incident(changed)

    @routes.post("/{incident_id}/notes", response_model=IncidentOut)
    def note(incident_id: str, body: NoteIn, caller: Responder) -> IncidentOut:
        """Add words to the timeline."""
        return views.incident(incidents().note(incident_id, caller, body.text))

    @routes.post("/{incident_id}/merge", response_model=IncidentOut)
    def merge(incident_id: str, body: MergeIn, caller: Responder) -> IncidentOut:
        """Move all signals into another incident, which is returned."""
        changed = incidents().merge(incident_id, body.into, caller)
        services.audit.append(caller.name, "incident.merge", incident_id, {"into": body.into})
        return views.incident(changed)

    @routes.post("/{incident_id}/split", response_model=IncidentOut, status_code=201)
    def split(incident_id: str, body: SplitIn, caller: Responder) -> IncidentOut:
        """Move some signals into an incident of their own, which is returned."""
        made = incidents().split(incident_id, body.fingerprints, caller, body.reason)
        services.audit.append(caller.name, "incident.split", incident_id, {"into": made.id, "reason": body.reason})
        return views.incident(made)

    return routes
