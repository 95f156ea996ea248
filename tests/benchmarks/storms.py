"""Correlation on storms of alerts with a known cause (:mod:`tests.benchmarks.storm_world` says how they are made).

    python -m tests.benchmarks.storms [--days 4] [--seeds 3] [--rush 10000] [--json FILE]

Prints the share of faults whose alerts are all in one incident; the share that has it to itself; the same but for
faults whose very alert comes back within 15 minutes of another's, which the rule of reopening counts as that one;
false incidents an hour of quiet; and the pairwise F1 of «these two alerts are one fault» for us, for a five-minute
window and for Alertmanager's ``group_by: [service]`` (a group ends when it was quiet for five minutes), on the same
alerts. Then the pages of a cascade of 500 alerts, and what one ``submit`` takes when 10,000 alerts come in a minute.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.principal import SYSTEM
from aiops.core.signals import ServiceGraph
from aiops.core.untrusted import Untrusted
from aiops.incidents.diagnosis import Diagnosis
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.routing import Route
from aiops.settings import IncidentSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.outbox import OutboxRepository
from tests.benchmarks.storm_world import HOUR, MINUTE, T0, Fired, World, world

WINDOW_MS = 5 * MINUTE
REOPEN_MS = 15 * MINUTE
TICK_MS = 15_000


class Graph:
    """Knows who calls whom, and ranks nothing: correlation alone is measured."""

    def __init__(self, edges: Sequence[tuple[str, str]]) -> None:
        self._graph = ServiceGraph(edges=tuple(edges))

    def analyse(self, incident: object, now_ms: int) -> Diagnosis:
        return Diagnosis()

    def graph(self, now_ms: int) -> ServiceGraph:
        return self._graph


@contextmanager
def service_of(
    edges: Sequence[tuple[str, str]], clock: Callable[[], int]
) -> Iterator[tuple[IncidentService, OutboxRepository]]:
    """The product's incidents over a database file of their own, with one pager."""
    with tempfile.TemporaryDirectory() as folder:
        database = StateDatabase(sqlite_url(Path(folder)))
        database.upgrade()
        yield (
            IncidentService(
                IncidentRepository(database), Graph(edges), [Route("pager", pages=True)], IncidentSettings(), clock,
                background=False,
            ),
            OutboxRepository(database),
        )  # fmt: skip
        database.close()


def ours(made: World) -> tuple[dict[int, str], dict[str, Counter[str]]]:
    """Incident of each alert by its index, and what the pager heard by incident."""
    now = [T0]
    alerts = [_alert(fired) for fired in made.alerts]
    holders: dict[int, str] = {}
    with service_of(made.edges, lambda: now[0]) as (service, outbox):
        for at, over, i in _events(made.alerts):
            while now[0] + TICK_MS < at and any(x.active for x in service._register):
                now[0] += TICK_MS
                service.tick(now[0])
            now[0] = at
            service.submit([replace(alerts[i], updated_ms=at, ends_ms=made.alerts[i].end if over else None)])
            if not over:
                holders[i] = service._register.holder(alerts[i].fingerprint)
            service.tick(at)
        for _ in range(240):
            now[0] += TICK_MS
            service.tick(now[0])
        into = {i.id: i.merged_into for i in service.list(SYSTEM, limit=100_000)}
        heard: dict[str, Counter[str]] = defaultdict(Counter)
        for delivery in outbox.list(limit=1_000_000):
            heard[delivery.notification.dedup_key][delivery.notification.event.value] += 1
    for i, incident in holders.items():
        while into.get(incident):
            incident = into[incident]
        holders[i] = incident
    return holders, heard


def _events(alerts: Sequence[Fired]) -> list[tuple[int, int, int]]:
    """(time, whether it ends, index), of both senders."""
    every = []
    for i, alert in enumerate(alerts):
        every += [(alert.start, 0, i), (alert.end, 1, i)]
        if alert.start + alert.echo < alert.end:
            every += [(alert.start + alert.echo, 0, i), (alert.end + alert.echo, 1, i)]
    return sorted(every)


def _alert(fired: Fired) -> Alert:
    return Alert(
        fingerprint(fired.labels), SignalKind.ALERT, fired.name, fired.labels, Severity.CRITICAL, fired.start,
        fired.start, None, Untrusted(""), "bench",
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
        service = alert.label("service")
        number[service] += alert.start - ends[service] > WINDOW_MS
        ends[service] = max(ends[service], alert.end)
        group[i] = f"{service} {number[service]}"
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


def in_one(made: World, group: dict[int, str]) -> float:
    """Share of faults whose alerts are all in one group, whatever else is in it."""
    groups: dict[int, set[str]] = defaultdict(set)
    for i, alert in enumerate(made.alerts):
        if alert.fault >= 0:
            groups[alert.fault].add(group.get(i, "none"))
    return sum(len(ids) == 1 for ids in groups.values()) / max(1, len(groups))


def one_each(made: World, group: dict[int, str], returns: frozenset[int] = frozenset()) -> float:
    """Share of faults whose alerts are all in one group that holds no other fault's; ``returns`` are not counted."""
    groups: dict[int, set[str]] = defaultdict(set)
    faults: dict[str, set[int]] = defaultdict(set)
    for i, alert in enumerate(made.alerts):
        if alert.fault >= 0:
            groups[alert.fault].add(group.get(i, "none"))
            faults[group.get(i, "none")].add(alert.fault)
    apart = {
        fault: len(ids) == 1 and faults[next(iter(ids))] <= {fault} | returns
        for fault, ids in groups.items()
        if fault not in returns
    }
    return sum(apart.values()) / max(1, len(apart))


def returned(made: World) -> frozenset[int]:
    """Faults with an alert that another fault's incident, open or resolved less than 15 minutes ago, held already.

    An alert that fires again is that incident's by the rule of reopening, whatever made it fire.
    """
    over: dict[int, int] = defaultdict(int)
    for alert in made.alerts:
        over[alert.fault] = max(over[alert.fault], alert.end)
    last: dict[tuple[tuple[str, str], ...], int] = {}
    found = set()
    for alert in made.alerts:
        before = last.get(alert.labels)
        if before is not None and before != alert.fault and alert.start <= over[before] + REOPEN_MS:
            found |= {alert.fault}
        last[alert.labels] = alert.fault
    return frozenset(found)


def measure(made: World) -> dict[str, float]:
    group, heard = ours(made)
    real = {group[i] for i, a in enumerate(made.alerts) if a.fault >= 0}
    calm = [i for i, a in enumerate(made.alerts) if not any(start <= a.start <= end for start, end in made.busy)]
    noise = {group[i] for i in calm} - real
    told = [heard[i] for i in real]
    return {
        "alerts": len(made.alerts),
        "faults": made.faults,
        "in one incident": in_one(made, group),
        "of its own": one_each(made, group),
        "but returns": one_each(made, group, returned(made)),
        "in one, window": in_one(made, by_window(made)),
        "of its own, window": one_each(made, by_window(made)),
        "F1": pairwise_f1(made, group),
        "F1 window": pairwise_f1(made, by_window(made)),
        "F1 service": pairwise_f1(made, by_service(made)),
        "false an hour of quiet": len(noise) / (made.quiet_ms / HOUR),
        "one trigger, one resolve": sum(t["opened"] == 1 and t["resolved"] == 1 for t in told) / max(1, len(told)),
    }


def cascade(alerts: int = 500) -> dict[str, float]:
    """One fault that shows on every pod above it: how often the pager rings."""
    made = world(5, 0.01, systems=1, services=30)
    now = [T0]
    pods = [f"app0-svc{i:02d}" for i in range(30)]
    with service_of(made.edges, lambda: now[0]) as (service, outbox):
        for i in range(alerts):
            now[0] += 360
            labels = (("alertname", f"A{i % 3}"), ("pod", str(i)), ("service", pods[29 - i * 30 // alerts]))
            service.submit([_alert(Fired(f"A{i % 3}", labels, now[0], now[0], 0))])
            service.tick(now[0])
        for _ in range(20):
            now[0] += TICK_MS
            service.tick(now[0])
        rung = sum(d.notification.event.value == "opened" for d in outbox.list(limit=1_000_000))
    return {"alerts": alerts, "pages": rung}


def rush(alerts: int, batch: int = 1) -> dict[str, float]:
    """All of ``alerts`` new within a minute, ``batch`` a ``submit``, over 1,000 services in 40 systems."""
    made = world(7, 0.2, systems=40, services=25, faults_a_day=4000.0)
    begins = sorted(made.alerts, key=lambda a: a.fault)
    now, took, worked = [T0], [], []
    with service_of(made.edges, lambda: now[0]) as (service, _):
        for first in range(0, alerts, batch):
            now[0] = T0 + first * MINUTE // alerts
            group = [
                _alert(replace(fired, labels=(*fired.labels, ("pod", str(i))), start=now[0]))
                for i in range(first, min(first + batch, alerts))
                for fired in [begins[i % len(begins)]]
            ]
            begun, cpu = time.perf_counter(), time.thread_time()
            service.submit(group)
            took.append(time.perf_counter() - begun)
            worked.append(time.thread_time() - cpu)
        held = sum(x.active for x in service._register)
    return {
        "alerts": alerts,
        "incidents": held,
        "submit p50 ms": 1000 * float(np.quantile(took, 0.5)),
        "submit p95 ms": 1000 * float(np.quantile(took, 0.95)),
        "CPU p95 ms": 1000 * float(np.quantile(worked, 0.95)),
        "seconds in all": sum(took),
        "CPU seconds": sum(worked),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rush", type=int, default=10_000, help="0 leaves out the measure of speed")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    print(f"{platform.machine()}, Python {platform.python_version()}, {given.days:g} days a row", flush=True)

    def keep(name: str, row: dict[str, float]) -> None:
        rows[name] = row
        print(name.ljust(18), "  ".join(f"{k} {v:.3g}" for k, v in row.items()), flush=True)

    for word, rate, days in (("quiet", 12.0, 1.5), ("usual", 40.0, 1.0), ("busy", 100.0, 0.5)):
        for seed in range(given.first, given.first + given.seeds):
            keep(f"{word}, seed {seed}", measure(world(seed, given.days * days, faults_a_day=rate)))
    for word in ("quiet", "usual", "busy", ""):
        mine = [row for name, row in rows.items() if name.startswith(word) and "seed" in name]
        keep(f"{word or 'all'}, mean", {k: float(np.mean([row[k] for row in mine])) for k in mine[0]})
    keep("cascade", cascade())
    if given.rush:
        keep("rush, 1 a submit", rush(given.rush))
        keep("rush, 10 a submit", rush(given.rush, 10))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()


__all__ = ["by_service", "by_window", "cascade", "measure", "one_each", "ours", "pairwise_f1", "rush"]
