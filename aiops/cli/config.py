"""``aiops config``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiops.cli.options import Config, DataDir, Json, group_of, settings_of

if TYPE_CHECKING:
    from aiops.settings import PluginSettings, Settings

app = group_of("Check and show the configuration.")


@app.command()
def check(config: Config = None, data_dir: DataDir = None) -> None:
    """Say whether the configuration is valid, plug-ins and their options included."""
    from pydantic import ValidationError

    from aiops.core.errors import ConfigError
    from aiops.core.plugins import explain, load
    from aiops.rules.files import load_groups

    settings = settings_of(config, data_dir)
    count = 0
    for kind, configured in _plugins(settings).items():
        for name, plugin in configured.items():
            options = load(kind, plugin.plugin).Options
            try:
                options.model_validate(plugin.options)
            except ValidationError as error:
                reason = explain(error, list(options.model_fields))
                raise ConfigError(f"{kind} '{name}' ({plugin.plugin}): {reason}") from error
            count += 1
    rules = sum(len(group.rules) for group in load_groups(settings.rules.files))
    print(f"The configuration is valid ({count} plug-ins and {rules} rules configured).")


@app.command()
def show(config: Config = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Show all settings as they are in force, secrets masked."""
    settings = settings_of(config, data_dir)
    values = settings.model_dump(mode="json")
    _mask(values["state"], set())
    others = {"connectors.oncall": settings.connectors.oncall, "connectors.llm": settings.connectors.llm}
    for kind, configured in {**_plugins(settings), **others}.items():
        shown = values["receivers"] if kind == "connectors.notifiers" else values["connectors"][kind.rpartition(".")[2]]
        for name, plugin in configured.items():
            _mask(shown[name], _secret_options(kind, plugin.plugin))
    if json:
        from aiops.cli.output import print_json

        print_json(values)
        return
    import yaml

    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


_SECRET_WORDS = ("secret", "token", "password", "key", "credential", "authorization")


def _plugins(settings: Settings) -> dict[str, Mapping[str, PluginSettings]]:
    """What is configured, by kind."""
    return {
        "connectors.telemetry": settings.connectors.telemetry,
        "connectors.clouds": settings.connectors.clouds,
        "connectors.inbound": settings.connectors.inbound,
        "connectors.executors": settings.connectors.executors,
        "connectors.chat": settings.connectors.chat,
        "tools": settings.connectors.tools,
        "connectors.notifiers": settings.receivers,
    }


def _secret_options(kind: str, plugin: str) -> set[str]:
    """Options that the plug-in declares secret; none where it cannot be loaded."""
    from aiops.core.errors import ConfigError
    from aiops.core.plugins import load

    try:
        options = load(kind, plugin).Options
    except ConfigError:
        return set()
    return {name for name, field in options.model_fields.items() if "SecretStr" in str(field.annotation)}


def _mask(section: dict[str, object], secret: set[str]) -> None:
    """Hide what is declared secret, plain values that are named like secrets, and passwords within URLs."""
    for name, value in section.items():
        if value and (name in secret or any(word in name.lower() for word in _SECRET_WORDS)):
            section[name] = "**********"
        elif isinstance(value, dict):
            _mask(value, set())
        elif name == "url" and isinstance(value, str) and "@" in value:
            section[name] = value.split("//")[0] + "//**********@" + value.rsplit("@", 1)[1]
