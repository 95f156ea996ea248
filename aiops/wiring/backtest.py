"""What a back test needs of the product beside the store: the detectors, and the user's own metrics source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiops.core.ports import Detector, MetricQuerier
from aiops.settings import Settings
from aiops.wiring.detection import detector_of
from aiops.wiring.lifetime import Lifetime
from aiops.wiring.plugins import PluginFactory
from aiops.wiring.telemetry import askable_source


def detector(settings: Settings) -> Detector[Any]:
    """The detectors as configured; imports torch."""
    return detector_of(settings)


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
