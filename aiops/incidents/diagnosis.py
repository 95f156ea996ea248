"""When the causes of an incident are ranked: on a thread of its own, again while evidence grows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from aiops.core.errors import AiopsError
from aiops.core.incident import CauseCandidate, Incident
from aiops.core.ports import Clock
from aiops.core.signals import ServiceGraph
from aiops.incidents.call_paths import CallPaths
from aiops.incidents.register import Register

log = logging.getLogger(__name__)

RERANK_MS = 15_000
GROWING_MS = 300_000
"""A young incident is ranked again each :data:`RERANK_MS`, an older one only when signals changed."""
GRAPH_AGE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Ranked causes; ``clear_cause`` is false when the best is too weak to be named.

    ``affected`` are the services that depend on a clear cause.
    """

    candidates: tuple[CauseCandidate, ...] = ()
    clear_cause: bool = False
    affected: tuple[str, ...] = ()


class Analyser(Protocol):
    """Ranks causes of an incident from live telemetry; raises :class:`AiopsError`."""

    def analyse(self, incident: Incident, now_ms: int) -> Diagnosis: ...

    def graph(self, now_ms: int) -> ServiceGraph: ...


class Diagnoser:
    """Asks the analyser and hands on what it says; ``None`` where it said nothing.

    Args:
        apply: takes an incident's id and its diagnosis, on the ranking thread.
        background: rank on a thread; false ranks inside :meth:`rank`.
    """

    def __init__(
        self,
        register: Register,
        analyser: Analyser | None,
        clock: Clock,
        apply: Callable[[str, Diagnosis | None], None],
        background: bool,
    ) -> None:
        self._register = register
        self._analyser = analyser
        self._clock = clock
        self._apply = apply
        self._pool = ThreadPoolExecutor(1, "incident-ranking") if background else None
        self._stop = threading.Event()
        self._ranking: set[str] = set()
        self._ranked_ms: dict[str, int] = {}
        self._changed: set[str] = set()
        self._paths: tuple[int, CallPaths] = (-GRAPH_AGE_MS, CallPaths())
        register.on_closed(self._forget)

    @property
    def able(self) -> bool:
        """Whether there is anyone to ask."""
        return self._analyser is not None

    def stop(self) -> None:
        """Wait for the ranking under way; later ones are not begun."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def call_paths(self, now: int) -> CallPaths:
        """Who calls whom, at most :data:`GRAPH_AGE_MS` old; the last known while it cannot be asked."""
        at, paths = self._paths
        if self._analyser is None or now - at < GRAPH_AGE_MS:
            return paths
        try:
            paths = CallPaths.of(self._analyser.graph(now).edges)
        except AiopsError as error:
            log.warning("no call graph for correlation: %s", error)
        self._paths = (now, paths)
        return paths

    def has_changed(self, incident_id: str) -> None:
        """Its signals are others than those that were ranked."""
        self._changed.add(incident_id)

    def rank_if_due(self, incident: Incident, now: int) -> None:
        """Rank again while it is young or has changed."""
        growing = now - incident.opened_ms < GROWING_MS or incident.id in self._changed
        if growing and now - self._ranked_ms.get(incident.id, 0) >= RERANK_MS:
            self.rank(incident.id)

    def rank(self, incident_id: str) -> None:
        """Rank now, unless that is under way."""
        if self._analyser is None or incident_id in self._ranking:
            return
        self._ranking.add(incident_id)
        self._ranked_ms[incident_id] = self._clock()
        self._changed.discard(incident_id)
        if self._pool is None:
            self._rank_now(incident_id)
        elif not self._stop.is_set():
            self._pool.submit(self._rank_now, incident_id)

    def _rank_now(self, incident_id: str) -> None:
        diagnosis = None
        try:
            incident = self._register.get(incident_id)
            if incident is not None and incident.active and self._analyser is not None:
                diagnosis = self._analyser.analyse(incident, self._clock())
        except AiopsError as error:
            log.warning("no causes ranked for %s: %s", incident_id, error)
        except Exception:
            log.exception("ranking the causes of %s failed", incident_id)
        try:
            with self._register.lock:
                self._ranking.discard(incident_id)
                self._apply(incident_id, diagnosis)
        except Exception:
            log.exception("the ranked causes of %s could not be saved", incident_id)

    def _forget(self, incident: Incident) -> None:
        self._changed.discard(incident.id)
        self._ranked_ms.pop(incident.id, None)
