"""``make bench``: start-up, remote write, queries and disk of this service beside VictoriaMetrics and Prometheus.

All three run on loopback in the same run over the same bodies; what counts are the ratios. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from tests.benchmarks import peers, workload
from tests.benchmarks.peers import Peer
from tests.benchmarks.workload import Sizes

OURS, VICTORIA, PROMETHEUS = "aiops", "VictoriaMetrics", "Prometheus"
HOURS = 6.0
TOLERANCE = 1e-9
WIDE = "sum by (job) (rate(x_total[5m]))"


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
)


@dataclass(slots=True)
class Row:
    """One line of the table: figures by server, and whether more is better."""

    name: str
    unit: str
    values: dict[str, float]
    more_is_better: bool = False

    def ratios(self) -> dict[str, float]:
        """Ours to each peer's."""
        ours = self.values.get(OURS, math.nan)
        return {peer: ours / value for peer, value in self.values.items() if peer != OURS and value}


@dataclass(slots=True)
class Results:
    """Everything that a run measured."""

    machine: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    """By question and peer: ``equal``, or what differs."""

    def add(self, name: str, unit: str, values: dict[str, float], *, more_is_better: bool = False) -> None:
        self.rows.append(Row(name, unit, values, more_is_better))

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "versions": self.versions,
            "rows": [{**asdict(row), "ratios": row.ratios()} for row in self.rows],
            "answers": self.answers,
        }


def machine() -> dict[str, str]:
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{cpu or platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "load": " ".join(f"{x:.2f}" for x in os.getloadavg()),
    }


# ------------------------------------------------------------------ what is measured


def start_up(results: Results, folder: Path, repeats: int) -> None:
    """From the start of the process on a fresh folder to the first answers."""
    healthy, first = [], []
    for i in range(repeats):
        started = time.perf_counter()
        peer = peers.start_ours(folder / f"start-{i}", detection=True)
        try:
            healthy.append(time.perf_counter() - started)
            with httpx.Client(trust_env=False, timeout=10) as client:
                while time.perf_counter() - started < peers.READY_S:
                    answer = client.get(peer.url + "/api/v1/query", params={"query": "node_load1"}).json()
                    if answer["data"]["result"]:
                        break
                    time.sleep(0.005)
            first.append(time.perf_counter() - started)
        finally:
            peer.stop()
    results.add("start to /healthz", "s", {OURS: statistics.median(healthy)})
    results.add("start to first host metric", "s", {OURS: statistics.median(first)})
    used = []
    for _ in range(repeats):
        before = psutil.Process().cpu_times()
        subprocess.run([sys.executable, "-m", "aiops", "--help"], check=True, capture_output=True, timeout=60)
        after = psutil.Process().cpu_times()
        used.append(after.children_user + after.children_system - before.children_user - before.children_system)
    results.add("aiops --help", "CPU s", {OURS: statistics.median(used)})


def load(results: Results, servers: Sequence[Peer], sizes: Sizes, end_ms: int) -> int:
    """The query data, over one connection; gives the number of samples."""
    bodies, count = workload.query_bodies(sizes, end_ms)
    wall = {peer.name: count / peers.send(peer, [bodies]) for peer in servers}
    results.add("load of history, 20 samples a series and body", "samples/s", wall, more_is_better=True)
    for peer in servers:
        peers.settle(peer)
    return count


def disk(results: Results, servers: Sequence[Peer], samples: int) -> None:
    """Bytes a sample after a clean stop; all but the history is less than a hundredth."""
    results.add("disk after a stop", "B/sample", {peer.name: peer.bytes_on_disk() / samples for peer in servers})


def write(results: Results, servers: Sequence[Peer], sizes: Sizes) -> None:
    """Scrapes of 1,000 samples a body; the first two of each shard, which make the series, are not timed."""
    for connections in (1, workload.SHARDS):
        end_ms = time.time_ns() // 1_000_000
        shards = workload.write_bodies(sizes, f"write_{connections}_total", end_ms)
        wall, cpu = {}, {}
        for peer in servers:
            peers.send(peer, [[body for shard in shards for body in shard[:2]]])
            timed = [shard[2:] for shard in shards]
            if connections == 1:
                timed = [[body for scrape in zip(*timed, strict=True) for body in scrape]]
            count = sum(map(len, timed)) * sizes.shard_series
            before = peer.cpu_s()
            wall[peer.name] = count / peers.send(peer, timed)
            peers.settle(peer, 2.0)
            cpu[peer.name] = count / max(peer.cpu_s() - before, 0.01)
        what = f"remote write, {connections} connection{'s' if connections > 1 else ''}"
        results.add(what, "samples/s", wall, more_is_better=True)
        results.add(what, "samples/CPU-s", cpu, more_is_better=True)


def queries(results: Results, servers: Sequence[Peer], sizes: Sizes, end_ms: int) -> None:
    """Cold is the first run after a restart (the page cache is warm), warm the median of the next ones."""
    end_s = end_ms // 1000
    rise = _rise(servers[0], lambda: None)
    with httpx.Client(trust_env=False, timeout=120) as client:
        for question in QUESTIONS:
            cold, warm, uncached, found = {}, {}, {}, {}
            for peer in servers:

                def ask(peer: Peer = peer, **extra: str) -> float:
                    took, found[peer.name] = peers.query(client, peer, question.promql, end_s, HOURS, **extra)  # noqa: B023
                    return took

                if peer.name == OURS and question.name == "wide":
                    rise = _rise(peer, lambda: cold.update({OURS: ask()}))  # noqa: B023
                else:
                    cold[peer.name] = ask()
                warm[peer.name] = statistics.median(ask() for _ in range(sizes.repeats))
                if peer.name == VICTORIA:
                    uncached[peer.name] = statistics.median(ask(nocache="1") for _ in range(sizes.repeats))
            label = f"{question.name}, {sizes.series} series" if question.name == "wide" else question.name
            results.add(f"{label}: cold", "s", cold)
            results.add(f"{label}: warm", "s", warm)
            if uncached:
                results.add(f"{label}: warm, VictoriaMetrics nocache=1", "s", {OURS: warm[OURS], **uncached})
            for peer in servers[1:]:
                if peer.name in question.agrees:
                    results.answers[f"{question.name} / {peer.name}"] = difference(found[OURS], found[peer.name])
    results.add("rise of RSS, wide query: peak", "MB", {OURS: rise[0] / 1e6})
    results.add("rise of RSS, wide query: kept", "MB", {OURS: rise[1] / 1e6})


def _rise(peer: Peer, work: Callable[[], object]) -> tuple[float, float]:
    """By how much the resident set rose at most during ``work``, and stands higher after it."""
    import threading

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


# ------------------------------------------------------------------ a run


def run(sizes: Sizes, folder: Path, say: Callable[[str], None] = lambda _: None) -> Results:
    """Measure everything once. Peers that are not installed are left out."""
    results = Results(machine())
    absent = peers.missing()
    say("start-up")
    start_up(results, folder, sizes.repeats)
    starts: list[Callable[[Path], Peer]] = [peers.start_ours]
    starts += [peers.start_victoria] if "victoria-metrics" not in absent else []
    starts += [peers.start_prometheus] if "prometheus" not in absent else []
    end_ms = time.time_ns() // 1_000_000 // 60_000 * 60_000 - 120_000
    running: list[Peer] = []

    def begin() -> None:
        running.clear()
        for i, start in enumerate(starts):
            running.append(start(folder / f"server-{i}"))

    try:
        begin()
        results.versions = {peer.name: peer.version for peer in running}
        say("history")
        samples = load(results, running, sizes, end_ms)
        for peer in running:
            peer.stop()
        disk(results, running, samples)
        begin()
        for peer in running:
            peers.settle(peer)
        say("queries")
        queries(results, running, sizes, end_ms)
        say("remote write")
        write(results, running, sizes)
    finally:
        for peer in running:
            peer.stop()
    results.machine["load after"] = " ".join(f"{x:.2f}" for x in os.getloadavg())
    return results


def show(results: Results, console: Console) -> None:
    table = Table(title="aiops beside its peers", caption="; ".join(f"{k} {v}" for k, v in results.machine.items()))
    table.add_column("what")
    table.add_column("unit")
    names = [OURS, *(name for name in results.versions if name != OURS)]
    for name in names:
        table.add_column(f"{name} {results.versions.get(name, '')}".strip(), justify="right")
    for name in names[1:]:
        table.add_column(f"aiops / {name}", justify="right")
    for row in results.rows:
        ratios = row.ratios()
        cells = [_figure(row.values[n]) if n in row.values else "-" for n in names]
        cells += [f"{ratios[n]:.2f}x" if n in ratios else "-" for n in names[1:]]
        table.add_row(row.name, row.unit + (" (more is better)" if row.more_is_better else ""), *cells)
    console.print(table)
    for what, answer in results.answers.items():
        console.print(f"answers, {what}: {answer}", markup=False)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.benchmarks.speed")
    parser.add_argument("--full", action="store_true", help="10,000 series of history; takes minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    chosen = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    sizes = Sizes(series=10_000) if chosen.full else Sizes()
    with tempfile.TemporaryDirectory(prefix="aiops-bench-") as folder, console.status("bench") as status:
        results = run(sizes, Path(folder), lambda text: status.update(f"bench: {text}"))
    for name in peers.missing():
        console.print(f"{name} is not installed; its columns are left out.")
    show(results, console)
    if chosen.json:
        chosen.json.write_text(json.dumps(results.as_json(), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
