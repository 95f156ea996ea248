"""What a back test needs of the product beside the store: the detectors, and the user's own metrics source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiops.core.ports import Detector, MetricQuerier
from aiops.incidents.measures import measure_entries
from aiops.incidents.readings import Reader
from aiops.incidents.watch import WatchEntry, rule_entries, watch_list
from aiops.settings import Settings
from aiops.wiring.detection import detector_of
from aiops.wiring.lifetime import Lifetime
from aiops.wiring.plugins import PluginFactory
from aiops.wiring.telemetry import askable_source
from aiops.wiring.watching import discovery


def detector(settings: Settings) -> Detector[Any]:
    """The detectors as configured; imports torch."""
    return detector_of(settings)


def watched(settings: Settings, metrics: MetricQuerier, end_ms: int, *, remote: bool) -> tuple[WatchEntry, ...]:
    """What the running detection would watch: the list, recording rules, and what else a user's own source has.

    Raises:
        TransientError: the source cannot be read.
    """
    chosen = settings.detection
    entries = watch_list(chosen)
    if chosen.watch or not chosen.watch_rules:
        return entries
    step_ms = round(chosen.step_s * 1000)
    entries += rule_entries(Reader(metrics).recorded(end_ms), step_ms)
    if remote and chosen.watch_found:
        entries += measure_entries(discovery(settings, metrics, metrics)(), entries, step_ms, chosen.watch_found)
    return entries


@contextmanager
def remote_metrics(settings: Settings) -> Iterator[MetricQuerier | None]:
    """The server that the settings name as the source of metrics; ``None`` where that is the store.

    Raises:
        ConfigError: the settings name one that cannot be asked.
    """
    life = Lifetime()
    try:
        sources = PluginFactory(settings, life).all("connectors.telemetry", settings.connectors.telemetry)
        yield askable_source(settings, sources)
    finally:
        life.stop()
