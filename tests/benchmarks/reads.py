"""The read half of the speed bench: queries, disk, and reads while samples arrive."""

from __future__ import annotations

import itertools
import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from tests.benchmarks import peers, workload
from tests.benchmarks.peers import OURS, PROMETHEUS, VICTORIA, Peer
from tests.benchmarks.workload import Sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.speed import Results

HOURS = 6.0
TOLERANCE = 1e-9
WIDE = "sum by (job) (rate(x_total[5m]))"
MONTH_DAYS = 28


@dataclass(frozen=True, slots=True)
class Question:
    """A query of the bench; ``agrees`` names the peers whose semantics are ours, whose answers must be equal."""

    name: str
    promql: str
    agrees: tuple[str, ...] = (PROMETHEUS,)


# The sum keeps equal values, among which topk may choose, from making a difference.
QUESTIONS = (
    Question("wide", WIDE),
    Question("narrow", 'x_total{instance="host-00007:9100"}', (PROMETHEUS, VICTORIA)),
    Question("narrow rate", 'rate(x_total{instance="host-00007:9100"}[5m])'),
    Question("topk", "sum(topk(5, x_total))", (PROMETHEUS, VICTORIA)),
    Question("sum", "sum by (job) (x_total)", (PROMETHEUS, VICTORIA)),
    Question("quantile", "histogram_quantile(0.9, sum by (job, le) (rate(h_bucket[5m])))"),
    Question("join", "sum by (zone) (x_total * on (job) group_left (zone) job_zone)", (PROMETHEUS, VICTORIA)),
)


def queries(
    results: Results, servers: Sequence[Peer], sizes: Sizes, end_ms: int, asked: Sequence[Question] = QUESTIONS
) -> None:
    """Cold is the first run after a restart (the page cache is warm), warm the median of the next ones."""
    end_s = end_ms // 1000
    rise = (0.0, 0.0)
    with httpx.Client(trust_env=False, timeout=120) as client:
        for question in asked:
            label = f"{question.name}, {sizes.series} series" if question.name == "wide" else question.name
            cold, warm, afresh, cpu, found = {}, {}, {}, {}, {}
            for peer in servers:

                def ask(peer: Peer = peer, *, afresh: bool = False) -> float:
                    took, found[peer.name] = peers.query(client, peer, question.promql, end_s, HOURS, afresh=afresh)  # noqa: B023
                    return took

                if peer.name == OURS and question.name == "wide":
                    rise = _rise(peer, lambda: cold.update({OURS: ask()}))  # noqa: B023
                else:
                    cold[peer.name] = ask()
                warm[peer.name] = statistics.median(ask() for _ in range(sizes.repeats))
                before = peer.cpu_s()
                afresh[peer.name] = statistics.median(ask(afresh=True) for _ in range(sizes.repeats))
                cpu[peer.name] = (peer.cpu_s() - before) / sizes.repeats
            results.add(f"{label}: cold", "s", cold)
            results.add(f"{label}: warm", "s", warm)
            results.add(f"{label}: warm, nocache=1", "s", afresh)
            results.add(f"{label}: warm, nocache=1", "CPU s", cpu)
            for peer in servers[1:]:
                if peer.name in question.agrees:
                    results.answers[f"{question.name} / {peer.name}"] = difference(found[OURS], found[peer.name])
        if asked == QUESTIONS:
            _narrow(results, client, servers, end_s)
    results.add("rise of RSS, wide query: peak", "MB", {OURS: rise[0] / 1e6})
    results.add("rise of RSS, wide query: kept", "MB", {OURS: rise[1] / 1e6})


def _narrow(results: Results, client: httpx.Client, servers: Sequence[Peer], end_s: int) -> None:
    """One of the series a query, each another one, so that no answer is kept."""
    took = {peer.name: _narrow_times(client, peer, end_s, 60) for peer in servers}
    results.add("narrow, another series each: p50", "s", {name: float(np.median(t)) for name, t in took.items()})
    results.add("narrow, another series each: p99", "s", {name: _p99(t) for name, t in took.items()})


def _narrow_times(client: httpx.Client, peer: Peer, end_s: int, count: int) -> list[float]:
    return [
        peers.query(client, peer, f'rate(x_total{{instance="host-{i:05d}:9100"}}[5m])', end_s, HOURS, afresh=True)[0]
        for i in range(count)
    ]


def _p99(times: Sequence[float]) -> float:
    return float(np.quantile(times, 0.99))


def while_writing(results: Results, servers: Sequence[Peer], sizes: Sizes, end_ms: int) -> None:
    """p99 of narrow queries, idle and while samples arrive at half the most that one connection took."""
    end_s, count = end_ms // 1000, 40 * sizes.repeats
    idle, busy, ratio, rate = {}, {}, {}, {}
    with httpx.Client(trust_env=False, timeout=120) as client:
        for peer in servers:
            now = time.time_ns() // 1_000_000
            shards = workload.write_bodies(sizes, f"meanwhile_{peer.name.lower()}_total", now)
            bodies = [body for scrape in zip(*shards, strict=True) for body in scrape]
            most = sizes.shard_series * len(bodies) / 2 / peers.send(peer, [bodies[: len(bodies) // 2]])
            peers.settle(peer, 5.0)
            idle[peer.name] = _p99(_narrow_times(client, peer, end_s, count))
            with _writing(peer, bodies[len(bodies) // 2 :], sizes.shard_series, most / 2):
                busy[peer.name] = _p99(_narrow_times(client, peer, end_s, count))
            ratio[peer.name] = busy[peer.name] / idle[peer.name]
            rate[peer.name] = most / 2
    results.add("narrow p99, idle", "s", idle)
    results.add("narrow p99, while samples arrive at half the maximum", "s", busy)
    results.add("... to idle", "x", ratio)
    results.add("... samples arriving", "samples/s", rate, more_is_better=True)


@contextmanager
def _writing(peer: Peer, bodies: Sequence[bytes], size: int, rate: float) -> Iterator[None]:
    """Post bodies again and again at ``rate`` samples a second: what is stored already costs a look-up instead."""
    stop = threading.Event()

    def post() -> None:
        with httpx.Client(trust_env=False, timeout=60, base_url=peer.url) as client:
            started = time.perf_counter()
            for number, body in enumerate(itertools.cycle(bodies)):
                if stop.wait(max(0.0, started + number * size / rate - time.perf_counter())):
                    return
                client.post("/api/v1/write", content=body, headers=peers.WRITE)

    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def disk(results: Results, starts: Sequence[Callable[[Path], Peer]], folder: Path, sizes: Sizes) -> None:
    """Bytes a sample of data whose blocks are all closed, after a clean stop; the empty store's bytes are in them."""
    end_ms = time.time_ns() // 1_000_000 // 60_000 * 60_000 - 4 * 3_600_000
    for name, shape in workload.SHAPES.items():
        used = {}
        for i, start in enumerate(starts):
            bodies, count = workload.shaped_bodies(shape, sizes, end_ms)
            where = folder / f"disk-{name}-{i}".replace(" ", "-")
            peer = start(where)
            try:
                peers.send(peer, [bodies])
                peers.settle(peer)
            finally:
                peer.stop()
            peer = start(where)  # what is handed over at a stop is compacted after the next start
            try:
                peers.settle(peer)
                peers.rest(peer)
            finally:
                peer.stop()
            used[peer.name] = peer.bytes_on_disk() / count
        results.add(f"disk, {name}", "B/sample", used)


def month(results: Results, starts: Sequence[Callable[[Path], Peer]], folder: Path, sizes: Sizes) -> None:
    """A month of one metric, by the hour: from rollups here, from the samples elsewhere."""
    end_ms = time.time_ns() // 3_600_000_000_000 * 3_600_000 - 86_400_000
    bodies, _ = workload.month_bodies(sizes, MONTH_DAYS, end_ms)
    promql = "max by (job) (max_over_time(month_gauge[1h]))"
    cold, warm, afresh, found = {}, {}, {}, {}
    with httpx.Client(trust_env=False, timeout=120) as client:
        for i, start in enumerate(starts):
            where = folder / f"month-{i}"
            peer = start(where)
            try:
                peers.send(peer, [bodies])
            finally:
                peer.stop()
            peer = start(where)
            try:
                peers.settle(peer, 120.0)
            finally:
                peer.stop()
            peer = start(where)
            try:
                peers.settle(peer)

                def ask(peer: Peer = peer, *, afresh: bool = False) -> float:
                    hours = 24.0 * (MONTH_DAYS - 1)
                    took, found[peer.name] = peers.query(
                        client, peer, promql, end_ms // 1000, hours, step_s=3600, afresh=afresh
                    )
                    return took

                cold[peer.name] = ask()
                warm[peer.name] = statistics.median(ask() for _ in range(sizes.repeats))
                afresh[peer.name] = statistics.median(ask(afresh=True) for _ in range(sizes.repeats))
            finally:
                peer.stop()
    label = f"{MONTH_DAYS} days of {sizes.month_series} series, hourly max"
    results.add(f"{label}: cold", "s", cold)
    results.add(f"{label}: warm", "s", warm)
    results.add(f"{label}: warm, nocache=1", "s", afresh)
    for name in found.keys() - {OURS}:
        results.answers[f"month / {name}"] = difference(found[OURS], found[name])


def _rise(peer: Peer, work: Callable[[], object]) -> tuple[float, float]:
    """By how much the resident set rose at most during ``work``, and stands higher after it."""
    before = peak = peer.rss()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, peer.rss())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    work()
    done.set()
    thread.join()
    return peak - before, peer.rss() - before


def difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """``equal`` to a relative 1e-9, or the first thing that differs. An empty answer equals nothing."""

    def by_labels(rows: list[dict[str, Any]]) -> dict[tuple[tuple[str, str], ...], list[Any]]:
        return {tuple(sorted(row["metric"].items())): row["values"] for row in rows}

    left, right = by_labels(ours), by_labels(theirs)
    if not left or left.keys() != right.keys():
        return f"{len(left)} series against {len(right)}, {len(left.keys() & right.keys())} of them the same"
    for labels, values in left.items():
        other = right[labels]
        if [t for t, _ in values] != [t for t, _ in other]:
            return f"{dict(labels)}: {len(values)} points against {len(other)}"
        for (t, a), (_, b) in zip(values, other, strict=True):
            if not math.isclose(float(a), float(b), rel_tol=TOLERANCE, abs_tol=1e-12):
                return f"{dict(labels)} at {t}: {a} against {b}"
    return "equal"
