"""The managed model layer: registry, training, serving, deployments, drift, money, access."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from aiops.core.principal import Role
from aiops.settings.section import Section


class RegistrySettings(Section):
    """Where models are recorded, and what is asked of an artifact."""

    tracking_url: str = ""
    """An MLflow server to record models with; empty means an MLflow database in the data folder."""
    tracking_token: SecretStr = SecretStr("")
    """Sent to it as a bearer token."""
    require_signature: bool = True
    """An artifact without a signature by a trusted key is refused; one that was changed is refused in any case."""
    signing_key_file: Path | None = None
    """PEM of an elliptic-curve private key to sign with; by default one is made in the data folder."""
    signing_key_password: SecretStr = SecretStr("")
    trusted_keys: tuple[Path, ...] = ()
    """PEMs of further public keys whose signatures count: of other machines, or of keys used before."""
    encryption_key: SecretStr = SecretStr("")
    """Any text; with it artifacts, snapshots and checkpoints are encrypted. Without it the store's key serves."""
    encryption_key_file: Path | None = None
    """Holds the key instead."""
    datasets_kept: int = Field(3, ge=0)
    """Newest snapshots kept of each model, besides those of its champion and challenger."""
    checkpoints_kept: int = Field(5, ge=1)
    """Newest checkpoints kept of each model."""
    trace_llm: bool = True
    """Record each call of an LLM as a trace: times, tokens and money."""
    trace_contents: bool = False
    """Record what was said in it as well."""


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
