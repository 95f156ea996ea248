"""The telemetry store, and what questions and detection ask metrics of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiops.agent.run_signals import Elsewhere
from aiops.core.errors import ConfigError
from aiops.core.ports import LogSource, MetricQuerier, ScrapeTarget, ScrapeTargets, SpanSource
from aiops.promql.engine import PromqlEngine
from aiops.settings import Settings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore


def telemetry_store(settings: Settings, folder: Path) -> TelemetryStore:
    """Raises ``FolderInUse`` or ``ConfigError`` where the file cannot be opened."""
    database = TelemetryDatabase(folder / "telemetry.duckdb", settings.store)
    return TelemetryStore(database, settings.cost.scope_columns)


def metric_querier(settings: Settings, engine: PromqlEngine, sources: Mapping[str, Any]) -> MetricQuerier:
    """The named source, else the only one that can be asked, else the store."""
    return askable_source(settings, sources) or engine


def askable_source(settings: Settings, sources: Mapping[str, Any]) -> MetricQuerier | None:
    """The source that questions go to, ``None`` where that is the store. Raises ``ConfigError`` for an unknown one."""
    askable = {name: source for name, source in sources.items() if isinstance(source, MetricQuerier)}
    wanted = settings.agent.metrics_source
    if wanted == PromqlEngine.name:
        return None
    if wanted:
        if wanted not in askable:
            raise ConfigError(
                f"agent.metrics_source is '{wanted}', which is no telemetry connector that answers PromQL.",
                hint=f"Known: {', '.join(sorted([PromqlEngine.name, *askable]))}.",
            )
        return askable[wanted]
    return next(iter(askable.values())) if len(askable) == 1 else None


def elsewhere(settings: Settings, sources: Mapping[str, Any]) -> Elsewhere:
    """The systems whose logs and spans are asked in place. Raises ``ConfigError`` for one that has none."""
    chosen = settings.agent
    logs = _asked(chosen.logs_source, "agent.logs_source", sources, LogSource)
    spans = _asked(chosen.traces_source, "agent.traces_source", sources, SpanSource)
    return Elsewhere(logs, chosen.logs_source or "logs", spans, chosen.traces_source or "traces")


def _asked(name: str, setting: str, sources: Mapping[str, Any], port: type[Any]) -> Any:
    if not name:
        return None
    able = sorted(n for n, source in sources.items() if isinstance(source, port))
    if name not in able:
        raise ConfigError(
            f"{setting} is '{name}', which is no telemetry connector that can be asked.",
            hint=f"Known: {', '.join(able) or 'none'}.",
        )
    return sources[name]


def scrape_targets(sources: Iterable[Any]) -> list[ScrapeTarget]:
    """Targets of all sources that scrape."""
    return [target for source in sources if isinstance(source, ScrapeTargets) for target in source.targets()]
