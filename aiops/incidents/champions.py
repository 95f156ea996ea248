"""Which version serves a group: the registry's champion, taken up at the start, followed when a person changes it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from aiops.core.anomaly import Anomaly
from aiops.core.errors import AiopsError
from aiops.core.ports import Clock
from aiops.incidents.checkpointing import StateKeeper
from aiops.incidents.fleet import Fleet
from aiops.incidents.watched import WARM_UP_STEPS, WatchedGroup
from aiops.models.registry import ModelRegistry
from aiops.models.training import UNREGISTERED

log = logging.getLogger(__name__)


class Champions:
    """Puts the registry's champions in service.

    Args:
        keeper: what a version became in service, taken up in its place.
        open_anomalies: the episodes that were open when the process before this one stopped.
    """

    def __init__(
        self,
        fleet: Fleet,
        registry: ModelRegistry,
        keeper: StateKeeper,
        open_anomalies: Callable[[], Sequence[Anomaly]],
        clock: Clock,
    ) -> None:
        self._fleet = fleet
        self._keeper = keeper
        self._registry = registry
        self._open_anomalies = open_anomalies
        self._clock = clock

    def restore(self) -> bool:
        """Serve the champions and take up open episodes, live counts and late series; true if every group has one."""
        now, fleet = self._clock(), self._fleet
        with fleet.stepping:
            fleet.ledger = fleet.memory.ledger(fleet.ledger.per_day, now)
            for group in fleet.groups:
                group.ledger = fleet.ledger
                fleet.recall(group)
        found = [self._serve(group) for group in fleet.groups]
        for group in fleet.groups:
            group.take_live(fleet.memory.live(group.model, [one.id for one in group.series], now))
        return all(found)

    def follow(self) -> None:
        """Serve another version where a person has promoted it or rolled back to it."""
        fleet = self._fleet
        with fleet.training:
            for group in fleet.groups:
                served = fleet.reference(group)
                if not served or served == UNREGISTERED:
                    continue
                champion = self._registry.get(group.model)
                if champion is not None and champion.reference != served:
                    log.info("serving %s in place of %s", champion.reference, served)
                    self._serve(group)
        fleet.share_budget()

    def _serve(self, group: WatchedGroup) -> bool:
        fleet = self._fleet
        try:
            served = fleet.scorer.load_champion(self._registry, group.model)
        except AiopsError as error:
            log.warning("the champion of %s cannot be served: %s", group.model, error)
            return False
        if served is None or served.state.step_ms != group.step_ms:
            return False
        kept = self._keeper.newest(group, served.reference, served.state)
        state, last_ms = (served.state, served.last_ms) if kept is None else (kept.state, kept.last_ms)
        with fleet.stepping:
            first = group.judge is None
            state = fleet.named.part(group.name, state)
            if not state.series_ids:
                return False
            if not group.install(state, fleet.beside(group)):
                return False
            fleet.scorer.serve(group.model, state, served.reference, last_ms)
            closed = fleet.closed(group, self._clock())
            group.last_ms = max(last_ms, closed - WARM_UP_STEPS * group.step_ms)
            if first:
                group.present, group.judged_ms = group.entries, closed - group.step_ms
                group.take_up(self._open_anomalies())
        return True
