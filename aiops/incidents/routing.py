"""Who is told of an incident: receivers, their conditions, the paging rule and the escalation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aiops.core.errors import ConfigError, InvalidInput
from aiops.core.incident import Incident, IncidentStatus, SignalKind
from aiops.core.series import Matcher
from aiops.incidents.correlation import service_of
from aiops.incidents.matchers import hold, parse_matchers
from aiops.incidents.route_tree import NO_TREE, RouteTree
from aiops.settings import ReceiverSettings

PAGING = frozenset({SignalKind.ALERT, SignalKind.RULE})
"""Kinds of signal that people declared worth waking for; anomalies, costs and findings are not."""


@dataclass(frozen=True, slots=True)
class Route:
    """A receiver by its configured name.

    Attributes:
        pages: it wakes people, so it is told only of incidents that an alert or a rule has joined.
        matchers: all must hold for the incident's labels or those of one of its signals. ``service`` is the
            incident's or the signal's, so that the team of a symptom hears of it too when the cause lies elsewhere.
        min_signals, min_kinds: it is told once the incident holds so many signals, of so many kinds.
        escalate_after_ms: it is told of what nobody acknowledged for so long after the incident opened; 0: at once.
        schedule, person: it is told while ``person`` (or anybody, where it is empty) is on call by that schedule.
        fallback: it is told instead while nobody is on call by ``schedule``, or it is not known who is.
        tree: must lead here, for a signal that ``matchers`` hold for.
        repeat_ms: it is told again of what is open and unacknowledged for so long; 0: never.
    """

    name: str
    pages: bool = False
    matchers: tuple[Matcher, ...] = ()
    min_signals: int = 1
    min_kinds: int = 1
    escalate_after_ms: int = 0
    repeat_ms: int = 0
    schedule: str = ""
    person: str = ""
    fallback: bool = False
    tree: RouteTree = NO_TREE

    def wants(self, incident: Incident, now_ms: int | None = None) -> bool:
        """Whether this receiver is to be told of ``incident`` as it stands at ``now_ms`` (default: its last change)."""
        now = incident.updated_ms if now_ms is None else now_ms
        kinds = {s.alert.kind for s in incident.signals}
        if self.pages and not kinds & PAGING:
            return False
        if len(incident.signals) < self.min_signals or len(kinds) < self.min_kinds:
            return False
        if self.escalate_after_ms:
            taken = incident.status is not IncidentStatus.OPEN
            if taken or now - opened_last(incident) < self.escalate_after_ms:
                return False
        return self._matches(incident)

    def every_ms(self, incident: Incident) -> int:
        """How often it is told again: by the tree, for the first signal that the tree gives a time, or by itself."""
        given = (self.tree.repeat_ms(self.name, labels) for labels in _labels(incident))
        return next((every for every in given if every is not None), self.repeat_ms)

    def _matches(self, incident: Incident) -> bool:
        if not self.matchers and self.tree.root is None:
            return True
        return any(hold(self.matchers, seen) and self.tree.hears(self.name, seen) for seen in _labels(incident))


def _labels(incident: Incident) -> Iterator[dict[str, str]]:
    """What matchers see of each signal: its own labels and the incident's, once for each of the two services."""
    own = {"severity": incident.severity.value, "incident": incident.id}
    own["simulated"] = "true" if incident.simulated else ""
    for signal in incident.signals:
        alert = signal.alert
        for service in sorted({incident.service, service_of(alert) or incident.service}):
            yield {**dict(alert.labels), "alertname": alert.name, "kind": alert.kind.value, **own, "service": service}


def opened_last(incident: Incident) -> int:
    """When it was opened, or opened again."""
    again = (e.time_ms for e in reversed(incident.timeline) if e.event == "reopened")
    return next(again, incident.opened_ms)


def routes_of(
    receivers: Mapping[str, ReceiverSettings], pages: Mapping[str, bool], tree: RouteTree = NO_TREE
) -> list[Route]:
    """The routes of all receivers; ``pages`` says of each whether its kind wakes people. Raises ``ConfigError``."""
    for name, entry in receivers.items():
        if (entry.person or entry.fallback) and not entry.schedule:
            raise ConfigError(f"Receiver '{name}': person and fallback need a schedule.")
    return [
        _route(name, entry, pages[name] if entry.pages is None else entry.pages, tree)
        for name, entry in receivers.items()
    ]


def _route(name: str, entry: ReceiverSettings, pages: bool, tree: RouteTree) -> Route:
    plain = route_of(name, pages, entry.matchers)
    return Route(
        name,
        pages,
        plain.matchers,
        entry.min_signals,
        entry.min_kinds,
        int(entry.escalate_after_s * 1000),
        int(entry.repeat_s * 1000),
        entry.schedule,
        entry.person,
        entry.fallback,
        tree,
    )


def route_of(name: str, pages: bool, matchers: Sequence[str] = ()) -> Route:
    """From settings. Raises ``ConfigError`` for a matcher that cannot be read."""
    try:
        return Route(name, pages, parse_matchers(matchers))
    except InvalidInput as error:
        raise ConfigError(f"Receiver '{name}': {error.message}", hint=error.hint) from error
