"""The managed model layer: registry, training, serving, deployments, drift, money, access."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from aiops.core.model import UseKind
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


class TrainingGroupSettings(Section):
    """Series that have a model of their own. The first group of a series is its group."""

    match: tuple[str, ...] = ()
    """Matchers of labels, such as ``service_name="checkout"``; all must hold."""
    watch: tuple[str, ...] = ("*",)
    """Shell patterns of names of watched entries."""


class TrainingSettings(Section):
    """Training and batch scoring: jobs that take turns and never delay scoring."""

    groups: dict[str, TrainingGroupSettings] = Field(default_factory=dict)
    """Named groups of series with a model of their own, ``anomaly-<step>-<name>``; the rest share their step's."""
    executor: Literal["process", "thread", "ray"] = "process"
    """Where the fitting runs: worker processes of low priority, the service's own threads, or a Ray cluster."""
    process_points: int = Field(2_000_000, ge=0)
    """A window of fewer points is fitted in the service itself: starting a process would take longer."""
    processes: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    """Of each worker process."""
    niceness: int = Field(15, ge=0, le=19)
    """Of the worker processes: 19 takes only what nobody else wants."""
    ray_address: str = ""
    """Of the cluster's head, as ``ray.init`` takes it; empty finds a cluster on this machine or starts one."""
    jobs_at_once: int = Field(1, ge=1)
    """Trainings that one service runs at once."""
    batch_jobs_at_once: int = Field(1, ge=1)
    """Batch scorings that one service runs at once."""
    jobs_per_day: int = Field(50, ge=0)
    """Trainings and batch scorings that one principal may start on a UTC day; schedules have no such limit."""
    team_jobs_per_day: int = Field(200, ge=0)
    """The same for all principals of a team, by ``models.cost.teams``."""
    calibration_days: float = Field(7.0, ge=0)
    """A scheduled training takes the calibration of a series from the champion while that is younger; 0 never does."""


class ServingSettings(Section):
    """Scoring in real time: workers, their bounds and the latency that they must hold."""

    warm: tuple[str, ...] = ("*",)
    """Shell patterns of names of models that are loaded at the start, before anybody asks."""
    models_kept: int = Field(16, ge=1)
    """Versions kept in memory; the one that was asked for least lately makes room."""
    min_workers: int = Field(1, ge=1)
    max_workers: int = Field(4, ge=1)
    latency_ms: float = Field(50.0, gt=0)
    """The objective: another worker starts where requests wait longer for one than this."""
    idle_s: float = Field(30.0, gt=0)
    """A worker above the minimum ends after so long without work."""
    window_ms: float = Field(2.0, ge=0)
    """How long a request waits for others to be scored with, in one call of the detector."""
    max_series: int = Field(1024, ge=1)
    """Series in one call of the detector."""
    deadline_ms: float = Field(2000.0, gt=0)
    """Of a request that names none; what is not scored by then is answered 503."""
    max_waiting: int = Field(256, ge=1)
    """Requests in hand; further ones are answered 429."""
    waiting_points: int = Field(4_000_000, ge=1)
    """Values that may wait, all requests together; further requests are answered 429."""
    request_points: int = Field(1_000_000, ge=1)
    """Values in one request."""


class DeploymentSettings(Section):
    """How a challenger is tried, and what ends the trial."""

    auto_promote: bool = True
    """Whether a candidate that held every guard becomes the champion by itself."""
    min_sample: int = Field(1000, ge=1)
    """Values that both versions must have scored before the candidate can be promoted."""
    min_time_s: float = Field(3600.0, ge=0)
    """And how long the trial must have run."""
    max_time_s: float = Field(86_400.0, gt=0)
    """A trial that is not decided by then is ended: promoted with a sufficient sample, else rolled back."""
    false_rollback_rate: float = Field(0.01, gt=0, lt=1)
    """Chance that a candidate at the limit of every guard is rolled back in a trial of any length."""
    max_alert_ratio: float = Field(2.0, ge=1)
    """Episodes that the candidate alone sees may be so many times those that the stable version alone sees."""
    max_alone_share: float = Field(0.2, gt=0, lt=1)
    """Share of the series that may have an episode that the candidate alone sees."""
    min_agreement: float = Field(0.05, ge=0, lt=1)
    """Share of all episodes that both must see."""
    max_latency_ratio: float = Field(3.0, gt=1)
    """A call is slow where the candidate takes so many times the stable version's time, and longer than
    ``serving.latency_ms``; more than half of the calls must not be."""
    max_cost_ratio: float = Field(3.0, gt=1)
    """A call is dear where the candidate takes so many times the stable version's processor time; the same holds."""
    max_nan_share: float = Field(0.01, gt=0, lt=1)
    """Share of the series to which the candidate may give no score where the stable version does."""
    max_error_share: float = Field(0.01, gt=0, lt=1)
    """Share of calls that may fail."""
    min_precision: float = Field(0.3, gt=0, lt=1)
    """Share of the candidate's marked anomalies that people must have found true."""


class DriftSettings(Section):
    """How far inputs and outputs may move before a retraining starts."""

    enabled: bool = True
    """Whether champions are checked by themselves."""
    cron: str = "23 4 * * *"
    """When, in UTC."""
    window_hours: float = Field(24.0, gt=0)
    """The last hours that are compared with the training window."""
    false_discovery_rate: float = Field(0.05, gt=0, lt=1)
    """Share of the series called drifted that may be so by chance."""
    min_psi: float = Field(0.2, ge=0)
    """Least population stability index of a drift that matters; 0.2 is about half a standard deviation."""
    max_share: float = Field(0.1, ge=0, lt=1)
    """Share of the series, or of the services, that may drift before the model counts as drifted."""
    max_alert_ratio: float = Field(3.0, ge=1)
    """How many times as often as in its training window a model may alarm."""
    min_precision: float = Field(0.3, ge=0, lt=1)
    """Share of the model's marked anomalies that people must have found true."""
    max_groups: int = Field(50, ge=1)
    """Services whose joint values are tested."""
    confirmations: int = Field(2, ge=1)
    """Checks in a row that must find drift before a training is asked for."""
    rest_hours: float = Field(72.0, ge=0)
    """Least time between two such trainings of a model."""


class OversightSettings(Section):
    """What model cards look at."""

    groups: tuple[str, ...] = ()
    """Labels, such as ``team``, over whose values false alarms must be evenly spread."""
    days: float = Field(90.0, gt=0)
    """Days of marks, alarms and costs."""


class TokenPriceSettings(Section):
    """Prices of one LLM in place of the published ones, USD per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class ModelBudgetSettings(Section):
    """What models may cost on a UTC day. What would exceed it is refused before it is done."""

    per_day: float = Field(ge=0)
    """USD."""
    model: str = "*"
    """A shell pattern of model names."""
    team: str = ""
    """Only what this team's principals do; empty means all."""
    kinds: tuple[UseKind, ...] = ()
    """Only these kinds of use; empty means all."""


class ModelCostSettings(Section):
    """What a second of training and a score cost, and how much may be spent."""

    cpu_hour: float = Field(0.04, ge=0)
    """USD of an hour of one processor core, about what clouds list for one."""
    gpu_hours: dict[str, float] = Field(
        default_factory=lambda: {"H200": 3.8, "H100": 3.0, "A100": 1.8, "L40S": 1.2, "L4": 0.7, "other": 1.0}
    )
    """USD of an hour of a GPU whose name holds the key, the first that does; ``other`` is for the rest."""
    llm_prices: dict[str, TokenPriceSettings] = Field(default_factory=dict)
    """By ``provider:model``; others are priced by their published prices."""
    teams: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Team to shell patterns of its principals, such as ``key:1a2b3c4d``; the first that matches holds."""
    budgets: dict[str, ModelBudgetSettings] = Field(default_factory=dict)
    currency: str = Field("USD", min_length=3, max_length=3)
    """Of the rows in the cost table; best the one of the other bills, as currencies are never added up."""
    usd_rate: float = Field(1.0, gt=0)
    """What one USD is in that currency."""


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
    oversight: OversightSettings = OversightSettings()
    cost: ModelCostSettings = ModelCostSettings()
    access: tuple[ModelAccessSettings, ...] = ()
    """The first entry whose pattern matches a model's name decides; without one the defaults hold."""
