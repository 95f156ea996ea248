"""The model registry: versions, promotion, rollback."""

from __future__ import annotations

from fastapi import APIRouter

from aiops.api import views
from aiops.api.auth import Administrator, Reader
from aiops.api.schemas_operations import ModelList, ModelOut, ModelVersionOut
from aiops.api.services import Services, running
from aiops.core.errors import NotFound
from aiops.models.registry import ModelRegistry


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/models", tags=["models"])

    def registry() -> ModelRegistry:
        return running(services.models, "model registry")

    def listed(name: str) -> ModelOut:
        return ModelOut(name=name, versions=[views.model_version(v) for v in registry().versions(name)])

    @routes.get("", response_model=ModelList)
    def list_models(_caller: Reader) -> ModelList:
        """Models with their versions and aliases."""
        return ModelList(models=[listed(name) for name in registry().names()])

    @routes.get("/{name}", response_model=ModelOut)
    def show(name: str, _caller: Reader) -> ModelOut:
        """One model's versions, the newest first."""
        found = listed(name)
        if not found.versions:
            raise NotFound(f"There is no model named '{name}'.")
        return found

    @routes.post("/{name}/versions/{version}/promote", response_model=ModelVersionOut)
    def promote(name: str, version: str, caller: Administrator) -> ModelVersionOut:
        """Make a version the champion: the one that scores."""
        champion = registry().promote(name, version)
        services.audit.append(caller.name, "model.promote", name, {"version": champion.version})
        return views.model_version(champion)

    @routes.post("/{name}/rollback", response_model=ModelVersionOut)
    def rollback(name: str, caller: Administrator) -> ModelVersionOut:
        """Make the previous champion the champion again."""
        champion = registry().rollback(name)
        services.audit.append(caller.name, "model.rollback", name, {"version": champion.version})
        return views.model_version(champion)

    return routes
