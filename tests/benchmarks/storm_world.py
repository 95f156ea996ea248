"""Storms of alerts with a known cause, as an organisation of several systems has them.

Written down before any tuning:

- Twelve systems that do not call each other, each a layered call graph of 15 services in its own namespace. Pods
  of all systems share hosts and zones, so that a place alone says little.
- Faults come at random and last 6 to 50 minutes, so that unrelated ones overlap, also within one system. What
  is wrong climbs to callers and fades with distance; one in five climbs slowly (minutes a hop). One in ten is of a
  host: its own alert (which names no service) and one on each of some services that run there.
- An alert is its name and its service: what fires already does not fire again for another fault. One in ten
  starts late (a rule with a long ``for``), one in ten flaps.
- Noise: single short alerts that belong to nothing.
- Two senders tell of each alert, the second up to half a minute later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

T0 = 1_760_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
SYMPTOMS = ("HighLatency", "HighErrorRate", "Saturated", "PodRestarts", "QueueGrowing")


@dataclass(frozen=True)
class Fired:
    """An alert from ``start`` to ``end`` (ms); ``fault`` is its number, negative for noise.

    ``service`` is empty for an alert of a host. ``echo`` is by how much the second sender is later.
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    start: int
    end: int
    fault: int
    echo: int = 0

    def label(self, name: str) -> str:
        return dict(self.labels).get(name, "")


@dataclass(frozen=True)
class World:
    """Alerts in order of their start, and what they are the alerts of."""

    edges: tuple[tuple[str, str], ...]
    alerts: tuple[Fired, ...]
    faults: int
    busy: tuple[tuple[int, int], ...]
    """Stretches in which an alert of a fault fires (ms), in order, apart."""
    duration_ms: int

    @property
    def quiet_ms(self) -> int:
        return self.duration_ms - sum(end - start for start, end in self.busy)


@dataclass
class _Organisation:
    edges: set[tuple[str, str]]
    callers: dict[str, list[str]]
    place: dict[str, dict[str, str]]
    """Labels of each service."""


def world(
    seed: int, days: float, systems: int = 12, services: int = 15, faults_a_day: float = 40.0, noise_a_day: float = 8.0
) -> World:
    """``services`` are those of one system."""
    rng = np.random.default_rng(seed)
    made = _organisation(rng, systems, services)
    duration = int(days * 24 * HOUR)
    count = max(1, int(rng.poisson(faults_a_day * days)))
    alerts: list[Fired] = []
    for number, begin in enumerate(np.sort(rng.integers(0, max(duration - HOUR, 1), count)).tolist()):
        lasts = int(rng.uniform(6, 50) * MINUTE)
        alerts += _fault(rng, made, number, T0 + begin, lasts)
    for number in range(int(rng.poisson(noise_a_day * days))):
        start, service = T0 + int(rng.integers(0, duration)), str(rng.choice(sorted(made.place)))
        end = start + int(rng.uniform(1, 6) * MINUTE)
        alerts.append(_alert(rng, "Flaky", made.place[service], start, end, -number - 1))
    kept = _once(sorted(alerts, key=lambda a: (a.start, a.name, a.labels)))
    busy = _union([(a.start, a.end) for a in kept if a.fault >= 0])
    faults = len({a.fault for a in kept if a.fault >= 0})
    return World(tuple(sorted(made.edges)), tuple(kept), faults, tuple(busy), duration)


def _organisation(rng: np.random.Generator, systems: int, services: int) -> _Organisation:
    edges: set[tuple[str, str]] = set()
    place: dict[str, dict[str, str]] = {}
    hosts = [f"node-{i:02d}" for i in range(max(4, systems * services // 6))]
    for system in range(systems):
        names = [f"app{system}-svc{i:02d}" for i in range(services)]
        for i, name in enumerate(names):
            below = list(range(i + 1, min(services, i + 1 + max(3, services // 3))))
            for j in rng.permutation(below)[: int(rng.integers(1, 4))]:
                edges.add((name, names[int(j)]))
            host = int(rng.integers(len(hosts)))
            place[name] = {"service": name, "namespace": f"app{system}", "node": hosts[host], "zone": f"z{host % 3}"}
    callers: dict[str, list[str]] = defaultdict(list)
    for caller, callee in sorted(edges):
        callers[callee].append(caller)
    return _Organisation(edges, callers, place)


def _fault(rng: np.random.Generator, made: _Organisation, number: int, begin: int, lasts: int) -> Iterator[Fired]:
    end = begin + lasts
    if rng.random() < 0.1:
        first = made.place[str(rng.choice(sorted(made.place)))]
        host = {"node": first["node"], "zone": first["zone"], "job": "node"}
        yield _alert(rng, "HostDown", host, begin + int(rng.uniform(0.2, 2.0) * MINUTE), end, number)
        on_it = [s for s, labels in sorted(made.place.items()) if labels["node"] == first["node"]]
        for service in on_it:
            if rng.random() < 0.7:
                yield from _symptoms(rng, made, number, service, begin, end, 0.0)
        return
    slow = rng.random() < 0.2
    level = [str(rng.choice(sorted(made.place)))]
    seen, chance, delay = set(level), 1.0, 0.0
    while level and chance > 0.1:
        for service in level:
            yield from _symptoms(rng, made, number, service, begin, end, delay)
        chance *= 0.65
        delay += float(rng.uniform(3.0, 8.0) if slow else rng.uniform(0.2, 1.5))
        above = sorted({c for s in level for c in made.callers.get(s, []) if c not in seen})
        level = [c for c in above if rng.random() < chance]
        seen |= set(above)


def _symptoms(
    rng: np.random.Generator, made: _Organisation, number: int, service: str, begin: int, end: int, delay: float
) -> Iterator[Fired]:
    for name in rng.permutation(SYMPTOMS)[: int(rng.integers(1, 4))]:
        late = rng.uniform(5.0, 20.0) if rng.random() < 0.1 else rng.uniform(0.2, 3.0)
        start = begin + int((late + delay) * MINUTE)
        over = end + int(rng.uniform(0.2, 4.0) * MINUTE)
        if start >= end:
            continue
        if rng.random() < 0.1:
            while start < over:
                stop = start + int(rng.uniform(1.0, 3.0) * MINUTE)
                yield _alert(rng, str(name), made.place[service], start, min(stop, over), number)
                start = stop + int(rng.uniform(1.0, 3.0) * MINUTE)
        else:
            yield _alert(rng, str(name), made.place[service], start, max(over, start + MINUTE), number)


def _alert(rng: np.random.Generator, name: str, labels: dict[str, str], start: int, end: int, fault: int) -> Fired:
    pairs = tuple(sorted({**labels, "alertname": name}.items()))
    return Fired(name, pairs, start, end, fault, int(rng.uniform(0, 30_000)))


def _once(alerts: list[Fired]) -> list[Fired]:
    """Without those that would start while the same alert fires."""
    ends: dict[tuple[tuple[str, str], ...], int] = {}
    kept = []
    for alert in alerts:
        if alert.start > ends.get(alert.labels, 0):
            ends[alert.labels] = alert.end
            kept.append(alert)
    return kept


def _union(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    apart: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if apart and start <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], end))
        else:
            apart.append((start, end))
    return apart
