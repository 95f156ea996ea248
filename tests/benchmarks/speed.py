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
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from tests.benchmarks import peers, reads, workload, writes
from tests.benchmarks.peers import OURS, Peer
from tests.benchmarks.workload import Sizes

PARTS = ("start", "write", "disk", "month")


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


# ------------------------------------------------------------------ a run


def run(
    sizes: Sizes,
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
    without: Collection[str] = (),
    questions: Collection[str] = (),
) -> Results:
    """Measure everything once, but for the :data:`PARTS` and peers named in ``without``; absent peers are left out.

    ``questions`` are names of :data:`reads.QUESTIONS`; all where it is empty.
    """
    results = Results(machine())
    absent = {*peers.missing(), *without}
    if "start" not in without:
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
        results.versions = {peer.name: peer.described() for peer in running}
        say("history")
        samples = load(results, running, sizes, end_ms)
        for again in range(2):  # what is handed over at a stop is compacted after the next start
            for peer in running:
                peer.stop()
            if again:
                used = {peer.name: peer.bytes_on_disk() / samples for peer in running}
                results.add("disk, history with its open block", "B/sample", used)
            begin()
            for peer in running:
                peers.settle(peer)
        say("queries")
        asked = tuple(q for q in reads.QUESTIONS if q.name in questions) or reads.QUESTIONS
        reads.queries(results, running, sizes, end_ms, asked)
        if "write" not in without:
            say("remote write")
            writes.write(results, running, sizes)
            writes.churn(results, running, sizes)
            say("reads while samples arrive")
            reads.while_writing(results, running, sizes, end_ms)
    finally:
        for peer in running:
            peer.stop()
    if "disk" not in without:
        say("disk")
        reads.disk(results, starts, folder, sizes)
    if "month" not in without:
        say("a month")
        reads.month(results, starts, folder, sizes)
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
    parser.add_argument("--series", type=int, help="series of history; 1,000, or 10,000 with --full")
    parser.add_argument("--scrape", type=int, default=15, metavar="S", help="seconds between samples of history")
    parser.add_argument("--without", nargs="*", choices=(*PARTS, *peers.PEERS), default=[], help="what to leave out")
    parser.add_argument(
        "--questions", nargs="*", choices=[q.name for q in reads.QUESTIONS], default=[], help="queries to ask; or all"
    )
    chosen = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    sizes = Sizes(series=10_000, month_series=100, disk_series=1000, scrapes=300) if chosen.full else Sizes()
    sizes = replace(sizes, series=chosen.series or sizes.series, step_ms=1000 * chosen.scrape)
    with tempfile.TemporaryDirectory(prefix="aiops-bench-") as folder, console.status("bench") as status:
        results = run(
            sizes, Path(folder), lambda text: status.update(f"bench: {text}"), chosen.without, chosen.questions
        )
    for name in peers.missing():
        console.print(f"{name} is not installed; its columns are left out.")
    show(results, console)
    if chosen.json:
        chosen.json.write_text(json.dumps(results.as_json(), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
