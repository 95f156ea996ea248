"""Trials of model versions: shadow, canary, blue/green."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from aiops.api.auth import Reader
from aiops.api.schemas_deployments import DeploymentIn, DeploymentList, DeploymentOut, EndIn, GuardOut
from aiops.api.services import Services, running
from aiops.core.errors import Forbidden
from aiops.core.model import Deployment, ModelAction
from aiops.core.principal import Principal
from aiops.models.deployments import Deployments


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["models"])

    def deployments() -> Deployments:
        return running(services.deployments, "deployments")

    def require(caller: Principal, action: ModelAction, name: str) -> None:
        try:
            services.model_access.require(caller, action, name)
        except Forbidden:
            services.audit.append(caller.name, "model.refused", name, {"action": action.value})
            raise

    def shown(found: Deployment) -> DeploymentOut:
        guards = [GuardOut(**asdict(g), broken=g.broken) for g in deployments().guards(found)]
        return DeploymentOut.model_validate({**asdict(found), "measures": dict(found.measures), "guards": guards})

    @routes.get("/deployments", response_model=DeploymentList)
    def list_deployments(
        caller: Reader,
        model: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> DeploymentList:
        """Trials, the newest first, with their figures."""
        found = deployments().status(model, limit)
        allowed = [d for d in found if services.model_access.allowed(caller, ModelAction.USE, d.model)]
        return DeploymentList(deployments=[shown(d) for d in allowed])

    @routes.get("/deployments/{deployment_id}", response_model=DeploymentOut)
    def show(deployment_id: str, caller: Reader) -> DeploymentOut:
        """One trial with its guards."""
        found = deployments().get(deployment_id)
        require(caller, ModelAction.USE, found.model)
        return shown(found)

    @routes.post("/models/{name}/deployments", response_model=DeploymentOut, status_code=201)
    def start(name: str, body: DeploymentIn, caller: Reader) -> DeploymentOut:
        """Try a version beside the champion. It is ended by its guards, or by people."""
        trials = deployments()
        require(caller, ModelAction.PROMOTE, name)
        return shown(trials.start(name, body.version, body.strategy, body.share, caller.name))

    def to_end(deployment_id: str, caller: Principal) -> str:
        found = deployments().get(deployment_id)
        require(caller, ModelAction.PROMOTE, found.model)
        return found.id

    @routes.post("/deployments/{deployment_id}/promote", response_model=DeploymentOut)
    def promote(deployment_id: str, body: EndIn, caller: Reader) -> DeploymentOut:
        """End a trial by making the candidate the champion."""
        return shown(deployments().promote(to_end(deployment_id, caller), caller.name, body.reason))

    @routes.post("/deployments/{deployment_id}/rollback", response_model=DeploymentOut)
    def roll_back(deployment_id: str, body: EndIn, caller: Reader) -> DeploymentOut:
        """End a trial by letting the champion serve all again."""
        return shown(deployments().roll_back(to_end(deployment_id, caller), caller.name, body.reason))

    @routes.post("/deployments/{deployment_id}/stop", response_model=DeploymentOut)
    def stop(deployment_id: str, body: EndIn, caller: Reader) -> DeploymentOut:
        """End a trial without a verdict; the champion serves all."""
        return shown(deployments().stop(to_end(deployment_id, caller), caller.name, body.reason))

    return routes
