"""Remedial actions: proposals and what people decide on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from aiops.actions.approval import ActionService
from aiops.api import views
from aiops.api.auth import Approver, Proposer, Reader
from aiops.api.schemas import ActionList, ActionOut, ApproveIn, ProposeIn, RejectIn
from aiops.api.services import Services, running
from aiops.core.action import Action, ProposalStatus


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/actions", tags=["actions"])

    def actions() -> ActionService:
        return running(services.actions, "action service")

    @routes.get("", response_model=ActionList)
    def list_actions(
        caller: Reader,
        status: ProposalStatus | None = None,
        incident_id: Annotated[str, Query(max_length=80)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> ActionList:
        """Proposals, the newest first."""
        found = actions().list(caller, status, incident_id, limit)
        return ActionList(actions=[views.action(a) for a in found])

    @routes.post("", response_model=ActionOut, status_code=201)
    def propose(body: ProposeIn, caller: Proposer) -> ActionOut:
        """Propose an action; it needs a measured trigger on that very target, and a person's approval to run."""
        action = Action(body.kind, body.target, tuple(sorted(body.parameters.items())))
        return views.action(actions().propose(action, body.incident_id, body.reason, caller))

    @routes.get("/{action_id}", response_model=ActionOut)
    def show(action_id: str, caller: Reader) -> ActionOut:
        """One proposal, with the digest that an approval names."""
        return views.action(actions().get(action_id, caller))

    @routes.post("/{action_id}/approve", response_model=ActionOut)
    def approve(action_id: str, body: ApproveIn, caller: Approver) -> ActionOut:
        """Approve and carry out, once, exactly what the digest was made of."""
        return views.action(actions().approve(action_id, body.digest, caller))

    @routes.post("/{action_id}/reject", response_model=ActionOut)
    def reject(action_id: str, caller: Proposer, body: RejectIn | None = None) -> ActionOut:
        """Turn a proposal down."""
        return views.action(actions().reject(action_id, caller, body.reason if body else ""))

    return routes
