"""Models: versions, promotion, rollback, deletion, cards, comparison, drift, export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from aiops.api import views
from aiops.api.auth import Reader
from aiops.api.schemas_models import ComparisonOut, DriftReportList, DriftReportOut
from aiops.api.schemas_operations import ModelList, ModelOut, ModelVersionOut
from aiops.api.services import Services, running
from aiops.core.errors import Forbidden, InvalidInput, NotFound
from aiops.core.model import DriftReport, ModelAction, ModelVersion
from aiops.core.principal import Principal
from aiops.models.compare import Comparison
from aiops.models.drift import DriftWatch
from aiops.models.oversight import Oversight
from aiops.models.registry import ModelRegistry

REFERENCE = "NAME/VERSION, NAME@ALIAS or NAME"


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["models"])

    def registry() -> ModelRegistry:
        return running(services.models, "model registry")

    def oversight() -> Oversight:
        return running(services.oversight, "model layer")

    def watch() -> DriftWatch:
        return running(services.drift, "drift watch")

    def require(caller: Principal, action: ModelAction, name: str) -> None:
        try:
            services.model_access.require(caller, action, name)
        except Forbidden:
            services.audit.append(caller.name, "model.refused", name, {"action": action.value})
            raise

    def told(caller: Principal, verb: str, name: str, details: Mapping[str, str]) -> None:
        services.audit.append(caller.name, f"model.{verb}", name, dict(details))

    def referred(text: str) -> ModelVersion:
        name, _, version = text.partition("/" if "/" in text else "@")
        return oversight().find(name, version)

    @routes.get("/models", response_model=ModelList)
    def list_models(caller: Reader) -> ModelList:
        """Models that the caller may use, with their versions and aliases."""
        found = registry()
        names = [name for name in found.names() if services.model_access.allowed(caller, ModelAction.USE, name)]
        return ModelList(
            models=[ModelOut(name=n, versions=[views.model_version(v) for v in found.versions(n)]) for n in names]
        )

    @routes.get("/models/{name}", response_model=ModelOut)
    def show(name: str, caller: Reader) -> ModelOut:
        """One model's versions, the newest first."""
        found = registry()
        require(caller, ModelAction.USE, name)
        versions = found.versions(name)
        if not versions:
            raise NotFound(f"There is no model named '{name}'.")
        return ModelOut(name=name, versions=[views.model_version(v) for v in versions])

    def followed() -> None:
        """Requests are scored by the new champion at once; the detection takes it up with one of its next steps."""
        if services.scoring is not None:
            services.scoring.follow()

    @routes.post("/models/{name}/versions/{version}/promote", response_model=ModelVersionOut)
    def promote(name: str, version: str, caller: Reader) -> ModelVersionOut:
        """Make a version the champion: the one that scores."""
        found = registry()
        require(caller, ModelAction.PROMOTE, name)
        champion = found.promote(name, version)
        told(caller, "promote", name, {"version": champion.version})
        followed()
        return views.model_version(champion)

    @routes.post("/models/{name}/rollback", response_model=ModelVersionOut)
    def rollback(name: str, caller: Reader) -> ModelVersionOut:
        """Make the previous champion the champion again."""
        found = registry()
        require(caller, ModelAction.PROMOTE, name)
        champion = found.rollback(name)
        told(caller, "rollback", name, {"version": champion.version})
        followed()
        return views.model_version(champion)

    @routes.delete("/models/{name}/versions/{version}", status_code=204)
    def delete(name: str, version: str, caller: Reader) -> None:
        """Delete a version with its artifact; the champion and the challenger are kept."""
        found = registry()
        require(caller, ModelAction.DELETE, name)
        found.delete_version(name, version)
        told(caller, "delete", name, {"version": version})

    @routes.get("/models/{name}/versions/{version}/card", responses={200: {"content": {"text/markdown": {}}}})
    def card(name: str, version: str, caller: Reader, format: Literal["markdown", "html"] = "markdown") -> Response:
        """The model card, made from the record. ``version`` is a number or an alias."""
        found = oversight()
        require(caller, ModelAction.USE, name)
        made = found.card(name, version)
        told(caller, "card", name, {"version": version})
        if format == "html":
            return Response(made.html, media_type="text/html; charset=utf-8")
        return Response(made.markdown, media_type="text/markdown; charset=utf-8")

    @routes.get("/model-comparison", response_model=ComparisonOut)
    def compare(
        caller: Reader,
        first: Annotated[str, Query(max_length=300, description=REFERENCE)],
        second: Annotated[str, Query(max_length=300, description=REFERENCE)],
        hours: Annotated[float, Query(gt=0, le=168)] = 24.0,
        label: Annotated[str, Query(max_length=200, description="Group series by this label.")] = "",
    ) -> ComparisonOut:
        """Two versions: what differs, and whether they say the same of the same last hours."""
        found = oversight()
        for text in (first, second):
            require(caller, ModelAction.USE, text.partition("/" if "/" in text else "@")[0])
        made = found.compare(referred(first), referred(second), hours, label)
        told(caller, "compare", made.first.partition("/")[0], {"first": made.first, "second": made.second})
        return _comparison(made)

    @routes.get("/models/{name}/drift", response_model=DriftReportList)
    def drift(name: str, caller: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> DriftReportList:
        """Checks for drift, the newest first."""
        found = watch()
        require(caller, ModelAction.USE, name)
        return DriftReportList(reports=[_report(one) for one in found.history(name, limit)])

    @routes.post("/models/{name}/drift", response_model=DriftReportOut)
    def check_drift(name: str, caller: Reader) -> DriftReportOut:
        """Check the champion for drift now; drift that was found before as well asks for a training."""
        found = watch()
        require(caller, ModelAction.TRAIN, name)
        report = found.check(name)
        told(caller, "drift_check", name, {"drifted": str(report.drifted).lower(), "action": report.action})
        return _report(report)

    @routes.post(
        "/models/{name}/versions/{version}/export",
        response_class=Response,
        responses={200: {"content": {"application/zip": {}}}},
    )
    def export(name: str, version: str, caller: Reader) -> Response:
        """A version as an edge bundle, in a zip file. ``version`` is a number or an alias."""
        found = oversight()
        require(caller, ModelAction.EXPORT, name)
        chosen = found.find(name, version)
        data = found.export(chosen, caller.name)
        told(caller, "export", name, {"version": chosen.version, "bytes": str(len(data))})
        disposition = f'attachment; filename="{chosen.name}-{chosen.version}.zip"'
        if not disposition.isascii() or any(c in chosen.name for c in '"\r\n\\'):
            raise InvalidInput("The model's name cannot stand in a file name.")
        return Response(data, media_type="application/zip", headers={"content-disposition": disposition})

    return routes


def _report(report: DriftReport) -> DriftReportOut:
    return DriftReportOut.model_validate(asdict(report))


def _comparison(made: Comparison) -> ComparisonOut:
    def share(found: tuple[float, float, float]) -> dict[str, float]:
        return dict(zip(("value", "lower", "upper"), found, strict=True))

    data: dict[str, Any] = asdict(made)
    data["parameters"] = [dict(zip(("name", "first", "second"), one, strict=True)) for one in made.parameters]
    data["metrics"] = [dict(zip(("name", "first", "second"), one, strict=True)) for one in made.metrics]
    data["first_precision"], data["second_precision"] = share(made.first_precision), share(made.second_precision)
    data["agreement"] = [
        {**asdict(one), "first_above": share(one.first_above), "second_above": share(one.second_above)}
        for one in made.agreement
    ]
    return ComparisonOut.model_validate(data)
