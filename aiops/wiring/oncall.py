"""Schedules of who is on call, and calendars of maintenance."""

from __future__ import annotations

from aiops.core.errors import ConfigError
from aiops.incidents.oncall import OnCall
from aiops.settings import Settings
from aiops.wiring.plugins import PluginFactory


def on_call(settings: Settings, plugins: PluginFactory) -> OnCall:
    """Built, not started. Raises ``ConfigError`` for a schedule or calendar that is asked for and not configured."""
    schedules = plugins.all("connectors.oncall", settings.connectors.oncall)
    asked = [(f"Receiver '{name}'", r.schedule) for name, r in settings.receivers.items()]
    asked += [(f"incidents.maintenance.{name}", w.calendar) for name, w in settings.incidents.maintenance.items()]
    for who, schedule in asked:
        if schedule and schedule not in schedules:
            known = ", ".join(sorted(schedules)) or "none"
            raise ConfigError(
                f"{who}: there is no schedule '{schedule}'.",
                hint=f"Configure it under connectors.oncall. Known: {known}.",
            )
    return OnCall(schedules)
