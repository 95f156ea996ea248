"""Which open incident a new signal belongs to, and which incidents it shows to be one: deterministic, with reasons.

The score of a pair of signals is time proximity times their closest relation: the same service, a call path of at
most two hops in one direction, the same host or resource (the more services share it, the less it says), or a
habit of firing together. A shared namespace and cluster only add to a relation; time alone links nothing, and
simulated signals never join real ones.

A signal that explains several young incidents (their services call its own, or run on its host) makes them one.
One that is an effect of several joins the nearest and unites nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aiops.core.incident import Alert, Incident
from aiops.core.series import Labels
from aiops.core.signals import ServiceGraph, label
from aiops.core.untrusted import Untrusted
from aiops.incidents.call_paths import CallPaths
from aiops.incidents.companions import Companions
from aiops.incidents.metric_kinds import is_own_resource

DECAY_MS = 300_000
THRESHOLD = 0.25
UNITES = 0.4
"""Score from which a signal that explains two incidents unites them: some three minutes apart on a direct call."""
STILL_FIRING = 0.7
"""Time proximity of a late signal (a rule with a long ``for``) to one that still fires."""

FIRING_DECAY_MS = 1_800_000
AT_ONCE_MS = 60_000
"""A callee's signal that starts later than this after its caller's must explain all that the incident began with."""

_SAME_SERVICE, _HOPS, _SHARED = 1.0, {1: 0.7, 2: 0.45}, 0.1
_PLACE_ITSELF, _SAME_PLACE, _HABIT = 0.8, 0.6, 0.5
_FEW = 8
"""Services at one place up to which it says all it can."""
_SEVERAL = 3
_NEAREST = 4
_SERVICE_LABELS = ("service", "service_name", "app", "service.name")
_HOST_LABELS = ("host", "node", "instance", "hostname", "nodename")
_RESOURCE_LABELS = ("deployment", "statefulset", "database", "datname", "volume", "persistentvolumeclaim", "queue",
                    "topic")  # fmt: skip
_NAMESPACE_LABELS, _CLUSTER_LABELS = ("namespace", "k8s_namespace_name"), ("cluster", "k8s_cluster_name")


@dataclass(frozen=True, slots=True)
class Link:
    """Where a signal goes; ``incident_id`` is ``None`` for a new incident. ``reason`` is stored.

    ``unites`` are other incidents that the signal explains as well, each with the reason.
    """

    incident_id: str | None
    reason: str
    score: float = 0.0
    unites: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Relation:
    """Of a new signal to one of an incident; ``explains``: the new one can be the cause of the other."""

    score: float = 0.0
    reason: str = ""
    explains: bool = False
    near: float = 0.0
    """The score by the starts alone, without allowance for what still fires."""


NONE = Relation()


def is_simulated(labels: Labels) -> bool:
    return label(labels, "simulated").lower() in ("true", "1", "yes")


def service_of(alert: Alert) -> str:
    """The service by name; unlike :attr:`Alert.service` never a scrape job or a host."""
    if named := _first(alert.labels, _SERVICE_LABELS):
        return named
    if alert.anomaly is None or alert.anomaly.service in {label(alert.labels, name) for name in _HOST_LABELS}:
        return ""
    return alert.anomaly.service


def host_of(alert: Alert) -> str:
    value = _first(alert.labels, _HOST_LABELS)
    name, _, port = value.rpartition(":")
    return name if name and port.isdigit() else value


def places_of(alert: Alert) -> tuple[tuple[str, str], ...]:
    """(what, name) of the host and the named resources that a signal is of."""
    host = host_of(alert)
    named = tuple((name, v) for name in _RESOURCE_LABELS if (v := label(alert.labels, name)))
    return (("host", host), *named) if host else named


def _first(labels: Labels, names: Sequence[str]) -> str:
    return next((v for name in names if (v := label(labels, name))), "")


@dataclass(frozen=True, slots=True)
class _Held:
    """An incident's signals by what a relation may come from."""

    alerts: tuple[Alert, ...]
    services: dict[str, list[Alert]] = field(default_factory=dict)
    places: dict[tuple[tuple[str, str], bool], list[Alert]] = field(default_factory=dict)
    """By place and whether a service is named: what is of the place itself says more than what is there."""

    @classmethod
    def of(cls, incident: Incident) -> _Held:
        held = cls(tuple(s.alert for s in incident.signals))
        for alert in held.alerts:
            held.services.setdefault(service_of(alert), []).append(alert)
            for place in places_of(alert):
                held.places.setdefault((place, bool(service_of(alert))), []).append(alert)
        return held


class Correlator:
    """Links signals to incidents; callers serialise calls.

    Args:
        companions: what earlier alerts taught.
        life_cap_ms: an incident takes no signal that starts later than this after it opened.
    """

    def __init__(self, companions: Companions | None = None, life_cap_ms: int = 4 * 3_600_000) -> None:
        self.companions = companions or Companions()
        self._life_cap_ms = life_cap_ms
        self._held: dict[str, tuple[Incident, _Held]] = {}

    def learn(self, alert: Alert) -> None:
        """Take note of an alert that begins to fire."""
        if not is_simulated(alert.labels):
            self.companions.learn(service_of(alert), places_of(alert), alert.starts_ms)

    def link(self, alert: Alert, incidents: Iterable[Incident], paths: CallPaths) -> Link:
        """The incident that ``alert`` joins, and those that it unites with it; the order does not matter."""
        found: list[tuple[float, int, str, Relation, Relation]] = []
        for incident in incidents:
            if alert.starts_ms - incident.opened_ms > self._life_cap_ms:
                continue
            best, cause = self._best(alert, incident, paths)
            if best.score >= THRESHOLD:
                found.append((-round(best.score, 9), incident.opened_ms, incident.id, best, cause))
        if not found:
            return Link(None, "no open incident is related")
        found.sort(key=lambda f: f[:3])
        _, _, incident_id, best, cause = found[0]
        unites = tuple((f[2], f[4].reason) for f in found[1:] if f[4].near >= UNITES) if cause.near >= UNITES else ()
        return Link(incident_id, best.reason, best.score, unites)

    def _best(self, alert: Alert, incident: Incident, paths: CallPaths) -> tuple[Relation, Relation]:
        """The closest relation, and the closest in which the signal explains the incident's."""
        held = self._of(incident)
        mine, places = service_of(alert), places_of(alert)
        near: list[Alert] = []
        for service, alerts in held.services.items() if mine else ():
            related = service == mine or mine == incident.cause_service
            if related or paths.describe(mine, service)[0] or self.companions.times(mine, service)[0]:
                near += _nearest(alert, alerts)
        if not mine and not places:
            near += _nearest(alert, held.services.get("", ()))
        for place in places:
            for named in (False, True):
                near += _nearest(alert, held.places.get((place, named), ()))
        best = cause = NONE
        explains_all: bool | None = None
        for other in dict.fromkeys(near):
            later = abs(alert.starts_ms - other.starts_ms) > AT_ONCE_MS
            if later and (service_of(other), mine) in paths.hops and mine not in held.services:
                if explains_all is None:
                    explains_all = all(mine in paths.below(root) for root in paths.roots(held.services))
                if not explains_all:
                    continue
            found = self.relation(alert, other, paths, incident.cause_service)
            if found.score > best.score + 1e-9:
                best = found
            if found.explains and found.near > cause.near + 1e-9:
                cause = found
        return best, cause

    def _of(self, incident: Incident) -> _Held:
        kept = self._held.get(incident.id)
        if kept is None or kept[0].signals is not incident.signals:
            if len(self._held) > 2_000:
                self._held.clear()
            kept = self._held[incident.id] = (incident, _Held.of(incident))
        return kept[1]

    def relation(self, alert: Alert, other: Alert, paths: CallPaths, cause: str = "") -> Relation:
        """Of one pair; ``NONE`` where nothing but time relates them. ``cause``: the incident's, if clear."""
        if is_simulated(alert.labels) != is_simulated(other.labels) or _differ(alert, other, _CLUSTER_LABELS):
            return NONE
        strength, words, explains = self._closeness(alert, other, paths, cause)
        if not strength:
            return NONE
        for names in (_NAMESPACE_LABELS, _CLUSTER_LABELS):
            mine = _first(alert.labels, names)
            if mine and mine == _first(other.labels, names):
                strength, words = strength + _SHARED, f"{words}, same {names[0]} {mine}"
        gap = abs(alert.starts_ms - other.starts_ms)
        near = time = math.exp(-gap / DECAY_MS)
        overlaps = other.starts_ms <= alert.starts_ms and (other.ends_ms is None or other.ends_ms >= alert.starts_ms)
        if overlaps and _may_follow(alert, other, paths, cause):
            time = max(time, STILL_FIRING * math.exp(-gap / FIRING_DECAY_MS))
        when = f"{gap / 1000:.0f} s {'after' if alert.starts_ms >= other.starts_ms else 'before'} {other.name}"
        reason = Untrusted(f"{words}; started {when}").display(300)
        return Relation(strength * time, reason, explains, strength * near)

    def _closeness(self, alert: Alert, other: Alert, paths: CallPaths, cause: str) -> tuple[float, str, bool]:
        """(strength, words, whether the new one can explain the other)."""
        mine, theirs = service_of(alert), service_of(other)
        if mine and mine == theirs and not _differ(alert, other, _NAMESPACE_LABELS):
            return _SAME_SERVICE, f"same service {mine}", True
        if mine and mine == cause:
            return _SAME_SERVICE, f"{mine} is the likely cause", True
        found = (0.0, "", False)
        if mine and theirs and mine != theirs:
            hops, words = paths.describe(mine, theirs)
            if hops:
                found = (_HOPS[hops], words, (theirs, mine) in paths.hops)
        for place in sorted(set(places_of(alert)) & set(places_of(other))):
            strength, words, explains = self._place(place, mine, theirs, alert.starts_ms, paths)
            if strength > found[0]:
                found = (strength, words, explains)
        if mine and theirs and mine != theirs and not found[0]:
            times, of = self.companions.times(mine, theirs)
            if times:
                found = (_HABIT, f"{mine} and {theirs} fired together {times} of {of} times", False)
        if not found[0] and not mine and not theirs and alert.name == other.name and alert.labels == other.labels:
            return _SAME_SERVICE, f"same alert {alert.name}", True
        return found

    def _place(
        self, place: tuple[str, str], mine: str, theirs: str, now_ms: int, paths: CallPaths
    ) -> tuple[float, str, bool]:
        """Of two signals of one place: that of the place itself explains those of the services there.

        Two services that merely share a place prove nothing; several that begin to fire there at once do, unless
        calls explain that.
        """
        what, name = place
        few = min(1.0, math.sqrt(_FEW / max(self.companions.services_at(place), 1)))
        if not (mine and theirs):
            return _PLACE_ITSELF, f"same {what} {name}", not mine
        apart = [mine]
        for service in (theirs, *self.companions.lately_at(place, now_ms)):
            if all(service != other and not paths.describe(service, other)[0] for other in apart):
                apart.append(service)
        if len(apart) < _SEVERAL:
            return _SHARED * few, f"same {what} {name}", False
        return _SAME_PLACE * few, f"same {what} {name} as {len(apart) - 1} other services that fire", True


def correlate(
    alert: Alert, incidents: Sequence[Incident], graph: ServiceGraph | CallPaths, life_cap_ms: int = 4 * 3_600_000
) -> Link:
    """As :meth:`Correlator.link`, with nothing learnt."""
    paths = graph if isinstance(graph, CallPaths) else CallPaths.of(graph.edges)
    return Correlator(life_cap_ms=life_cap_ms).link(alert, incidents, paths)


def _nearest(alert: Alert, alerts: Sequence[Alert]) -> list[Alert]:
    """Those that started nearest in time, of all and of those that fire: no other of them can score higher."""
    if len(alerts) <= _NEAREST:
        return list(alerts)
    firing = [a for a in alerts if a.firing]
    return [
        a
        for group in (alerts, firing)
        for a in heapq.nsmallest(_NEAREST, group, key=lambda a: (abs(alert.starts_ms - a.starts_ms), a.fingerprint))
    ]


def _differ(alert: Alert, other: Alert, names: Sequence[str]) -> bool:
    mine, theirs = _first(alert.labels, names), _first(other.labels, names)
    return bool(mine and theirs) and mine != theirs


def _may_follow(late: Alert, other: Alert, paths: CallPaths, cause: str) -> bool:
    """Whether a late signal can be an effect of one that still fires: on the same service, or on a direct caller.

    Faults climb to callers; a callee that fails long after them is a fault of its own, and so is a caller that runs
    out of a resource of its own.
    """
    mine, theirs = service_of(late), service_of(other)
    if not mine or not theirs or mine in (theirs, cause):
        return True
    return paths.hops.get((mine, theirs), 0) == 1 and not is_own_resource(_measure(late))


def _measure(alert: Alert) -> str:
    return alert.name if alert.anomaly is None else alert.anomaly.metric
