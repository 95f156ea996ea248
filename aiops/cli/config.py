"""``aiops config``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiops.cli.options import Config, DataDir, Json, group_of, settings_of

if TYPE_CHECKING:
    from aiops.settings import PluginSettings

app = group_of("Check and show the configuration.")


@app.command()
def check(config: Config = None, data_dir: DataDir = None) -> None:
    """Say whether the configuration is valid, plug-ins and their options included."""
    from pydantic import ValidationError

    from aiops.core.errors import ConfigError
    from aiops.core.plugins import explain, load

    settings = settings_of(config, data_dir)
    kinds: dict[str, Mapping[str, PluginSettings]] = {
        "connectors.telemetry": settings.connectors.telemetry,
        "connectors.clouds": settings.connectors.clouds,
        "connectors.inbound": settings.connectors.inbound,
        "connectors.executors": settings.connectors.executors,
        "connectors.chat": settings.connectors.chat,
        "connectors.notifiers": settings.receivers,
    }
    count = 0
    for kind, configured in kinds.items():
        for name, plugin in configured.items():
            options = load(kind, plugin.plugin).Options
            try:
                options.model_validate(plugin.options)
            except ValidationError as error:
                reason = explain(error, list(options.model_fields))
                raise ConfigError(f"{kind} '{name}' ({plugin.plugin}): {reason}") from error
            count += 1
    print(f"The configuration is valid ({count} plug-ins configured).")


@app.command()
def show(config: Config = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Show all settings as they are in force, secrets masked."""
    settings = settings_of(config, data_dir)
    values = settings.model_dump(mode="json")
    for group in ("telemetry", "clouds", "inbound", "executors", "chat"):
        for plugin in values["connectors"][group].values():
            _mask(plugin)
    for receiver in values["receivers"].values():
        _mask(receiver)
    if json:
        from aiops.cli.output import print_json

        print_json(values)
        return
    import yaml

    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


_SECRET_WORDS = ("secret", "token", "password", "key", "credential")


def _mask(plugin: dict[str, object]) -> None:
    """Plug-in options are plain values here, so those named like secrets are masked by their name."""
    for name, value in plugin.items():
        if value and any(word in name.lower() for word in _SECRET_WORDS):
            plugin[name] = "**********"
        elif isinstance(value, dict):
            _mask(value)
        elif name in ("url", "webhook_url") and isinstance(value, str) and "@" in value:
            plugin[name] = value.split("//")[0] + "//**********@" + value.rsplit("@", 1)[1]
