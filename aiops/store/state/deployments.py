"""Trials of model versions, as they were last saved."""

from __future__ import annotations

from sqlalchemy import select

from aiops.core.model import Deployment, DeploymentState
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import DeploymentRow


class DeploymentRepository:
    """Deployments by id, by model and by state."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def save(self, deployment: Deployment) -> None:
        """Insert, or replace the record of the same id."""
        with self._database.session() as session:
            session.merge(
                DeploymentRow(
                    id=deployment.id,
                    model=deployment.model,
                    state=deployment.state.value,
                    started_ms=deployment.started_ms,
                    body=codec.dumps(deployment),
                )
            )

    def get(self, deployment_id: str) -> Deployment | None:
        with self._database.reader() as session:
            body = session.scalar(select(DeploymentRow.body).where(DeploymentRow.id == deployment_id))
        return None if body is None else codec.loads(Deployment, body)

    def list(self, model: str = "", state: DeploymentState | None = None, limit: int = 100) -> tuple[Deployment, ...]:
        """The newest first."""
        query = select(DeploymentRow.body).order_by(DeploymentRow.started_ms.desc(), DeploymentRow.id).limit(limit)
        if model:
            query = query.where(DeploymentRow.model == model)
        if state is not None:
            query = query.where(DeploymentRow.state == state.value)
        with self._database.reader() as session:
            return tuple(codec.loads(Deployment, body) for body in session.scalars(query))
