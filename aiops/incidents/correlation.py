"""Which open incident a new signal belongs to: pure, deterministic, with the reason in words.

The score of a pair of signals is time proximity times their closest relation: the same service, a call
path of at most two hops in one direction, or the same host. Shared namespace and cluster only add to a
relation; time alone links nothing, and simulated signals never join real ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiops.core.incident import Alert, Incident, IncidentSignal
from aiops.core.series import Labels
from aiops.core.signals import ServiceGraph, label
from aiops.core.untrusted import Untrusted

DECAY_MS = 300_000
THRESHOLD = 0.25
STILL_FIRING = 0.7
"""Time proximity of a late signal (a rule with a long ``for``) to one that still fires."""

FIRING_DECAY_MS = 1_800_000

_SAME_SERVICE, _HOPS, _SAME_HOST, _SHARED = 1.0, {1: 0.7, 2: 0.45}, 0.6, 0.1
_SERVICE_LABELS = ("service", "service_name", "app", "service.name")
_HOST_LABELS = ("host", "node", "instance", "hostname", "nodename")
_PLACE_LABELS = (("namespace", "k8s_namespace_name"), ("cluster", "k8s_cluster_name"))


@dataclass(frozen=True, slots=True)
class Link:
    """Where a signal goes; ``incident_id`` is ``None`` for a new incident. ``reason`` is stored."""

    incident_id: str | None
    reason: str
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class CallPaths:
    """Directed call paths of at most two hops, ready for look-up."""

    hops: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, edges: Iterable[tuple[str, str]]) -> CallPaths:
        """Self-loops are dropped; cycles do no harm at two hops."""
        callees: dict[str, set[str]] = {}
        for caller, callee in edges:
            if caller != callee:
                callees.setdefault(caller, set()).add(callee)
        hops: dict[tuple[str, str], int] = {}
        for caller, direct in callees.items():
            for middle in direct:
                for far in callees.get(middle, ()):
                    if far != caller:
                        hops.setdefault((caller, far), 2)
        for caller, direct in callees.items():
            for callee in direct:
                hops[caller, callee] = 1
        return cls(hops)

    def describe(self, new: str, old: str) -> tuple[int, str]:
        """(hops, words) between two services along the calls; (0, "") where there is no such path."""
        down, up = self.hops.get((new, old), 0), self.hops.get((old, new), 0)
        if down and (not up or down <= up):
            return down, f"{new} calls {old}" + ("" if down == 1 else " over one service")
        if up:
            return up, f"{new} is called by {old}" + ("" if up == 1 else " over one service")
        return 0, ""


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


def _first(labels: Labels, names: Sequence[str]) -> str:
    return next((v for name in names if (v := label(labels, name))), "")


def correlate(
    alert: Alert, incidents: Sequence[Incident], graph: ServiceGraph | CallPaths, life_cap_ms: int = 4 * 3_600_000
) -> Link:
    """The incident that ``alert`` joins.

    Args:
        incidents: candidates, usually the active ones; order does not matter.
        graph: who calls whom; may be empty.
        life_cap_ms: an incident takes no signal that starts later than this after it opened.
    """
    paths = graph if isinstance(graph, CallPaths) else CallPaths.of(graph.edges)
    best = Link(None, "no open incident is related")
    for incident in sorted(incidents, key=lambda i: (i.opened_ms, i.id)):
        if alert.starts_ms - incident.opened_ms > life_cap_ms:
            continue
        for signal in incident.signals:
            score, reason = relation(alert, signal, paths, incident.cause_service)
            if score >= THRESHOLD and score > best.score + 1e-9:
                best = Link(incident.id, reason, score)
    return best


def relation(alert: Alert, signal: IncidentSignal, paths: CallPaths, cause: str = "") -> tuple[float, str]:
    """Score and reason of one pair; 0 where nothing but time relates them. ``cause``: the incident's, if clear."""
    other = signal.alert
    if is_simulated(alert.labels) != is_simulated(other.labels):
        return 0.0, ""
    strength, words = _closeness(alert, other, paths, cause)
    if not strength:
        return 0.0, ""
    for names in _PLACE_LABELS:
        mine, theirs = _first(alert.labels, names), _first(other.labels, names)
        if mine and theirs:
            if mine != theirs:
                return 0.0, ""
            strength, words = strength + _SHARED, f"{words}, same {names[0]} {mine}"
    gap = abs(alert.starts_ms - other.starts_ms)
    time = math.exp(-gap / DECAY_MS)
    overlaps = other.starts_ms <= alert.starts_ms and (other.ends_ms is None or other.ends_ms >= alert.starts_ms)
    if overlaps and _may_follow(alert, other, paths, cause):
        time = max(time, STILL_FIRING * math.exp(-gap / FIRING_DECAY_MS))
    when = f"{gap / 1000:.0f} s {'after' if alert.starts_ms >= other.starts_ms else 'before'} {other.name}"
    return strength * time, Untrusted(f"{words}; started {when}").display(300)


def _may_follow(late: Alert, other: Alert, paths: CallPaths, cause: str) -> bool:
    """Whether a late signal can be an effect of one that still fires: on the same service, or on a direct caller.

    Faults climb to callers; a callee that fails long after them is a fault of its own.
    """
    mine, theirs = service_of(late), service_of(other)
    if not mine or not theirs:
        return True
    return mine in (theirs, cause) or paths.hops.get((mine, theirs), 0) == 1


def _closeness(alert: Alert, other: Alert, paths: CallPaths, cause: str) -> tuple[float, str]:
    mine, theirs = service_of(alert), service_of(other)
    if mine and mine == theirs:
        return _SAME_SERVICE, f"same service {mine}"
    if mine and mine == cause:
        return _SAME_SERVICE, f"{mine} is the likely cause"
    if mine and theirs:
        hops, words = paths.describe(mine, theirs)
        if hops:
            return _HOPS[hops], words
    host = host_of(alert)
    if host and host == host_of(other):
        return _SAME_HOST, f"same host {host}"
    if not mine and not theirs and alert.name == other.name and alert.labels == other.labels:
        return _SAME_SERVICE, f"same alert {alert.name}"
    return 0.0, ""


def callers_of(service: str, edges: Iterable[tuple[str, str]], limit: int = 50) -> tuple[str, ...]:
    """Who calls ``service``, directly or through others: the nearest first, then by name.

    >>> callers_of("db", [("web", "cart"), ("cart", "db"), ("db", "cart"), ("job", "db")])
    ('cart', 'job', 'web')
    """
    callers: dict[str, set[str]] = {}
    for caller, callee in edges:
        callers.setdefault(callee, set()).add(caller)
    found: list[str] = []
    level = [service]
    while level and len(found) < limit:
        level = sorted({c for s in level for c in callers.get(s, ())} - {service, *found})
        found += level
    return tuple(found[:limit])
