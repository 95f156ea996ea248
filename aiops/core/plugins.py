"""Discovery of plug-ins: ours by listing package folders without importing them, others by entry point.

A kind is a folder (``connectors/telemetry``, ``detectors``, …) and an entry-point group
(``aiops.connectors.telemetry``, ``aiops.detectors``, …). (kind, name) is unique: a double name stops the start.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from aiops.core import ports
from aiops.core.errors import ConfigError
from aiops.core.ports import Plugin, PluginContext


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plug-in: where its files are and the port they derive from."""

    name: str
    package: str
    port: type[Plugin[Any]]

    @property
    def group(self) -> str:
        return f"aiops.{self.name}"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("connectors.telemetry", "connectors.telemetry", ports.TelemetrySource),
        Kind("connectors.clouds", "connectors.clouds", ports.CostSource),
        Kind("connectors.inbound", "connectors.inbound", ports.InboundParser),
        Kind("connectors.notifiers", "connectors.notifiers", ports.Notifier),
        Kind("connectors.oncall", "connectors.oncall", ports.ScheduleSource),
        Kind("connectors.executors", "connectors.executors", ports.Executor),
        Kind("connectors.llm", "connectors.llm", ports.ChatModelProvider),
        Kind("connectors.chat", "connectors.chat", ports.ChatSurface),
        Kind("detectors", "detectors", ports.Detector),
        Kind("tools", "aiops.agent.tools", ports.Tool),
    )
}


@dataclass(frozen=True, slots=True)
class Found:
    """A plug-in that exists but is not imported yet."""

    kind: str
    name: str
    module: str
    entry_point: EntryPoint | None = None


def discover(kind: str) -> dict[str, Found]:
    """All plug-ins of a kind by name. Raises ``ConfigError`` for two of one name."""
    spec = KINDS[kind]
    found: dict[str, Found] = {}
    package = importlib.util.find_spec(spec.package)
    for path in (package.submodule_search_locations or []) if package else []:
        for module in pkgutil.iter_modules([path]):
            if not module.ispkg and not module.name.startswith("_"):
                found[module.name] = Found(kind, module.name, f"{spec.package}.{module.name}")
    for point in entry_points(group=spec.group):
        if point.name in found:
            raise ConfigError(
                f"Two {kind} plug-ins are named '{point.name}': {found[point.name].module} and {point.value}.",
                hint="Uninstall one of them or rename its entry point.",
            )
        found[point.name] = Found(kind, point.name, point.value, point)
    return found


def load(kind: str, name: str) -> type[Plugin[Any]]:
    """Import one plug-in's class. Raises ``ConfigError`` for an unknown name or a missing extra."""
    found = discover(kind)
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        known = ", ".join(sorted(found)) or "none"
        raise ConfigError(
            f"There is no {kind} plug-in named '{name}'.",
            hint=f"Did you mean '{near[0]}'?" if near else f"Known: {known}.",
        )
    spec, item = KINDS[kind], found[name]
    try:
        loaded: Any = item.entry_point.load() if item.entry_point else importlib.import_module(item.module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The {kind} plug-in '{name}' needs the package '{error.name}', which is not installed.",
            hint=f"Install aiops-assistant[{EXTRA_OF.get(name, name)}].",
        ) from error
    if inspect.isclass(loaded) and issubclass(loaded, Plugin):
        return loaded
    own = [
        value
        for value in vars(loaded).values()
        if inspect.isclass(value)
        and issubclass(value, spec.port)
        and value.__module__ == loaded.__name__
        and not inspect.isabstract(value)
    ]
    if len(own) != 1:
        raise ConfigError(f"{item.module} must define exactly one {spec.port.__name__}; it defines {len(own)}.")
    return own[0]


EXTRA_OF = {
    "openai": "llm",
    "ical": "calendar",
    "onnx_forecaster": "onnx",
    "baseline_isolation_forest": "baselines",
    "baseline_one_class_svm": "baselines",
    "baseline_pca": "baselines",
}
"""Extras whose name differs from the plug-in's, needed only when its import fails."""


def build(kind: str, plugin: str, options: Mapping[str, Any], context: PluginContext) -> Plugin[Any]:
    """Load, check options, construct. Raises ``ConfigError`` naming the wrong key and the nearest right one."""
    cls = load(kind, plugin)
    try:
        parsed = cls.Options.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(
            f"{kind} '{context.name}' ({plugin}): {explain(error, list(cls.Options.model_fields))}"
        ) from error
    return cls(parsed, context)


def explain(error: ValidationError, known: list[str]) -> str:
    """A pydantic error in one line, with the nearest known key for an unknown one."""
    parts = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            parts.append(f"unknown key '{place}'" + (f", did you mean '{near[0]}'?" if near else ""))
        else:
            parts.append(f"{place or 'value'}: {item['msg']}")
    return "; ".join(parts)
