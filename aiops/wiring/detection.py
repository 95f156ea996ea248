"""The detection loop: detectors, trainer and scorer, all of which load torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aiops.core import plugins
from aiops.core.ports import Detector, MetricQuerier, PluginContext, system_clock
from aiops.incidents.lifecycle import IncidentService
from aiops.models.checkpoints import Checkpoints
from aiops.promql.engine import PromqlEngine
from aiops.promql.parse import inject_matchers
from aiops.settings import Settings
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.marks import MarkRepository
from aiops.wiring.watching import discovery

if TYPE_CHECKING:
    from aiops.incidents.detection import DetectionLoop
    from aiops.models.training import Trainer


def detector_of(settings: Settings) -> Detector[Any]:
    """The configured detectors as one; imports torch."""
    chosen = {"device": settings.device, "members": list(settings.detection.detectors)}
    return cast("Detector[Any]", plugins.build("detectors", "fusion", chosen, PluginContext("detection", system_clock)))


def detection_loop(
    settings: Settings,
    querier: MetricQuerier,
    incidents: IncidentService,
    detections: DetectionRepository,
    marks: MarkRepository,
    checkpoints: Checkpoints,
    trainer: Callable[[Detector[Any]], Trainer],
    book: Callable[[str, int, float], None],
) -> DetectionLoop:
    """Built, not started; ``trainer`` makes what trains its detector, ``book`` is told what scoring takes."""
    from aiops.incidents.detection import DetectionLoop
    from aiops.incidents.source_load import BudgetedQuerier
    from aiops.models.serving import Scorer

    detector = detector_of(settings)
    discover = None
    source = querier
    if querier.name != PromqlEngine.name:
        querier = BudgetedQuerier(querier, settings.detection.load_budget)
        discover = discovery(settings, querier, source) if settings.detection.watch_found else None
    return DetectionLoop(
        querier,
        incidents,
        trainer(detector),
        Scorer(detector, book),
        detections,
        settings.detection,
        settings.incidents,
        narrow=inject_matchers,
        marks=marks,
        checkpoints=checkpoints,
        discover=discover,
        named=settings.models.training.groups,
    )
