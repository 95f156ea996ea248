"""Reads the settings from file, environment and flags, and says in one line what is wrong with them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsError

from aiops.core.errors import ConfigError
from aiops.settings.root import Settings

CONFIG_PLACES = (Path("aiops.yaml"), Path("/etc/aiops/aiops.yaml"))


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
