"""Active and lately resolved incidents, held in memory and written through to the state store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from aiops.core.incident import Incident, IncidentStatus, Notification
from aiops.incidents.feed import Feed
from aiops.store.state.incidents import IncidentRepository

RECENT = 200
"""Resolved incidents read at the start, of those that may still reopen."""


class Register:
    """What is known of incidents now. Callers hold :attr:`lock` while they change anything.

    Attributes:
        lock: guards the incidents and whatever goes with them.
        feed: told of every change once it is saved.
    """

    def __init__(self, repository: IncidentRepository, since_ms: int) -> None:
        self.repository = repository
        self.lock = threading.RLock()
        self.feed = Feed()
        self._known: dict[str, Incident] = {}
        self._holders: dict[str, str] = {}
        self._closed: list[Callable[[Incident], None]] = []
        recent = repository.list(status=IncidentStatus.RESOLVED, limit=RECENT, since=since_ms)
        for incident in (*recent, *repository.active()):
            self._remember(incident)

    def __iter__(self) -> Iterator[Incident]:
        return iter(list(self._known.values()))

    def __contains__(self, incident_id: object) -> bool:
        return incident_id in self._known

    def get(self, incident_id: str) -> Incident | None:
        """One that is held in memory."""
        return self._known.get(incident_id)

    def holder(self, fingerprint: str) -> str:
        """The id of the incident that holds a signal, or the empty text."""
        return self._holders.get(fingerprint, "")

    def on_closed(self, forget: Callable[[Incident], None]) -> None:
        """``forget`` is called with each incident that is saved as over."""
        self._closed.append(forget)

    def save(self, incident: Incident, notifications: Sequence[Notification] = ()) -> None:
        """In one transaction with its notifications. Raises ``TransientError`` when the store is away."""
        self.repository.save(incident, notifications)
        self._remember(incident)

    def save_all(self, incidents: Iterable[Incident], notifications: Sequence[Notification] = ()) -> None:
        """As :meth:`save`, all or none."""
        every = list(incidents)
        self.repository.save_all(every, notifications)
        for incident in every:
            self._remember(incident)

    def drop(self, incident: Incident) -> None:
        """Forget one that cannot reopen any more."""
        del self._known[incident.id]
        for signal in incident.signals:
            if self._holders.get(signal.alert.fingerprint) == incident.id:
                del self._holders[signal.alert.fingerprint]

    def _remember(self, incident: Incident) -> None:
        self._known[incident.id] = incident
        self.feed.publish(incident)
        for signal in incident.signals:
            holder = self._known.get(self._holders.get(signal.alert.fingerprint, ""))
            if incident.active or holder is None or not holder.active:
                self._holders[signal.alert.fingerprint] = incident.id
        if not incident.active:
            for forget in self._closed:
                forget(incident)
