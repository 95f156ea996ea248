"""Lineage and checkpoints as the API gives them."""

from __future__ import annotations

from pydantic import BaseModel

from aiops.models.lineage import Lineage
from aiops.store.state.checkpoints import Checkpoint


class CheckpointOut(BaseModel):
    """A state kept under a version. ``detail`` says why, and up to which step it has seen (``end_ms``)."""

    id: int
    model: str
    version: str
    created_ms: int
    sha256: str
    detail: dict[str, str]

    @classmethod
    def of(cls, one: Checkpoint) -> CheckpointOut:
        return cls(
            id=one.id,
            model=one.model,
            version=one.version,
            created_ms=one.created_ms,
            sha256=one.digest,
            detail=dict(one.detail),
        )


class CheckpointList(BaseModel):
    checkpoints: list[CheckpointOut]


class DatasetOut(BaseModel):
    """A snapshot: half-open range in ms UTC, observed points, and the Parquet file below the data folder."""

    id: str
    name: str
    query: str
    start_ms: int
    end_ms: int
    step_ms: int
    series: int
    points: int
    path: str
    created_ms: int


class DatasetList(BaseModel):
    datasets: list[DatasetOut]


class TrialOut(BaseModel):
    id: str
    strategy: str
    stable: str
    candidate: str
    state: str
    started_ms: int
    reason: str


class LineageOut(BaseModel):
    """What is behind an anomaly; ``gaps`` are what is not known, and why."""

    anomaly_id: str
    model: str
    version: str
    family: str
    run_id: str
    trained_ms: int
    aliases: list[str]
    verified: bool
    code: str
    job: str
    parameters: dict[str, str]
    metrics: dict[str, float]
    dataset_id: str
    dataset: DatasetOut | None
    parents: list[str]
    checkpoint: CheckpointOut | None
    deployments: list[TrialOut]
    gaps: list[str]

    @classmethod
    def of(cls, found: Lineage) -> LineageOut:
        version = found.version
        return cls(
            anomaly_id=found.anomaly.id,
            model=found.model,
            version=version.version if version else "",
            family=version.family if version else "",
            run_id=version.run_id if version else "",
            trained_ms=version.created_ms if version else 0,
            aliases=list(version.aliases) if version else [],
            verified=found.verified,
            code=found.code,
            job=found.job,
            parameters=dict(version.parameters) if version else {},
            metrics=dict(version.metrics) if version else {},
            dataset_id=version.dataset if version else "",
            dataset=None
            if found.dataset is None
            else DatasetOut(**{name: getattr(found.dataset, name) for name in DatasetOut.model_fields}),
            parents=[parent.reference for parent in found.parents],
            checkpoint=None if found.checkpoint is None else CheckpointOut.of(found.checkpoint),
            deployments=[
                TrialOut(
                    **{name: str(getattr(d, name)) for name in TrialOut.model_fields if name != "started_ms"},
                    started_ms=d.started_ms,
                )
                for d in found.deployments
            ],
            gaps=list(found.gaps),
        )
