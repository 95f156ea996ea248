"""What receivers are told of an incident, and when: saved in one transaction with the change that it tells of."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from aiops.core.incident import Incident, Notification, NotificationEvent
from aiops.core.principal import SYSTEM
from aiops.incidents import transitions
from aiops.incidents.audience import Audience, Hearing
from aiops.incidents.register import Register
from aiops.incidents.routing import opened_last

ANNOUNCE_MS = 3_000
"""A new incident waits this long at most for its first ranking of causes, so that the page says why."""
UPDATE_GAP_MS = 30_000
"""Updates of one incident are told at most this often, unless it becomes worse."""


class Teller:
    """Writes notifications through the register; callers hold its lock."""

    def __init__(self, register: Register, audience: Audience) -> None:
        self._register = register
        self._audience = audience
        self._untold: set[str] = set()
        self._repeated: dict[tuple[str, str], int] = {}
        register.on_closed(self._forget)

    def hearing(self, incident: Incident, now: int) -> tuple[Incident, Hearing]:
        """Who is to hear of it now, and the incident with the reason why nobody does."""
        heard = self._audience.of(incident, now)
        return transitions.muted(incident, heard.muted, now, SYSTEM.name), heard

    def has_news(self, incident: Incident) -> None:
        """Something that those who were told ought to hear, at the next update."""
        if incident.told:
            self._untold.add(incident.id)

    def due(self, incident: Incident, hearing: Hearing, now: int) -> None:
        """Announce, update or repeat, whichever is due."""
        missing = bool(hearing.names - set(incident.told))
        ready = bool(incident.told) or now - opened_last(incident) >= ANNOUNCE_MS
        waited = now - _last_told(incident)
        if (missing and ready) or (incident.id in self._untold and waited >= UPDATE_GAP_MS and not hearing.muted):
            self.announce(incident, now, hearing)
        elif not hearing.muted:
            self._repeat(incident, now)

    def announce(self, incident: Incident, now: int, hearing: Hearing) -> None:
        """Save with a notification to everyone who is to know: news to the told, the opening to the others."""
        names, told = set(hearing.names), set(incident.told)
        self._untold.discard(incident.id)
        if not told | names:
            self._register.save(incident)
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
        self._register.save(
            incident,
            [notification(n, NotificationEvent.OPENED, incident, now) for n in sorted(fresh)]
            + [notification(n, NotificationEvent.UPDATED, incident, now) for n in sorted(told)],
        )

    def tell(self, incident: Incident, event: NotificationEvent, now: int, known_to: Sequence[str] = ()) -> None:
        """Save with a notification to all who were told before, but ``known_to``."""
        names = (name for name in incident.told if name not in known_to)
        self._register.save(incident, [notification(name, event, incident, now) for name in names])

    def _repeat(self, incident: Incident, now: int) -> None:
        last = _last_told(incident)
        due = self._audience.to_repeat(incident, lambda name: self._repeated.get((incident.id, name), last), now)
        if not due:
            return
        changed = transitions.noted(incident, now, SYSTEM.name, "told again", f"{', '.join(due)}: unacknowledged")
        self._register.save(changed, [notification(name, NotificationEvent.UPDATED, changed, now) for name in due])
        self._repeated |= {(incident.id, name): now for name in due}

    def _forget(self, incident: Incident) -> None:
        self._untold.discard(incident.id)
        self._repeated = {key: at for key, at in self._repeated.items() if key[0] != incident.id}


def notification(receiver: str, event: NotificationEvent, incident: Incident, now_ms: int) -> Notification:
    return Notification(str(uuid.uuid4()), receiver, event, incident, now_ms, incident.id)


def _last_told(incident: Incident) -> int:
    times = (e.time_ms for e in reversed(incident.timeline) if e.event in ("told", "update told"))
    return next(times, 0)
