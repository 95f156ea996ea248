"""From an anomaly back to what made it: version, snapshot, code, parameters, parents, checkpoint, job, deployments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiops.core.anomaly import Anomaly
from aiops.core.errors import AiopsError, NotFound
from aiops.core.model import Dataset, Deployment, ModelVersion
from aiops.models.checkpoints import Checkpoints
from aiops.models.datasets import DatasetStore
from aiops.models.registry import ModelRegistry
from aiops.store.state.checkpoints import Checkpoint

PARENTS = 20
"""Parents shown at most."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is behind one anomaly.

    Attributes:
        model: the reference that the anomaly names.
        version: ``None`` where no registered version scored it.
        verified: the artifact's signature holds now.
        dataset: the snapshot, while it is kept; its hash is in ``version.dataset``.
        parents: earlier versions, the nearest first.
        checkpoint: the state of that version kept last before the anomaly began; ``None``: as it was trained.
        job: the training job.
        deployments: trials of that version, or against it.
        gaps: what is not known, and why.
    """

    anomaly: Anomaly
    model: str
    version: ModelVersion | None = None
    verified: bool = False
    dataset: Dataset | None = None
    parents: tuple[ModelVersion, ...] = ()
    checkpoint: Checkpoint | None = None
    job: str = ""
    deployments: tuple[Deployment, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """Release and revision that trained it."""
        return dict(self.version.parameters).get("code", "") if self.version else ""


class LineageReader:
    """Puts the records together; each part that is missing becomes a gap, none of them an error.

    Args:
        deployments: trials of a model, the newest first.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        datasets: DatasetStore,
        checkpoints: Checkpoints,
        deployments: Callable[[str], Sequence[Deployment]] = lambda _model: (),
    ) -> None:
        self._registry = registry
        self._datasets = datasets
        self._checkpoints = checkpoints
        self._deployments = deployments

    def of(self, anomaly: Anomaly) -> Lineage:
        """The lineage of an anomaly.

        Raises:
            TransientError: the records cannot be read.
        """
        name, _, number = anomaly.model.partition("/")
        if not number.isdigit():
            why = f"'{anomaly.model}' is a rule" if anomaly.model else "nothing is noted"
            return Lineage(anomaly, anomaly.model, gaps=(f"No registered version scored it: {why}.",))
        try:
            version = self._registry.version(name, number)
        except NotFound:
            return Lineage(anomaly, anomaly.model, gaps=(f"The version {anomaly.model} has been deleted.",))
        gaps: list[str] = []
        told = dict(version.parameters)
        parents = self._parents(version, gaps)
        return Lineage(
            anomaly,
            anomaly.model,
            version,
            self._verified(version, gaps),
            self._dataset(version, gaps),
            parents,
            self._checkpoint(version, anomaly.started_ms),
            told.get("job", ""),
            tuple(d for d in self._deployments(name) if number in (d.stable, d.candidate)),
            tuple(gaps),
        )

    def _verified(self, version: ModelVersion, gaps: list[str]) -> bool:
        try:
            with self._registry.folder_of(version):
                return True
        except AiopsError as error:
            gaps.append(error.message)
            return False

    def _dataset(self, version: ModelVersion, gaps: list[str]) -> Dataset | None:
        try:
            return self._datasets.get(version.dataset)
        except NotFound:
            gaps.append(f"The snapshot {version.dataset[:19]}… is not kept any more.")
            return None

    def _parents(self, version: ModelVersion, gaps: list[str]) -> tuple[ModelVersion, ...]:
        found: list[ModelVersion] = []
        parent = dict(version.parameters).get("parent", "")
        while parent and len(found) < PARENTS:
            try:
                found.append(self._registry.lookup(parent))
            except NotFound:
                gaps.append(f"The parent {parent} has been deleted.")
                break
            parent = dict(found[-1].parameters).get("parent", "")
        return tuple(found)

    def _checkpoint(self, version: ModelVersion, before_ms: int) -> Checkpoint | None:
        kept = self._checkpoints.list(version.name)
        return next((c for c in kept if c.version == version.reference and c.created_ms <= before_ms), None)
