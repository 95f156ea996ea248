"""The detection loop: detectors, trainer and scorer, all of which load torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from aiops.core import plugins
from aiops.core.ports import Detector, MetricQuerier, PluginContext, system_clock
from aiops.incidents.lifecycle import IncidentService
from aiops.models.registry import ModelRegistry
from aiops.promql.engine import PromqlEngine
from aiops.promql.parse import inject_matchers
from aiops.settings import Settings
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.marks import MarkRepository

if TYPE_CHECKING:
    from aiops.incidents.detection import DetectionLoop


def detector_of(settings: Settings) -> Detector[Any]:
    """The configured detectors as one; imports torch."""
    chosen = {"device": settings.device, "members": list(settings.detection.detectors)}
    return cast("Detector[Any]", plugins.build("detectors", "fusion", chosen, PluginContext("detection", system_clock)))


def detection_loop(
    settings: Settings,
    querier: MetricQuerier,
    incidents: IncidentService,
    models: ModelRegistry,
    detections: DetectionRepository,
    marks: MarkRepository,
) -> DetectionLoop:
    """Built, not started."""
    from aiops.incidents.detection import DetectionLoop
    from aiops.incidents.source_load import BudgetedQuerier
    from aiops.models.serving import Scorer
    from aiops.models.training import Trainer

    detector = detector_of(settings)
    remote = querier.name != PromqlEngine.name
    return DetectionLoop(
        BudgetedQuerier(querier, settings.detection.load_budget) if remote else querier,
        incidents,
        Trainer(models, detector),
        Scorer(detector),
        detections,
        settings.detection,
        settings.incidents,
        narrow=inject_matchers,
        marks=marks,
    )
