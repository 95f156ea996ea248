"""Past incidents that were like this one, and what ended them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiops.core.incident import Incident, IncidentStatus
from aiops.core.signals import label
from aiops.incidents.correlation import service_of

WEIGHTS = {"cause": 3.0, "service": 2.0, "signal": 2.0, "metric": 1.0, "template": 1.0}
LEAST = 0.35
ENDINGS = ("resolved", "note", "action")


@dataclass(frozen=True, slots=True)
class Precedent:
    """A past incident.

    Attributes:
        score: in [0, 1], weighted share of traits in common.
        common: the traits that both have, in words.
        ended_by: how it was resolved and what people noted, the latest last.
    """

    incident: Incident
    score: float
    common: tuple[str, ...]
    ended_by: tuple[str, ...]


def precedents(incident: Incident, past: Iterable[Incident], limit: int = 5) -> list[Precedent]:
    """The most alike of the resolved incidents in ``past``, best first; simulated and real ones are never alike."""
    own = traits(incident)
    found = []
    for other in past:
        if other.id == incident.id or other.status is not IncidentStatus.RESOLVED:
            continue
        if other.simulated != incident.simulated:
            continue
        theirs = traits(other)
        score = _alike(own, theirs)
        if score >= LEAST:
            common = tuple(f"{kind} {name}" for kind, name in sorted(own & theirs))
            found.append(Precedent(other, score, common, endings(other)))
    return sorted(found, key=lambda s: (-round(s.score, 6), -s.incident.opened_ms, s.incident.id))[:limit]


def traits(incident: Incident) -> frozenset[tuple[str, str]]:
    """What an incident is known by: cause, services, alert names, metrics and log templates of its signals."""
    found: set[tuple[str, str]] = set()
    if incident.cause_service:
        found.add(("cause", incident.cause_service))
    for signal in incident.signals:
        alert = signal.alert
        if service := service_of(alert):
            found.add(("service", service))
        if alert.anomaly is not None:
            found.add(("metric", f"{alert.anomaly.service} {alert.anomaly.metric}"))
        else:
            found.add(("signal", alert.name))
        if template := label(alert.labels, "template_id"):
            found.add(("template", template))
    return frozenset(found)


def endings(incident: Incident) -> tuple[str, ...]:
    """What was done, from the timeline."""
    entries = [e for e in incident.timeline if e.event in ENDINGS and e.detail]
    return tuple(f"{e.event} by {e.actor}: {e.detail}" for e in entries[-5:])


def _alike(a: frozenset[tuple[str, str]], b: frozenset[tuple[str, str]]) -> float:
    every = sum(WEIGHTS[kind] for kind, _ in a | b)
    return sum(WEIGHTS[kind] for kind, _ in a & b) / every if every else 0.0
