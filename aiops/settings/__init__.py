"""All settings in one place: this package is the only reader of the environment and of ``aiops.yaml``.

Order, later wins: defaults, ``aiops.yaml``, environment (``AIOPS_SERVER__PORT=9000``), command-line flags.
Unknown keys stop the start with the nearest right name. One file holds the sections of one organ.
"""

from __future__ import annotations

from aiops.settings.agent import AgentSettings, LlmSettings
from aiops.settings.connectors import ConnectorSettings, ReceiverSettings
from aiops.settings.cost import BudgetSettings, CostSettings, ReportSettings
from aiops.settings.detection import DetectionSettings, LoadSettings, SignalSettings, WatchSettings
from aiops.settings.incidents import (
    ActionSettings,
    HeartbeatSettings,
    IncidentSettings,
    InhibitRuleSettings,
    MaintenanceSettings,
    RouteSettings,
    WatchdogSettings,
)
from aiops.settings.loading import CONFIG_PLACES, load_settings
from aiops.settings.metrics import OtlpSettings, PromqlSettings, RuleSettings, SloSettings
from aiops.settings.models import (
    DeploymentSettings,
    DriftSettings,
    ModelAccessSettings,
    ModelBudgetSettings,
    ModelCostSettings,
    ModelSettings,
    RegistrySettings,
    ServingSettings,
    TokenPriceSettings,
    TrainingGroupSettings,
    TrainingSettings,
)
from aiops.settings.root import Settings, default_data_dir
from aiops.settings.section import PluginSettings, Section
from aiops.settings.server import ServerSettings, SmtpSettings, TelemetrySettings
from aiops.settings.store import RetentionSettings, StateSettings, StoreSettings

__all__ = [
    "CONFIG_PLACES",
    "ActionSettings",
    "AgentSettings",
    "BudgetSettings",
    "ConnectorSettings",
    "CostSettings",
    "DeploymentSettings",
    "DetectionSettings",
    "DriftSettings",
    "HeartbeatSettings",
    "IncidentSettings",
    "InhibitRuleSettings",
    "LlmSettings",
    "LoadSettings",
    "MaintenanceSettings",
    "ModelAccessSettings",
    "ModelBudgetSettings",
    "ModelCostSettings",
    "ModelSettings",
    "OtlpSettings",
    "PluginSettings",
    "PromqlSettings",
    "ReceiverSettings",
    "RegistrySettings",
    "ReportSettings",
    "RetentionSettings",
    "RouteSettings",
    "RuleSettings",
    "Section",
    "ServerSettings",
    "ServingSettings",
    "Settings",
    "SignalSettings",
    "SloSettings",
    "SmtpSettings",
    "StateSettings",
    "StoreSettings",
    "TelemetrySettings",
    "TokenPriceSettings",
    "TrainingGroupSettings",
    "TrainingSettings",
    "WatchSettings",
    "WatchdogSettings",
    "default_data_dir",
    "load_settings",
]
