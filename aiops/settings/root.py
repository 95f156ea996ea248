"""The root of the settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from aiops.settings.agent import AgentSettings
from aiops.settings.connectors import ConnectorSettings, ReceiverSettings
from aiops.settings.cost import CostSettings, ReportSettings
from aiops.settings.detection import DetectionSettings, SignalSettings
from aiops.settings.incidents import (
    ActionSettings,
    IncidentSettings,
)
from aiops.settings.metrics import OtlpSettings, PromqlSettings, RuleSettings, SloSettings
from aiops.settings.models import ModelSettings
from aiops.settings.server import ServerSettings, SmtpSettings, TelemetrySettings
from aiops.settings.store import StateSettings, StoreSettings


def default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "aiops"


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
    models: ModelSettings = ModelSettings()
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
