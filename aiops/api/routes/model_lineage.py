"""What is behind an anomaly; snapshots and checkpoints of a model."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from aiops.api.auth import Reader
from aiops.api.schemas_lineage import CheckpointList, CheckpointOut, DatasetList, DatasetOut, LineageOut
from aiops.api.services import Services, running
from aiops.core.errors import Forbidden
from aiops.core.model import ModelAction
from aiops.core.principal import Principal


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["models"])

    def require(caller: Principal, action: ModelAction, name: str) -> None:
        try:
            services.model_access.require(caller, action, name)
        except Forbidden:
            services.audit.append(caller.name, "model.refused", name, {"action": action.value})
            raise

    @routes.get("/anomalies/{anomaly_id}/lineage", response_model=LineageOut)
    def lineage(anomaly_id: str, caller: Reader) -> LineageOut:
        """From an anomaly back to version, snapshot, code, parameters, parents, checkpoint, job and trials."""
        anomaly = running(services.anomalies, "detection").get(anomaly_id, caller)
        require(caller, ModelAction.USE, anomaly.model.partition("/")[0])
        return LineageOut.of(running(services.lineage, "model registry").of(anomaly))

    @routes.get("/models/{name}/datasets", response_model=DatasetList)
    def datasets(name: str, caller: Reader) -> DatasetList:
        """Snapshots that the model was trained on and that are still kept, the newest first."""
        require(caller, ModelAction.USE, name)
        found = running(services.datasets, "model registry").of(name)
        return DatasetList(datasets=[DatasetOut(**asdict(one)) for one in found])

    @routes.get("/models/{name}/checkpoints", response_model=CheckpointList)
    def checkpoints(name: str, caller: Reader) -> CheckpointList:
        """States in service that were kept, the newest first."""
        require(caller, ModelAction.USE, name)
        found = running(services.checkpoints, "model registry").list(name)
        return CheckpointList(checkpoints=[CheckpointOut.of(one) for one in found])

    @routes.post("/models/{name}/checkpoints/{checkpoint_id}/restore", response_model=CheckpointOut)
    def restore(name: str, checkpoint_id: int, caller: Reader) -> CheckpointOut:
        """Serve an earlier state of the version in service, if it passes the output checks."""
        require(caller, ModelAction.PROMOTE, name)
        made = running(services.restore_checkpoint, "detection")(name, checkpoint_id, caller.name)
        services.audit.append(
            caller.name, "model.restore", name, {"checkpoint": str(checkpoint_id), "version": made.version}
        )
        return CheckpointOut.of(made)

    return routes
