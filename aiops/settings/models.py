"""The managed model layer: registry, training, serving, deployments, drift, money, access."""

from __future__ import annotations

from pydantic import Field

from aiops.core.principal import Role
from aiops.settings.section import Section


class RegistrySettings(Section):
    """Where models are recorded, and what is asked of an artifact."""


class TrainingSettings(Section):
    """Training and batch scoring: jobs that take turns and never delay scoring."""


class ServingSettings(Section):
    """Scoring in real time: workers, their bounds and the latency that they must hold."""


class DeploymentSettings(Section):
    """How a challenger is tried, and what ends the trial."""


class DriftSettings(Section):
    """How far inputs and outputs may move before a retraining starts."""


class ModelCostSettings(Section):
    """What a second of training and a score cost, and how much may be spent."""


class ModelAccessSettings(Section):
    """Who may do what to models whose name matches ``models``: the least role, or a principal by name."""

    models: str = "*"
    """A shell pattern of model names."""
    use: Role = Role.VIEWER
    train: Role = Role.RESPONDER
    promote: Role = Role.ADMIN
    export: Role = Role.ADMIN
    delete: Role = Role.ADMIN
    principals: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Action to the principals, such as ``key:1a2b3c4d``, that may do it besides."""


class ModelSettings(Section):
    registry: RegistrySettings = RegistrySettings()
    training: TrainingSettings = TrainingSettings()
    serving: ServingSettings = ServingSettings()
    deployment: DeploymentSettings = DeploymentSettings()
    drift: DriftSettings = DriftSettings()
    cost: ModelCostSettings = ModelCostSettings()
    access: tuple[ModelAccessSettings, ...] = ()
    """The first entry whose pattern matches a model's name decides; without one the defaults hold."""
