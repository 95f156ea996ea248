"""Alert storms with a known cause: a random call graph, faults that spread to callers, and noise.

    python -m tests.benchmarks.storms [--days 7] [--seed 1] [--json FILE]

Prints how many faults got exactly one incident, false incidents an hour of quiet, and the pairwise F1 of «these two
alerts are one fault» for us, for a five-minute window and for Alertmanager's ``group_by: [service]`` (a group ends
when it was quiet for five minutes), on the same alerts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.principal import SYSTEM
from aiops.core.series import labels_of
from aiops.core.signals import ServiceGraph
from aiops.core.untrusted import Untrusted
from aiops.incidents.diagnosis import Diagnosis
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.routing import Route
from aiops.settings import IncidentSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.outbox import OutboxRepository

T0 = 1_760_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
SYMPTOMS = ("HighLatency", "HighErrorRate", "Saturated", "PodRestarts", "QueueGrowing")
WINDOW_MS = 5 * MINUTE


@dataclass(frozen=True)
class Fired:
    """An alert from ``start`` to ``end`` (ms) on ``service``; ``fault`` is its number, negative for noise."""

    name: str
    service: str
    start: int
    end: int
    fault: int


@dataclass(frozen=True)
class World:
    edges: tuple[tuple[str, str], ...]
    alerts: tuple[Fired, ...]
    faults: int
    duration_ms: int
    quiet_ms: int


def world(seed: int, days: float, services: int = 30, faults_a_day: float = 12.0, noise_a_day: float = 4.0) -> World:
    """Layers of services that call two or three below them; a fault's alerts climb to callers, fading with distance."""
    rng = np.random.default_rng(seed)
    names = [f"svc-{i:02d}" for i in range(services)]
    edges = set()
    for i in range(services):
        below = [j for j in range(i + 1, services) if j - i <= services // 3]
        for j in rng.permutation(below)[: int(rng.integers(1, 4))]:
            edges.add((names[i], names[int(j)]))
    callers = defaultdict(list)
    for caller, callee in sorted(edges):
        callers[callee].append(caller)
    duration = int(days * 24 * HOUR)
    count = max(1, int(rng.poisson(faults_a_day * days)))
    begins = np.sort(rng.integers(0, duration - HOUR, count))
    alerts: list[Fired] = []
    busy: list[tuple[int, int]] = []
    for number, begin in enumerate(begins.tolist()):
        lasts = int(rng.uniform(6, 50) * MINUTE)
        origin = names[int(rng.integers(services // 3, services))]
        mine = list(_spread(rng, number, origin, begin, lasts, callers))
        alerts += mine
        busy.append((begin, max((a.end for a in mine), default=T0 + begin) - T0))
    for number in range(int(rng.poisson(noise_a_day * days))):
        start = int(rng.integers(0, duration))
        lasts = int(rng.uniform(1, 6) * MINUTE)
        alerts.append(Fired("Flaky", names[int(rng.integers(services))], T0 + start, T0 + start + lasts, -number - 1))
    covered = _union(busy)
    return World(
        tuple(sorted(edges)), tuple(sorted(alerts, key=lambda a: (a.start, a.name, a.service))), count, duration,
        duration - covered,
    )  # fmt: skip


def _spread(
    rng: np.random.Generator, number: int, origin: str, begin: int, lasts: int, callers: dict[str, list[str]]
) -> Iterator[Fired]:
    level, seen, chance, delay = [origin], {origin}, 1.0, 0.0
    while level and chance > 0.1:
        for service in level:
            symptoms = rng.permutation(SYMPTOMS)[: int(rng.integers(1, 4))]
            for name in symptoms:
                late = rng.uniform(5.0, 20.0) if rng.random() < 0.1 else rng.uniform(0.2, 3.0)  # a rule's long `for`
                start = T0 + begin + int((late + delay) * MINUTE)
                end = T0 + begin + lasts + int(rng.uniform(0.2, 4.0) * MINUTE)
                if start < end:
                    yield Fired(str(name), service, start, max(end, start + MINUTE), number)
        chance *= 0.65
        delay += float(rng.uniform(0.2, 1.5))
        above = sorted({c for s in level for c in callers.get(s, []) if c not in seen})
        level = [c for c in above if rng.random() < chance]
        seen |= set(above)


def _union(spans: list[tuple[int, int]]) -> int:
    total, reach = 0, -1
    for start, end in sorted(spans):
        start = max(start, reach)
        if end > start:
            total += end - start
            reach = end
    return total


class Graph:
    """Knows who calls whom, and ranks nothing: correlation alone is measured."""

    def __init__(self, edges: tuple[tuple[str, str], ...]) -> None:
        self._graph = ServiceGraph(edges=edges)

    def analyse(self, incident: object, now_ms: int) -> Diagnosis:
        return Diagnosis()

    def graph(self, now_ms: int) -> ServiceGraph:
        return self._graph


def ours(made: World, folder: Path) -> tuple[dict[int, str], dict[str, Counter[str]], list[float]]:
    """Incident of each alert by its index, what each receiver heard by incident, seconds that each submit took."""
    now = [T0]
    database = StateDatabase(sqlite_url(folder))
    database.upgrade()
    service = IncidentService(
        IncidentRepository(database), Graph(made.edges), [Route("pager", pages=True)], IncidentSettings(),
        lambda: now[0], background=False,
    )  # fmt: skip
    events = sorted(
        [(a.start, 0, i) for i, a in enumerate(made.alerts)] + [(a.end, 1, i) for i, a in enumerate(made.alerts)]
    )
    took: list[float] = []
    for at, over, i in events:
        while now[0] + 15_000 < at and any(x.active for x in service._register):
            now[0] += 15_000
            service.tick(now[0])
        now[0] = at
        begun = time.perf_counter()
        service.submit([_alert(made.alerts[i], i, at if over else None, at)])
        took.append(time.perf_counter() - begun)
        service.tick(at)
    for _ in range(240):
        now[0] += 15_000
        service.tick(now[0])
    incident_of: dict[int, str] = {}
    for incident in service.list(SYSTEM, limit=100_000):
        for signal in incident.signals:
            incident_of[int(dict(signal.alert.labels)["index"])] = incident.merged_into or incident.id
    heard: dict[str, Counter[str]] = defaultdict(Counter)
    for delivery in OutboxRepository(database).list(limit=1_000_000):
        heard[delivery.notification.dedup_key][delivery.notification.event.value] += 1
    database.close()
    return incident_of, heard, took


def _alert(fired: Fired, index: int, end: int | None, now: int) -> Alert:
    labels = labels_of({"alertname": fired.name, "service": fired.service, "index": str(index)})
    return Alert(
        fingerprint(labels), SignalKind.ALERT, fired.name, labels, Severity.CRITICAL, fired.start, now, end,
        Untrusted(""), "bench",
    )  # fmt: skip


def by_window(made: World) -> dict[int, str]:
    """A group takes what starts within five minutes of its last alert."""
    group, last, number = {}, -WINDOW_MS * 10, 0
    for i, alert in enumerate(made.alerts):
        number += alert.start - last > WINDOW_MS
        group[i], last = str(number), alert.start
    return group


def by_service(made: World) -> dict[int, str]:
    """Alertmanager's ``group_by: [service]``."""
    group: dict[int, str] = {}
    ends: dict[str, int] = defaultdict(lambda: -WINDOW_MS * 10)
    number: Counter[str] = Counter()
    for i, alert in enumerate(made.alerts):
        number[alert.service] += alert.start - ends[alert.service] > WINDOW_MS
        ends[alert.service] = max(ends[alert.service], alert.end)
        group[i] = f"{alert.service} {number[alert.service]}"
    return group


def pairwise_f1(made: World, group: dict[int, str]) -> float:
    """Of pairs of alerts that lie within two hours of each other: same group against same fault."""
    hits = wrong = missed = 0
    for i, j in itertools.combinations(range(len(made.alerts)), 2):
        if made.alerts[j].start - made.alerts[i].start > 2 * HOUR:
            continue
        same = made.alerts[i].fault == made.alerts[j].fault
        joined = i in group and group.get(i) == group.get(j)
        hits += same and joined
        wrong += joined and not same
        missed += same and not joined
    return 2 * hits / max(1, 2 * hits + wrong + missed)


def measure(seed: int, days: float, **shape: float) -> dict[str, float]:
    made = world(seed, days, **shape)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        incident_of, heard, took = ours(made, Path(folder))
    of_fault: dict[int, set[str]] = defaultdict(set)
    for i, alert in enumerate(made.alerts):
        of_fault[alert.fault].add(incident_of.get(i, "none"))
    real = {f: ids for f, ids in of_fault.items() if f >= 0}
    from_noise = {next(iter(ids)) for f, ids in of_fault.items() if f < 0} - {x for ids in real.values() for x in ids}
    told = [heard[next(iter(ids))] for ids in real.values() if len(ids) == 1]
    return {
        "alerts": len(made.alerts),
        "faults": made.faults,
        "one incident": sum(len(ids) == 1 for ids in real.values()) / len(real),
        "false incidents an hour of quiet": len(from_noise) / (made.quiet_ms / HOUR),
        "F1 ours": pairwise_f1(made, incident_of),
        "F1 five-minute window": pairwise_f1(made, by_window(made)),
        "F1 group_by service": pairwise_f1(made, by_service(made)),
        "one trigger and one resolve": sum(t["opened"] == 1 and t["resolved"] == 1 for t in told) / max(1, len(told)),
        "submit p95 ms": 1000 * float(np.quantile(took, 0.95)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = {f"seed {seed}": measure(seed, given.days) for seed in range(given.seeds)}
    rows["busy, seed 9"] = measure(9, given.days / 2, faults_a_day=48.0)
    print(f"{platform.machine()}, Python {platform.python_version()}, {given.days:g} days a row")
    for name, row in rows.items():
        print(name.ljust(14), "  ".join(f"{k} {v:.3g}" for k, v in row.items()))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()


__all__ = ["Fired", "World", "by_service", "by_window", "measure", "ours", "pairwise_f1", "world"]
