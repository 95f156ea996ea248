"""Who is to hear of an incident at a moment: the routes' conditions, less what is muted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aiops.core.incident import Incident, IncidentStatus
from aiops.incidents.muting import Firing, Mutes
from aiops.incidents.oncall import Duty
from aiops.incidents.routing import Route


@dataclass(frozen=True, slots=True)
class Hearing:
    """Receivers by name, and why nobody hears of it although somebody would; empty otherwise."""

    names: frozenset[str]
    muted: str = ""
    gaps: tuple[str, ...] = ()
    """Why receivers that stand in for a schedule hear of it."""


class Audience:
    """Asked by the incidents' lifecycle.

    Args:
        mutes: what mutes at a time (ms UTC).
        incidents: all that may hold firing alerts, for inhibition.
        duty: who is on call by a schedule at a time.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        mutes: Callable[[int], Mutes] = lambda _: Mutes(),
        incidents: Callable[[], Iterable[Incident]] = tuple,
        duty: Callable[[str, int], Duty] = lambda _schedule, _now: Duty(),
    ) -> None:
        self._routes = tuple(routes)
        self._duty = duty
        self._mutes = mutes
        self._incidents = incidents

    def of(self, incident: Incident, now_ms: int) -> Hearing:
        """Who is to hear of the incident now."""
        willing, gaps = self._willing(incident, now_ms)
        mutes = self._mutes(now_ms) if willing else Mutes()
        if not mutes:
            return Hearing(willing, gaps=gaps)
        others = (i for i in self._incidents() if i.id != incident.id) if mutes.inhibitions else ()
        firing = Firing.of([incident, *others])
        heard, why = mutes.audible(incident, firing)
        if heard is incident:
            return Hearing(willing, gaps=gaps)
        names, gaps = self._willing(heard, now_ms) if heard.signals else (frozenset[str](), ())
        return Hearing(names, "" if names else why, gaps)

    def _willing(self, incident: Incident, now_ms: int) -> tuple[frozenset[str], tuple[str, ...]]:
        names, gaps = set(), set()
        for route in self._routes:
            if not route.wants(incident, now_ms):
                continue
            if route.schedule:
                duty = self._duty(route.schedule, now_ms)
                if route.fallback != bool(duty.gap):
                    continue
                if not route.fallback and route.person and route.person not in duty.people:
                    continue
                gaps |= {duty.gap} - {""}
            names.add(route.name)
        return frozenset(names), tuple(sorted(gaps))

    def paging(self, names: Iterable[str]) -> bool:
        """Whether one of them wakes people."""
        return bool({r.name for r in self._routes if r.pages} & set(names))

    def to_repeat(self, incident: Incident, told_ms: Callable[[str], int], now_ms: int) -> list[str]:
        """Receivers that are due to hear of an unacknowledged incident once more, sorted."""
        if incident.status is not IncidentStatus.OPEN:
            return []
        every = {r.name: r.every_ms(incident) for r in self._routes if r.name in incident.told}
        return sorted(name for name, ms in every.items() if ms and now_ms - told_ms(name) >= ms)
