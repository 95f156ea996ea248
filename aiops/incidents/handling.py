"""What people do with incidents: take on, close, assign, note, merge, split, look up."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from aiops.core.errors import Conflict, InvalidInput, NotFound
from aiops.core.incident import Incident, IncidentStatus, NotificationEvent
from aiops.core.ports import Clock
from aiops.core.principal import SYSTEM, Principal
from aiops.incidents import transitions
from aiops.incidents.diagnosis import Diagnoser
from aiops.incidents.matchers import visible
from aiops.incidents.precedents import Precedent, precedents
from aiops.incidents.register import Register
from aiops.incidents.telling import Teller, notification

NOTE_CAP = 4_000
PAST = 1_000
"""Resolved incidents that a new one is compared with."""


class Handling(ABC):
    """The part of :class:`~aiops.incidents.lifecycle.IncidentService` that people call, each as a principal."""

    _register: Register
    _teller: Teller
    _diagnoser: Diagnoser
    _clock: Clock

    @abstractmethod
    def _keep(self, incident: Incident, now: int) -> None:
        """Save what has grown or is new, and tell of it."""

    def list(
        self, principal: Principal, status: IncidentStatus | None = None, limit: int = 50, since_ms: int = 0
    ) -> builtins.list[Incident]:
        """Newest first, those that the principal may see."""
        asked = limit if principal.scope is None else 10 * limit
        found = self._register.repository.list(status=status, limit=asked, since=since_ms)
        return [i for i in found if visible(i, principal.scope)][:limit]

    def get(self, incident_id: str, principal: Principal) -> Incident:
        """Raises ``NotFound`` also for an incident outside the principal's scope."""
        incident = self._register.get(incident_id) or self._register.repository.get(incident_id)
        if incident is None or not visible(incident, principal.scope):
            raise NotFound(f"There is no incident '{incident_id}'.")
        return incident

    def acknowledge(self, incident_id: str, principal: Principal, *, known_to: Sequence[str] = ()) -> Incident:
        """Take it on. Repeating does nothing; raises ``Conflict`` once it is over.

        ``known_to`` are receivers that need not be told, as it happened there.
        """
        with self._register.lock:
            incident = self._active(incident_id, principal)
            if incident.status is IncidentStatus.ACKNOWLEDGED and incident.assignee == principal.name:
                return incident
            now = self._clock()
            changed = replace(incident, status=IncidentStatus.ACKNOWLEDGED, assignee=principal.name)
            changed = transitions.noted(changed, now, principal.name, "acknowledged")
            self._teller.tell(changed, NotificationEvent.ACKNOWLEDGED, now, known_to)
            return changed

    def resolve(
        self, incident_id: str, principal: Principal, reason: str = "", *, known_to: Sequence[str] = ()
    ) -> Incident:
        """Close it by hand; repeats of signals that still fire do not open it again."""
        with self._register.lock:
            incident = self._active(incident_id, principal)
            return self._end(incident, self._clock(), principal.name, reason[:NOTE_CAP], known_to)

    def assign(self, incident_id: str, assignee: str, principal: Principal) -> Incident:
        """Name who works on it; an empty name means nobody. Repeating does nothing."""
        with self._register.lock:
            incident = self._active(incident_id, principal)
            name = assignee.strip()[:200]
            if name == incident.assignee:
                return incident
            changed = replace(incident, assignee=name)
            changed = transitions.noted(changed, self._clock(), principal.name, "assigned", f"to {name or 'nobody'}")
            self._register.save(changed)
            return changed

    def note(self, incident_id: str, principal: Principal, text: str) -> Incident:
        """Add a person's words to the timeline."""
        if not text.strip():
            raise InvalidInput("The note is empty.")
        with self._register.lock:
            incident = self.get(incident_id, principal)
            changed = transitions.noted(incident, self._clock(), principal.name, "note", text[:NOTE_CAP])
            if incident_id in self._register:
                self._register.save(changed)
            else:
                self._register.repository.save(changed)
            return changed

    def merge(self, incident_id: str, into: str, principal: Principal) -> Incident:
        """Move all signals into ``into`` and return it; whoever was told of the source hears its resolve."""
        if incident_id == into:
            raise InvalidInput("An incident cannot be merged into itself.")
        with self._register.lock:
            source, target = self._active(incident_id, principal), self._active(into, principal)
            if source.simulated != target.simulated:
                raise Conflict("A simulated incident cannot be merged with a real one.")
            return self._merged(source, target, principal.name, "", self._clock())

    def _merged(self, source: Incident, target: Incident, actor: str, reason: str, now: int) -> Incident:
        over = replace(source, status=IncidentStatus.MERGED, merged_into=target.id, resolved_ms=now)
        over = transitions.noted(over, now, actor, "merged", f"into {target.id}" + (f": {reason}" if reason else ""))
        grown = transitions.absorbed(target, source, actor, now, reason)
        news = [notification(name, NotificationEvent.RESOLVED, over, now) for name in over.told]
        self._register.save_all([over, grown], news)
        self._diagnoser.has_changed(grown.id)
        self._keep(grown, now)
        return self._register.get(target.id) or grown

    def _unite(self, one_id: str, other_id: str, reason: str, now: int) -> None:
        """Merge the younger of two open incidents into the older, unless people have decided about them."""
        one, other = self._register.get(one_id), self._register.get(other_id)
        if one is None or other is None or one is other or one.simulated != other.simulated:
            return
        target, source = sorted((one, other), key=lambda i: (i.opened_ms, i.id))
        apart = any(e.event == "split" for i in (one, other) for e in i.timeline)
        if target.active and source.status is IncidentStatus.OPEN and not apart:
            self._merged(source, target, SYSTEM.name, reason, now)

    def split(self, incident_id: str, fingerprints: Sequence[str], principal: Principal, reason: str = "") -> Incident:
        """Move the named signals into a new incident, which is returned and told of like any other.

        Raises:
            InvalidInput: a fingerprint is not the incident's, none is given, or none would be left.
        """
        with self._register.lock:
            source = self._active(incident_id, principal)
            own, wanted = {s.alert.fingerprint for s in source.signals}, set(fingerprints)
            if unknown := sorted(wanted - own):
                raise InvalidInput(f"Incident {incident_id} has no signal '{unknown[0]}'.")
            if not wanted or wanted == own:
                raise InvalidInput("Name some of the incident's signals, not none and not all.")
            now, new_id = self._clock(), self._register.repository.next_id()
            made, left = transitions.divided(source, wanted, new_id, principal.name, reason, now)
            self._register.save_all([left, made])
            self._diagnoser.rank(left.id)
            self._keep(made, now)
            return self._register.get(made.id) or made

    def similar(self, incident_id: str, principal: Principal, limit: int = 5) -> builtins.list[Precedent]:
        """Resolved incidents of the last months that were most like this one, among those that may be seen."""
        incident = self.get(incident_id, principal)
        past = self._register.repository.list(status=IncidentStatus.RESOLVED, limit=PAST)
        return precedents(incident, (i for i in past if visible(i, principal.scope)), limit)

    def told(self, receiver: str) -> builtins.list[Incident]:
        """Active and lately resolved incidents that the receiver was told of."""
        with self._register.lock:
            return [i for i in self._register if receiver in i.told]

    def _active(self, incident_id: str, principal: Principal) -> Incident:
        incident = self.get(incident_id, principal)
        if not incident.active:
            raise Conflict(f"Incident {incident_id} is already {incident.status.value}.")
        return incident

    def _end(
        self, incident: Incident, now: int, actor: str = SYSTEM.name, why: str = "", known_to: Sequence[str] = ()
    ) -> Incident:
        changed = replace(incident, status=IncidentStatus.RESOLVED, resolved_ms=now)
        changed = transitions.noted(changed, now, actor, "resolved", why)
        self._teller.tell(changed, NotificationEvent.RESOLVED, now, known_to)
        return changed
