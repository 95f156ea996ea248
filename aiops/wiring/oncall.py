"""Schedules of who is on call."""

from __future__ import annotations

from aiops.core.errors import ConfigError
from aiops.incidents.oncall import OnCall
from aiops.settings import Settings
from aiops.wiring.plugins import PluginFactory


def on_call(settings: Settings, plugins: PluginFactory) -> OnCall:
    """Built, not started. Raises ``ConfigError`` for a receiver whose schedule is not configured."""
    schedules = plugins.all("connectors.oncall", settings.connectors.oncall)
    for name, receiver in settings.receivers.items():
        if receiver.schedule and receiver.schedule not in schedules:
            known = ", ".join(sorted(schedules)) or "none"
            raise ConfigError(
                f"Receiver '{name}': there is no schedule '{receiver.schedule}'.",
                hint=f"Configure it under connectors.oncall. Known: {known}.",
            )
    return OnCall(schedules)
