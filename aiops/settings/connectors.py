"""Connectors and receivers."""

from __future__ import annotations

from pydantic import Field

from aiops.settings.section import PluginSettings, Section


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
    changes: bool = False
    """Shown deploys and other changes as well, where its kind can show them; ``matchers`` hold for them too."""
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
    tools: dict[str, PluginSettings] = Field(default_factory=dict)
    """What the assistant looks into when asked, such as ``kubernetes``."""
    llm: dict[str, PluginSettings] = Field(default_factory=dict)
    """Providers of language models; ``agent.llm.model`` names one of them, or a plug-in that needs no options."""
