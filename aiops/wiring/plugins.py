"""Plug-ins as configured: found by kind and name, given their options, closed with the service."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from aiops.core import plugins
from aiops.core.ports import CostSource, PluginContext, system_clock
from aiops.promql.parse import inject_matchers
from aiops.settings import PluginSettings, Settings
from aiops.store.telemetry.parquet import read_parquet
from aiops.wiring.lifetime import Lifetime


class PluginFactory:
    """Builds plug-ins; each is closed when ``lifetime`` ends."""

    def __init__(self, settings: Settings, lifetime: Lifetime) -> None:
        self._settings = settings
        self._lifetime = lifetime

    def all(self, kind: str, configured: Mapping[str, PluginSettings]) -> dict[str, Any]:
        """Every configured entry by its configured name. Raises ``ConfigError``."""
        return {name: self.one(kind, name, entry) for name, entry in configured.items()}

    def one(self, kind: str, name: str, entry: PluginSettings) -> Any:
        given = _given(self._settings, kind, entry.plugin)
        if kind == "connectors.llm" and "base_url" in entry.options:
            given.pop("api_key", None)  # the key of one address is not for another
        options = {**given, **entry.options}
        plugin = plugins.build(
            kind, entry.plugin, options, PluginContext(name, system_clock, read_parquet, inject_matchers)
        )
        self._lifetime.on_stop(plugin.close)
        return plugin


def focus_file(path: Path) -> CostSource[Any]:
    """A source over one uploaded file, whose rows bear the file's name."""
    context = PluginContext(path.stem, system_clock, read_parquet)
    options = {"paths": [glob.escape(str(path))]}
    return cast("CostSource[Any]", plugins.build("connectors.clouds", "focus_files", options, context))


def _given(settings: Settings, kind: str, plugin: str) -> dict[str, Any]:
    """Options that a plug-in takes from the general settings unless its own entry gives them."""
    if kind == "connectors.notifiers":
        knows = "public_url" in plugins.load(kind, plugin).Options.model_fields
        address = {"public_url": settings.server.public_url} if knows else {}
        return {**address, "token": settings.slack_bot_token} if plugin == "slack" else address
    if (kind, plugin) == ("connectors.chat", "slack"):
        return {
            "bot_token": settings.slack_bot_token,
            "app_token": settings.slack_app_token,
            "signing_secret": settings.slack_signing_secret,
        }
    if (kind, plugin) == ("connectors.llm", "openai"):
        return {
            "api_key": settings.openai_api_key,
            "base_url": settings.agent.llm.base_url or settings.openai_base_url,
            "timeout_s": settings.agent.llm.timeout_s,
        }
    return {}
