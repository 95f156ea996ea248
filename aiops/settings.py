"""All settings in one place: the only reader of the environment and of ``aiops.yaml``.

Order, later wins: defaults, ``aiops.yaml``, environment (``AIOPS_SERVER__PORT=9000``), command-line flags.
Unknown keys stop the start with the nearest right name.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from aiops.core.errors import ConfigError

CONFIG_PLACES = (Path("aiops.yaml"), Path("/etc/aiops/aiops.yaml"))


def default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "aiops"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(8420, ge=0, le=65535)
    auth: Literal["none", "keys"] = "none"
    bootstrap_key_file: Path | None = None
    """Read once, while there is no key yet: its text becomes the first admin key."""
    public_url: str = ""
    max_body_bytes: int = 64 * 1024 * 1024
    max_inflight_bytes: int = Field(256 * 1024 * 1024, ge=0)
    """Bodies that receivers hold at once; above it senders are asked to come again. 0 means no limit."""
    requests_per_minute: int = 6000
    otlp_grpc_port: int = Field(0, ge=0, le=65535)
    """Port of OTLP over gRPC, by convention 4317; 0 means that it is off."""


class RetentionSettings(Section):
    """Days to keep of one signal; ``None`` means ``store.retention_days``, for costs for ever."""

    metrics: int | None = Field(None, ge=1)
    logs: int | None = Field(None, ge=1)
    traces: int | None = Field(None, ge=1)
    changes: int | None = Field(None, ge=1)
    costs: int | None = Field(None, ge=1)


class StoreSettings(Section):
    encryption_key: SecretStr = SecretStr("")
    """Any text; with it the telemetry's file, log, journal and what spills are encrypted."""
    encryption_key_file: Path | None = None
    """Holds the key instead."""
    backup_dir: Path | None = None
    """Administrators may have backups written below it over the network."""
    max_series: int = Field(2_000_000, ge=0)
    """Label sets that are known at one time; samples of further ones are refused. 0 means no limit."""
    memory_limit: str = "2GB"
    threads: int = 2
    cache_bytes: int = 384 * 1024 * 1024
    """Samples kept in memory: the newest as they came, and packed blocks that wide queries have read."""
    free_space_floor_bytes: int = 256 * 1024 * 1024
    retention_days: int = Field(30, ge=1)
    retention: RetentionSettings = RetentionSettings()
    max_bytes: int = Field(0, ge=0)
    """Above it the oldest day of metrics, logs, traces and changes goes, again and again; 0 means no limit."""
    rollup_5m_days: int = Field(0, ge=0)
    """Days that lowest, highest, sum, number and last of every 5 minutes are kept; 0 makes none."""
    rollup_1h_days: int = Field(400, ge=0)
    """The same of every hour."""
    future_limit_s: int = 600
    """Samples further ahead of the clock are refused."""

    def days_of(self, signal: str) -> int | None:
        """Days that ``signal`` is kept; ``None`` means for ever."""
        own: int | None = getattr(self.retention, signal)
        return own if own is not None or signal == "costs" else self.retention_days


class StateSettings(Section):
    url: str = Field("", repr=False)
    """SQLAlchemy URL; empty means SQLite in the data folder."""


class PromqlSettings(Section):
    lookback_s: int = 300
    timeout_s: float = 120.0
    max_samples: int = 50_000_000
    max_points: int = 11_000
    result_cache_bytes: int = Field(64 * 1024 * 1024, ge=0)
    """Answers of range queries kept, so that a refresh evaluates new steps only; 0 keeps none."""
    experimental_functions: bool = False


class OtlpSettings(Section):
    """How OpenTelemetry metrics become Prometheus series; the words are those of Prometheus' section ``otlp``."""

    translation_strategy: Literal[
        "UnderscoreEscapingWithSuffixes",
        "NoUTF8EscapingWithSuffixes",
        "UnderscoreEscapingWithoutSuffixes",
        "NoTranslation",
    ] = "UnderscoreEscapingWithSuffixes"
    promote_resource_attributes: tuple[str, ...] = ()
    promote_all_resource_attributes: bool = False
    ignore_resource_attributes: tuple[str, ...] = ()
    """Not promoted where all others are."""
    keep_identifying_resource_attributes: bool = False
    promote_scope_metadata: bool = False
    exponential_as_classic: bool = True
    """Exponential histograms are stored as native ones, and as classic buckets as well, which PromQL reads here."""
    classic_scale: int = Field(2, ge=-4, le=4)
    """Their buckets lie at the powers of 2^(2^-scale): with 2, four for each doubling."""
    delta_max_streams: int = Field(100_000, ge=1)
    delta_idle_s: float = Field(3600.0, gt=0)
    """A delta stream silent for longer starts again from zero."""


class RuleSettings(Section):
    files: tuple[str, ...] = ()
    """Rule files in Prometheus' format, by path or glob."""
    interval_s: float = Field(60.0, ge=0.1)
    """How often groups that name no interval are evaluated."""
    external_labels: dict[str, str] = Field(default_factory=dict)


class SloSettings(Section):
    """A service-level objective: the share of good events that is promised over a period.

    ``errors`` and ``total`` are PromQL rates of bad and of all events with ``[$window]`` as their range.
    """

    objective: float = Field(gt=0, lt=1)
    errors: str = Field(min_length=1)
    total: str = Field(min_length=1)
    service: str = ""
    period_days: float = Field(30.0, ge=1, le=90)


class PluginSettings(BaseModel):
    """``plugin`` is the file's name; the remaining keys are that plug-in's options.

    Only the plug-in knows which of its options are secret, so ``repr`` shows no option's value.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    plugin: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from ((name, getattr(self, name)) for name in type(self).model_fields)
        yield from ((name, "**********") for name in self.options)


class ReceiverSettings(PluginSettings):
    """A notifier. ``pages`` overrides the kind's default; ``matchers`` limit what it is told."""

    pages: bool | None = None
    matchers: tuple[str, ...] = ()
    per_minute: int = Field(120, ge=1)
    """Most messages a minute; more wait their turn."""
    min_signals: int = Field(1, ge=1)
    min_kinds: int = Field(1, ge=1)
    """Told once the incident holds so many signals, of so many kinds (alert, anomaly, rule, cost, security)."""
    escalate_after_s: float = Field(0.0, ge=0)
    """Told only of what nobody acknowledged for so long after it opened."""
    repeat_s: float = Field(0.0, ge=0)
    """Told again each so often while an incident is open and unacknowledged."""
    schedule: str = ""
    """A schedule of ``connectors.oncall``: told while ``person``, or anybody, is on call."""
    person: str = ""
    fallback: bool = False
    """Told instead while nobody is on call by ``schedule``, or it is not known who is."""


class ConnectorSettings(Section):
    """Configured plug-ins by name and kind."""

    telemetry: dict[str, PluginSettings] = Field(default_factory=lambda: {"host": PluginSettings(plugin="host")})
    clouds: dict[str, PluginSettings] = Field(default_factory=dict)
    inbound: dict[str, PluginSettings] = Field(
        default_factory=lambda: {"alertmanager": PluginSettings(plugin="alertmanager")}
    )
    oncall: dict[str, PluginSettings] = Field(default_factory=dict)
    executors: dict[str, PluginSettings] = Field(default_factory=dict)
    chat: dict[str, PluginSettings] = Field(default_factory=dict)


class WatchSettings(Section):
    """One watched query. ``direction`` is which way is bad; ``kind`` weighs it in root-cause ranking."""

    query: str
    step_s: float = 60.0
    kind: Literal["latency", "errors", "traffic", "saturation", "cost", "other"] = "other"
    direction: Literal["up", "down", "both"] = "both"
    unit: str = ""
    name: str = ""
    """Short and unique; empty makes one from the query."""
    least: float | None = Field(None, ge=0)
    """A deviation smaller than this, in the unit, is no incident; by default 0.02 of a ratio, else 0."""
    share: float = Field(0.1, ge=0)
    """Nor is one smaller than this share of the expected value."""


class SignalSettings(Section):
    """Series and signals made of spans and log lines."""

    series_limit: int = Field(20_000, ge=0)
    """Counters and histograms made of spans and log templates, at most."""
    templates_per_service: int = Field(1000, ge=1)
    log_signals: bool = True
    """Whether new, bursting and vanished log templates are anomalies."""
    learning_s: float = Field(3600.0, ge=0)
    """How long a service's log lines are known before a template can be new."""
    new_least: int = Field(20, ge=1)
    """Lines that a new template needs to be told of; of one of errors ``new_least_errors``."""
    new_least_errors: int = Field(3, ge=1)


class LoadSettings(Section):
    """What detection may ask of a metrics source of the user's own; the store of the service has no such limit."""

    queries_per_s: float = Field(5.0, gt=0)
    samples_per_s: float = Field(200_000.0, gt=0)
    series_per_query: int = Field(5000, ge=1)


class DetectionSettings(Section):
    enabled: bool = True
    step_s: float = 60.0
    """The step of the default watch list; detection runs when a step closes."""
    scrape_interval_s: float = Field(15.0, gt=0)
    """How often the watched metrics are scraped; the default list reads counters over four times as long."""
    watch: tuple[WatchSettings, ...] = ()
    """Empty means the default list: rate, errors and duration per service, saturation per host."""
    watch_rules: bool = True
    """Beside the default list, the results of recording rules (``level:metric:operations``), fifty at most."""
    detectors: tuple[str, ...] = ("seasonal_residual", "ridge_ar", "window_covariance", "stillness")
    train_window_s: float = 14 * 86400.0
    min_points: int = 120
    max_series: int = 20_000
    retrain_cron: str = "17 3 * * *"
    load_budget: LoadSettings = LoadSettings()


class MaintenanceSettings(Section):
    """From each time the five-field ``cron`` line fires in ``zone``, for ``duration_s``, what ``matchers`` hold for
    wakes nobody."""

    matchers: tuple[str, ...] = Field(min_length=1)
    cron: str
    zone: str = "UTC"
    duration_s: float = Field(gt=0, le=7 * 86400)


class InhibitRuleSettings(Section):
    """Alertmanager's ``inhibit_rules``: a firing source mutes targets that agree with it in ``equal`` labels."""

    source_matchers: tuple[str, ...] = Field(min_length=1)
    target_matchers: tuple[str, ...] = Field(min_length=1)
    equal: tuple[str, ...] = ()


class WatchdogSettings(Section):
    """An alert that fires always (Prometheus' ``Watchdog``), expected from the inbound ``source`` at least every
    ``timeout_s``; silence pages."""

    source: str = "alertmanager"
    matchers: tuple[str, ...] = ()
    timeout_s: float = Field(600.0, ge=1)


class HeartbeatSettings(Section):
    """Our own sign of life: a GET of ``url`` while all required parts are ready, for a dead man's switch elsewhere."""

    url: SecretStr = SecretStr("")
    interval_s: float = Field(60.0, ge=1)


class IncidentSettings(Section):
    false_alarms_per_day: float = 1.0
    min_duration_steps: int = 3
    resolve_after_steps: int = 8
    resolve_timeout_s: float = 300.0
    reopen_s: float = 900.0
    life_cap_s: float = 4 * 3600.0
    clear_cause_share: float = 0.3
    maintenance: dict[str, MaintenanceSettings] = Field(default_factory=dict)
    inhibit_rules: tuple[InhibitRuleSettings, ...] = ()
    watchdogs: dict[str, WatchdogSettings] = Field(default_factory=dict)
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    silence_max_s: float = Field(30 * 86400.0, gt=0)
    """The longest silence that people may set."""
    action_expiry_s: float = 900.0


class LlmSettings(Section):
    """Used where ``model`` is set or a key is found; otherwise the offline planner answers."""

    model: str = ""
    """``provider:model``, such as ``openai:gpt-5-mini``."""
    base_url: str = ""
    timeout_s: float = 30.0
    max_cost_per_day: float = 5.0
    max_calls_per_question: int = 6


class AgentSettings(Section):
    planner: Literal["auto", "offline", "llm"] = "auto"
    metrics_source: str = ""
    """A telemetry connector to ask metrics from; empty means the store, or the only Prometheus configured."""
    zone: str = "UTC"
    max_series: int = 1000
    deadline_s: float = 30.0
    llm: LlmSettings = LlmSettings()

    @field_validator("zone")
    @classmethod
    def known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except Exception as error:
            raise ValueError(f"'{value}' is not an IANA time zone name") from error
        return value


class BudgetSettings(Section):
    amount: float = Field(gt=0)
    currency: str = "USD"
    where: dict[str, str] = Field(default_factory=dict)


class CostSettings(Section):
    budgets: dict[str, BudgetSettings] = Field(default_factory=dict)
    scope_columns: dict[str, str] = Field(default_factory=dict)
    """Label name of a scope to the FOCUS column that it restricts."""
    monthly_variation: float = 0.12


class SmtpSettings(Section):
    host: str = ""
    port: int = 25
    sender: str = ""
    username: str = ""
    password: SecretStr = SecretStr("")
    starttls: bool = False


class ReportSettings(Section):
    """A scheduled report: five-field cron in an IANA zone, delivered to a folder, e-mail, or Slack channel."""

    kind: Literal["cost"] = "cost"
    cron: str = "0 8 * * 1"
    zone: str = "UTC"
    to_file: str = ""
    to_email: tuple[str, ...] = ()
    to_slack: str = ""


class ActionSettings(Section):
    enabled: bool = True
    silence_max_s: float = 4 * 3600.0


class TelemetrySettings(Section):
    """The service's own telemetry; ``export_url`` sends it to an OTLP collector as well."""

    interval_s: float = 5.0
    export_url: str = ""
    log_level: str = "INFO"


class Settings(BaseSettings):
    """Everything that can be set. ``url`` and ``api_key`` are read by the CLI."""

    model_config = SettingsConfigDict(
        env_prefix="AIOPS_", env_nested_delimiter="__", extra="forbid", frozen=True, populate_by_name=True
    )

    data_dir: Path = Field(default_factory=default_data_dir)
    url: str = ""
    api_key: SecretStr = SecretStr("")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    state: StateSettings = StateSettings()
    promql: PromqlSettings = PromqlSettings()
    otlp: OtlpSettings = OtlpSettings()
    rules: RuleSettings = RuleSettings()
    slos: dict[str, SloSettings] = Field(default_factory=dict)
    connectors: ConnectorSettings = ConnectorSettings()
    receivers: dict[str, ReceiverSettings] = Field(default_factory=dict)
    detection: DetectionSettings = DetectionSettings()
    signals: SignalSettings = SignalSettings()
    incidents: IncidentSettings = IncidentSettings()
    agent: AgentSettings = AgentSettings()
    cost: CostSettings = CostSettings()
    reports: dict[str, ReportSettings] = Field(default_factory=dict)
    smtp: SmtpSettings = SmtpSettings()
    actions: ActionSettings = ActionSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    openai_api_key: SecretStr = Field(SecretStr(""), validation_alias="OPENAI_API_KEY")
    openai_base_url: str = Field("", validation_alias="OPENAI_BASE_URL")
    slack_bot_token: SecretStr = Field(SecretStr(""), validation_alias="SLACK_BOT_TOKEN")
    slack_app_token: SecretStr = Field(SecretStr(""), validation_alias="SLACK_APP_TOKEN")
    slack_signing_secret: SecretStr = Field(SecretStr(""), validation_alias="SLACK_SIGNING_SECRET")


def load_settings(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from defaults, the configuration file, the environment and ``overrides`` (flags).

    Args:
        config: the file to read; without one the first of ``./aiops.yaml``, ``/etc/aiops/aiops.yaml`` that exists.
        overrides: nested values that win over all else.

    Raises:
        ConfigError: a file that cannot be read, a wrong value, an unknown key or ``AIOPS_`` variable.
    """
    file_values = _read_yaml(config)
    _check_environment()

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, file_values)

    try:
        return Loaded(**(overrides or {}))
    except (ValidationError, SettingsError) as error:
        raise ConfigError(_one_line(error), hint="`aiops config show` prints all names and defaults.") from error


def _read_yaml(config: Path | None) -> dict[str, Any]:
    path = config or next((p for p in CONFIG_PLACES if p.is_file()), None)
    if path is None:
        return {}
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"The configuration file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"The configuration file {path} is not valid YAML: {' '.join(str(error).split())}."
        ) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"The configuration file {path} must hold a mapping at its top.")
    return data


def _check_environment() -> None:
    """Refuse an ``AIOPS_`` variable that no setting reads."""
    known = {f"AIOPS_{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith("AIOPS_") and name.split("__")[0].upper() not in known:
            near = difflib.get_close_matches(name.split("__")[0].upper(), known, n=1)
            raise ConfigError(
                f"The environment variable {name} is not a setting.",
                hint=f"Did you mean {near[0]}?" if near else "",
            )


def _one_line(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return f"{error}."
    parts = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(item["loc"][-1]), _keys_at(item["loc"][:-1]), n=1)
            parts.append(f"unknown key '{place}'" + (f", did you mean '{near[0]}'?" if near else ""))
        else:
            parts.append(f"{place}: {item['msg']}")
    text = "; ".join(parts)
    return text if text.endswith("?") else f"{text}."


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """The right keys at a place in the tree of sections."""
    model: Any = Settings
    for part in place:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        model = field.annotation
        for argument in get_args(model):
            if isinstance(argument, type) and issubclass(argument, BaseModel):
                model = argument
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
