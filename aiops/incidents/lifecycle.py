"""The life of an incident: opened by a signal, joined by others, explained, told, resolved, perhaps reopened.

Every change and the notifications that tell of it are saved in one transaction. A new incident is announced
when its first ranking of causes is ready or after :data:`ANNOUNCE_MS`, whichever comes first, so that the page
says why. Ranking runs on a thread of its own; submitting never waits for it.
"""

from __future__ import annotations

import builtins
import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from aiops.core.errors import AiopsError, Conflict, InvalidInput, NotFound
from aiops.core.incident import (
    Alert,
    CauseCandidate,
    Incident,
    IncidentStatus,
    Notification,
    NotificationEvent,
)
from aiops.core.ports import Clock, system_clock
from aiops.core.principal import SYSTEM, Principal
from aiops.core.signals import ServiceGraph
from aiops.incidents import transitions
from aiops.incidents.audience import Audience, Hearing
from aiops.incidents.correlation import CallPaths, correlate, is_simulated, service_of
from aiops.incidents.feed import Feed
from aiops.incidents.matchers import visible
from aiops.incidents.muting import Mutes
from aiops.incidents.oncall import Duty
from aiops.incidents.precedents import Precedent, precedents
from aiops.incidents.routing import Route, opened_last
from aiops.settings import IncidentSettings
from aiops.store.state.incidents import IncidentRepository

log = logging.getLogger(__name__)

ANNOUNCE_MS = 3_000
UPDATE_GAP_MS = 30_000
"""Updates of one incident are told at most this often, unless it becomes worse."""
RERANK_MS = 15_000
GROWING_MS = 300_000
"""A young incident is ranked again each :data:`RERANK_MS`, an older one only when signals changed."""
GRAPH_AGE_MS = 60_000
NOTE_CAP = 4_000
PAST = 1_000
"""Resolved incidents that a new one is compared with."""


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


class IncidentService:
    """The one door of incidents (:class:`~aiops.core.ports.AnomalySink`) and what people do with them.

    Thread-safe. Active and lately resolved incidents are held in memory and written through.

    Args:
        analyser: ranks causes; without one incidents are announced at once, without a cause.
        receivers: who may be told.
        mutes: silences, maintenance and inhibition in force at a time.
        duty: who is on call by a schedule at a time.
        background: rank on a thread; false ranks inside ``submit`` and ``tick`` (tests, one-shot commands).
    """

    def __init__(
        self,
        repository: IncidentRepository,
        analyser: Analyser | None,
        receivers: Sequence[Route],
        settings: IncidentSettings,
        clock: Clock = system_clock,
        *,
        mutes: Callable[[int], Mutes] = lambda _: Mutes(),
        duty: Callable[[str, int], Duty] = lambda _schedule, _now: Duty(),
        background: bool = True,
    ) -> None:
        self._repository = repository
        self._analyser = analyser
        self._audience = Audience(receivers, mutes, lambda: self._known.values(), duty)
        self._settings = settings
        self._clock = clock
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(1, "incident-ranking") if background else None
        self._ranking: set[str] = set()
        self._ranked_ms: dict[str, int] = {}
        self._changed: set[str] = set()
        self._untold: set[str] = set()
        self._repeated: dict[tuple[str, str], int] = {}
        self._paths: tuple[int, CallPaths] = (-GRAPH_AGE_MS, CallPaths())
        self._known: dict[str, Incident] = {}
        self._holders: dict[str, str] = {}
        self.feed = Feed()
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        recent = repository.list(status=IncidentStatus.RESOLVED, limit=200, since=clock() - self._reopen_ms)
        for incident in (*recent, *repository.active()):
            self._remember(incident)

    @property
    def _reopen_ms(self) -> int:
        return int(self._settings.reopen_s * 1000)

    # ---------------------------------------------------------------- running

    def start(self, interval_s: float = 1.0) -> None:
        """Tick on a thread until :meth:`stop`."""

        def loop() -> None:
            while not self._stop.wait(interval_s):
                try:
                    self.tick(self._clock())
                except Exception:
                    log.exception("the tick of incidents failed")

        self._ticker = threading.Thread(target=loop, name="incident-tick", daemon=True)
        self._ticker.start()

    def stop(self) -> None:
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join(5)
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    # ---------------------------------------------------------------- signals

    def submit(self, alerts: Sequence[Alert]) -> None:
        """Take alerts and anomalies, new, repeated or ended. A return means that they are saved.

        Raises:
            TransientError: the state store is away; submit again, repeats do no harm.
        """
        now = self._clock()
        paths = self._call_paths(now)
        with self._lock:
            pending: dict[str, Incident] = {}
            for alert in sorted(alerts, key=lambda a: (a.starts_ms, a.fingerprint)):
                changed = self._take(alert, pending, paths, now)
                if changed is not None:
                    pending[changed.id] = changed
            for incident in pending.values():
                self._keep(incident, now)

    def tick(self, now_ms: int) -> None:
        """End silent signals, resolve what is over, announce and update, rank again while evidence grows."""
        with self._lock:
            for incident in list(self._known.values()):
                if incident.active:
                    self._tick_one(incident, now_ms)
                elif now_ms - (incident.resolved_ms or incident.updated_ms) > self._reopen_ms:
                    self._drop(incident)

    def _tick_one(self, incident: Incident, now: int) -> None:
        current = transitions.expired(incident, now, 6 * int(self._settings.life_cap_s * 1000))
        since = transitions.quiet_since(current)
        if since is not None and now - since >= self._hold_ms(current, now):
            self._end(current, now, SYSTEM.name, "all signals ended")
            return
        hearing = self._audience.of(current, now)
        current = transitions.muted(current, hearing.muted, now, SYSTEM.name)
        if current is not incident:
            self._save(current)
        waited = now - self._last_told(current)
        missing = bool(hearing.names - set(current.told))
        ready = bool(current.told) or now - opened_last(current) >= ANNOUNCE_MS
        if (missing and ready) or (current.id in self._untold and waited >= UPDATE_GAP_MS and not hearing.muted):
            self._announce(current, now, hearing)
        elif not hearing.muted:
            self._repeat(current, now)
        growing = now - current.opened_ms < GROWING_MS or current.id in self._changed
        if growing and now - self._ranked_ms.get(current.id, 0) >= RERANK_MS:
            self._rank(current.id)

    def _take(self, alert: Alert, pending: dict[str, Incident], paths: CallPaths, now: int) -> Incident | None:
        view = {**self._known, **pending}
        fresh = next((i for i in pending.values() if _holds(i, alert.fingerprint)), None)
        holder = fresh or view.get(self._holders.get(alert.fingerprint, ""))
        if holder is not None and holder.active:
            changed = transitions.refreshed(holder, alert, now)
            return None if changed is holder else changed
        if not alert.firing:
            return None
        if holder is not None:
            held = transitions.held_signal(holder, alert.fingerprint).alert
            if held.firing and alert.starts_ms <= (holder.resolved_ms or 0):
                return None  # resolved by hand while it fires: its repeats open nothing
            if not transitions.starts_anew(alert, held):
                return None
            return transitions.reopened(holder, alert, "the same signal fires again", now)
        active = [i for i in view.values() if i.active]
        link = correlate(alert, active, paths, int(self._settings.life_cap_s * 1000))
        if link.incident_id is not None:
            return transitions.joined(view[link.incident_id], alert, link.reason, now)
        service = service_of(alert)
        past = [
            i for i in view.values() if i.status is IncidentStatus.RESOLVED and service in transitions.services_of(i)
        ]
        for old in sorted(past, key=lambda i: (-(i.resolved_ms or 0), i.id)):
            if old.simulated == is_simulated(alert.labels) and now - (old.resolved_ms or 0) <= self._reopen_ms:
                return transitions.reopened(old, alert, f"{service} again soon after its resolve", now)
        return transitions.opened(self._repository.next_id(), alert, now)

    def _keep(self, incident: Incident, now: int) -> None:
        before = self._known.get(incident.id)
        joined = before is None or len(before.signals) != len(incident.signals)
        if joined:
            self._changed.add(incident.id)
            if incident.told:
                self._untold.add(incident.id)
        hearing = self._audience.of(incident, now)
        incident = transitions.muted(incident, hearing.muted, now, SYSTEM.name)
        missing = bool(hearing.names - set(incident.told))
        grown = before is not None and transitions.worse(incident.severity, before.severity) and not hearing.muted
        if (self._analyser is None and not incident.told) or (incident.told and (missing or grown)):
            self._announce(incident, now, hearing)
        else:
            self._save(incident)
        if not incident.told:
            self._rank(incident.id)

    # ---------------------------------------------------------------- causes

    def _call_paths(self, now: int) -> CallPaths:
        at, paths = self._paths
        if self._analyser is None or now - at < GRAPH_AGE_MS:
            return paths
        try:
            paths = CallPaths.of(self._analyser.graph(now).edges)
        except AiopsError as error:
            log.warning("no call graph for correlation: %s", error)
        self._paths = (now, paths)
        return paths

    def _rank(self, incident_id: str) -> None:
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
            incident = self._known.get(incident_id)
            if incident is not None and incident.active and self._analyser is not None:
                diagnosis = self._analyser.analyse(incident, self._clock())
        except AiopsError as error:
            log.warning("no causes ranked for %s: %s", incident_id, error)
        except Exception:
            log.exception("ranking the causes of %s failed", incident_id)
        try:
            self._apply(incident_id, diagnosis)
        except Exception:
            log.exception("the ranked causes of %s could not be saved", incident_id)

    def _apply(self, incident_id: str, diagnosis: Diagnosis | None) -> None:
        with self._lock:
            self._ranking.discard(incident_id)
            incident = self._known.get(incident_id)
            if incident is None or not incident.active:
                return
            now = self._clock()
            newly_clear = False
            if diagnosis is not None:
                before = incident
                incident = transitions.explained(
                    incident, diagnosis.candidates, diagnosis.clear_cause, now, SYSTEM.name
                )
                if diagnosis.clear_cause:
                    incident = replace(incident, affected=diagnosis.affected)
                differs = transitions.verdict(incident) != transitions.verdict(before)
                newly_clear = differs and incident.clear_cause
                if differs and incident.told:
                    self._untold.add(incident_id)
            hearing = self._audience.of(incident, now)
            incident = transitions.muted(incident, hearing.muted, now, SYSTEM.name)
            if not incident.told or (newly_clear and not hearing.muted):
                self._announce(incident, now, hearing)
            elif diagnosis is not None:
                self._save(incident)

    # ---------------------------------------------------------------- telling

    def _announce(self, incident: Incident, now: int, hearing: Hearing) -> None:
        """Save with a notification to everyone who is to know: news to the told, the opening to the others."""
        names, told = set(hearing.names), set(incident.told)
        self._untold.discard(incident.id)
        if not told | names:
            self._save(incident)
            return
        fresh = names - told
        if fresh:
            words = "; ".join([", ".join(sorted(fresh)), *hearing.gaps])
            incident = transitions.noted(incident, now, SYSTEM.name, "told", words)
        if told:
            incident = transitions.noted(incident, now, SYSTEM.name, "update told", ", ".join(sorted(told)))
        incident = replace(
            incident, told=tuple(sorted(told | names)), paged=incident.paged or self._audience.paging(told | names)
        )
        self._save(
            incident,
            [_notification(n, NotificationEvent.OPENED, incident, now) for n in sorted(fresh)]
            + [_notification(n, NotificationEvent.UPDATED, incident, now) for n in sorted(told)],
        )

    def _repeat(self, incident: Incident, now: int) -> None:
        last = self._last_told(incident)
        due = self._audience.to_repeat(incident, lambda name: self._repeated.get((incident.id, name), last), now)
        if not due:
            return
        changed = transitions.noted(incident, now, SYSTEM.name, "told again", f"{', '.join(due)}: unacknowledged")
        self._save(changed, [_notification(name, NotificationEvent.UPDATED, changed, now) for name in due])
        self._repeated |= {(incident.id, name): now for name in due}

    def _tell(self, incident: Incident, event: NotificationEvent, now: int, known_to: Sequence[str] = ()) -> None:
        names = (name for name in incident.told if name not in known_to)
        self._save(incident, [_notification(name, event, incident, now) for name in names])

    def _last_told(self, incident: Incident) -> int:
        times = (e.time_ms for e in reversed(incident.timeline) if e.event in ("told", "update told"))
        return next(times, 0)

    def _hold_ms(self, incident: Incident, now: int) -> int:
        """Hysteresis before a resolve, doubled with each reopening in the last hour, 30 min at most."""
        base = int(self._settings.resolve_timeout_s * 200)
        return min(base << min(transitions.flaps(incident, now - 3_600_000), 6), max(base, 1_800_000))

    def _end(self, incident: Incident, now: int, actor: str, why: str, known_to: Sequence[str] = ()) -> Incident:
        changed = replace(incident, status=IncidentStatus.RESOLVED, resolved_ms=now)
        changed = transitions.noted(changed, now, actor, "resolved", why)
        self._tell(changed, NotificationEvent.RESOLVED, now, known_to)
        return changed

    # ---------------------------------------------------------------- memory

    def _save(self, incident: Incident, notifications: Sequence[Notification] = ()) -> None:
        self._repository.save(incident, notifications)
        self._remember(incident)

    def _remember(self, incident: Incident) -> None:
        self._known[incident.id] = incident
        self.feed.publish(incident)
        for signal in incident.signals:
            self._holders[signal.alert.fingerprint] = incident.id
        if not incident.active:
            for group in (self._untold, self._changed):
                group.discard(incident.id)
            self._ranked_ms.pop(incident.id, None)
            self._repeated = {key: at for key, at in self._repeated.items() if key[0] != incident.id}

    def _drop(self, incident: Incident) -> None:
        del self._known[incident.id]
        for signal in incident.signals:
            if self._holders.get(signal.alert.fingerprint) == incident.id:
                del self._holders[signal.alert.fingerprint]

    # ---------------------------------------------------------------- people

    def list(
        self, principal: Principal, status: IncidentStatus | None = None, limit: int = 50, since_ms: int = 0
    ) -> builtins.list[Incident]:
        """Newest first, those that the principal may see."""
        asked = limit if principal.scope is None else 10 * limit
        found = self._repository.list(status=status, limit=asked, since=since_ms)
        return [i for i in found if visible(i, principal.scope)][:limit]

    def get(self, incident_id: str, principal: Principal) -> Incident:
        """Raises ``NotFound`` also for an incident outside the principal's scope."""
        incident = self._known.get(incident_id) or self._repository.get(incident_id)
        if incident is None or not visible(incident, principal.scope):
            raise NotFound(f"There is no incident '{incident_id}'.")
        return incident

    def acknowledge(self, incident_id: str, principal: Principal, *, known_to: Sequence[str] = ()) -> Incident:
        """Take it on. Repeating does nothing; raises ``Conflict`` once it is over.

        ``known_to`` are receivers that need not be told, as it happened there.
        """
        with self._lock:
            incident = self._active(incident_id, principal)
            if incident.status is IncidentStatus.ACKNOWLEDGED and incident.assignee == principal.name:
                return incident
            now = self._clock()
            changed = replace(incident, status=IncidentStatus.ACKNOWLEDGED, assignee=principal.name)
            changed = transitions.noted(changed, now, principal.name, "acknowledged")
            self._tell(changed, NotificationEvent.ACKNOWLEDGED, now, known_to)
            return changed

    def resolve(
        self, incident_id: str, principal: Principal, reason: str = "", *, known_to: Sequence[str] = ()
    ) -> Incident:
        """Close it by hand; repeats of signals that still fire do not open it again."""
        with self._lock:
            incident = self._active(incident_id, principal)
            return self._end(incident, self._clock(), principal.name, reason[:NOTE_CAP], known_to)

    def assign(self, incident_id: str, assignee: str, principal: Principal) -> Incident:
        """Name who works on it; an empty name means nobody. Repeating does nothing."""
        with self._lock:
            incident = self._active(incident_id, principal)
            name = assignee.strip()[:200]
            if name == incident.assignee:
                return incident
            changed = replace(incident, assignee=name)
            changed = transitions.noted(changed, self._clock(), principal.name, "assigned", f"to {name or 'nobody'}")
            self._save(changed)
            return changed

    def note(self, incident_id: str, principal: Principal, text: str) -> Incident:
        """Add a person's words to the timeline."""
        if not text.strip():
            raise InvalidInput("The note is empty.")
        with self._lock:
            incident = self.get(incident_id, principal)
            changed = transitions.noted(incident, self._clock(), principal.name, "note", text[:NOTE_CAP])
            if incident_id in self._known:
                self._save(changed)
            else:
                self._repository.save(changed)
            return changed

    def merge(self, incident_id: str, into: str, principal: Principal) -> Incident:
        """Move all signals into ``into`` and return it; whoever was told of the source hears its resolve."""
        if incident_id == into:
            raise InvalidInput("An incident cannot be merged into itself.")
        with self._lock:
            source, target = self._active(incident_id, principal), self._active(into, principal)
            if source.simulated != target.simulated:
                raise Conflict("A simulated incident cannot be merged with a real one.")
            now = self._clock()
            merged = replace(source, status=IncidentStatus.MERGED, merged_into=into, resolved_ms=now)
            merged = transitions.noted(merged, now, principal.name, "merged", f"into {into}")
            grown = transitions.absorbed(target, source, principal.name, now)
            over = [_notification(name, NotificationEvent.RESOLVED, merged, now) for name in merged.told]
            self._repository.save_all([merged, grown], over)
            self._remember(merged)
            self._remember(grown)
            self._keep(grown, now)
            return self._known[into]

    def split(self, incident_id: str, fingerprints: Sequence[str], principal: Principal, reason: str = "") -> Incident:
        """Move the named signals into a new incident, which is returned and told of like any other.

        Raises:
            InvalidInput: a fingerprint is not the incident's, none is given, or none would be left.
        """
        with self._lock:
            source = self._active(incident_id, principal)
            own, wanted = {s.alert.fingerprint for s in source.signals}, set(fingerprints)
            if unknown := sorted(wanted - own):
                raise InvalidInput(f"Incident {incident_id} has no signal '{unknown[0]}'.")
            if not wanted or wanted == own:
                raise InvalidInput("Name some of the incident's signals, not none and not all.")
            now = self._clock()
            made, left = transitions.divided(source, wanted, self._repository.next_id(), principal.name, reason, now)
            self._repository.save_all([left, made])
            self._remember(left)
            self._remember(made)
            self._rank(left.id)
            self._keep(made, now)
            return self._known[made.id]

    def similar(self, incident_id: str, principal: Principal, limit: int = 5) -> builtins.list[Precedent]:
        """Resolved incidents of the last months that were most like this one, among those that may be seen."""
        incident = self.get(incident_id, principal)
        past = self._repository.list(status=IncidentStatus.RESOLVED, limit=PAST)
        return precedents(incident, (i for i in past if visible(i, principal.scope)), limit)

    def told(self, receiver: str) -> builtins.list[Incident]:
        """Active and lately resolved incidents that the receiver was told of."""
        with self._lock:
            return [i for i in self._known.values() if receiver in i.told]

    def _active(self, incident_id: str, principal: Principal) -> Incident:
        incident = self.get(incident_id, principal)
        if not incident.active:
            raise Conflict(f"Incident {incident_id} is already {incident.status.value}.")
        return incident


def _holds(incident: Incident, fingerprint: str) -> bool:
    return any(s.alert.fingerprint == fingerprint for s in incident.signals)


def _notification(receiver: str, event: NotificationEvent, incident: Incident, now_ms: int) -> Notification:
    return Notification(str(uuid.uuid4()), receiver, event, incident, now_ms, incident.id)
