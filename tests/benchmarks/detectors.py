"""``python -m tests.benchmarks.detectors``: quality and speed of the detectors beside peers, in one run.

Speed is CPU seconds of one thread. Nothing is asserted; what counts are the ratios of one run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from aiops.core.anomaly import Batch
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from detectors.support.evaluation import looking_both_ways, score_ranges
from detectors.support.streaming import stream_ranges
from tests.benchmarks import boards
from tests.benchmarks.detector_peers import PEERS

TOOLS = Path(__file__).resolve().parents[3] / "shared" / "tools"
STEP = 60_000
MEMBERS = ("seasonal_residual", "ridge_ar", "window_covariance")
BASELINES = ("baseline_pca", "baseline_one_class_svm", "baseline_isolation_forest")
TABLE = ("fusion", *MEMBERS, "window_bank", "group_covariance")

Item = tuple[str, NDArray[np.float64], NDArray[np.float64], int, NDArray[np.int64]]
Scores = Sequence[NDArray[np.floating[Any]]]


def make(name: str, **options: Any) -> Detector[Any]:
    return cast(Detector[Any], build("detectors", name, {"device": "cpu", **options}, PluginContext(name)))


def cpu_s(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    begin = time.process_time()
    for _ in range(repeats):
        out = work()
    return (time.process_time() - begin) / repeats, out


def made(series: int, length: int) -> Batch:
    rng = np.random.default_rng(0)
    wave = 3 * np.sin(2 * np.pi * np.arange(length) / 288)
    values = (10 + wave + rng.normal(size=(series, length))).astype(np.float32)
    times = 300_000 * np.arange(length, dtype=np.int64)
    return Batch(values, np.ones_like(values, bool), times, 300_000, tuple(str(i) for i in range(series)))


def throughput(console: Console, series: int = 300, length: int = 2016, fleets: tuple[int, ...] = (10_000,)) -> None:
    """Points a CPU second of fit, score and both; milliseconds a tick of a fleet; bytes of state a series."""
    torch.set_num_threads(1)
    table = Table(title=f"{series} series x {length} steps; a tick of {', '.join(map(str, fleets))} series")
    for column in ("detector", "fit M/s", "score M/s", "both M/s", *(f"tick {n} ms" for n in fleets), "bytes"):
        table.add_column(column, justify="left" if column == "detector" else "right")
    batch = made(series, length)
    points = batch.values.size / 1e6
    for name in TABLE:
        detector = make(name)
        detector.fit(batch)
        fit, state = cpu_s(lambda d=detector: d.fit(batch))  # type: ignore[misc]
        score, scores = cpu_s(lambda d=detector, s=state: d.score(s, batch))  # type: ignore[misc]
        ticks = []
        for fleet in fleets:
            few = made(fleet, 160)
            big = detector.fit(few)
            tick = Batch(few.values[:, :1], few.mask[:, :1], few.timestamps[-1:] + 300_000, 300_000, few.series_ids)
            detector.update(big, tick)
            ticks.append(cpu_s(lambda d=detector, b=big, t=tick: d.update(b, t), 5)[0] * 1000)  # type: ignore[misc]
        size = sum(v.nbytes for v in state.arrays.values()) / series
        figures = (points / fit, points / score, points / (fit + score))
        table.add_row(name, *(f"{f:.2f}" for f in figures), *(f"{t:.1f}" for t in ticks), f"{size:.0f}")
        if name == "fusion":
            smooth, _ = cpu_s(lambda d=detector, s=scores: looking_both_ways(s, d.spans, batch))  # type: ignore[misc]
            table.add_row(
                "  and looking both ways", "", "", f"{points / (fit + score + smooth):.2f}", *[""] * len(fleets), ""
            )
    times = [batch.timestamps] * series
    rows = [row.astype(float) for row in batch.values]
    streamed, _ = cpu_s(lambda: stream_ranges(make("fusion"), rows, times))
    table.add_row("  streaming with its refits", "", "", f"{points / streamed:.2f}", *[""] * len(fleets), "")
    console.print(table)


def board() -> Any:
    """The board's module, whose metric and data loaders are used as they are; ``None`` where it is not there."""
    if not TOOLS.is_dir():
        return None
    sys.path.insert(0, str(TOOLS))
    import detector_board

    return detector_board


def load(module: Any) -> dict[str, list[Item]]:
    data = TOOLS.parent / "data"
    return {
        "nab-real": module.load_nab(str(data / "nab"), module.NAB_REAL),
        "nab-art": module.load_nab(str(data / "nab"), module.NAB_ART),
        "mscloud": module.load_mscloud(str(data / "mscloud")),
    }


def ours(detector: str, streaming: bool = False, **options: Any) -> Callable[[Sequence[Item]], Scores]:
    def run(items: Sequence[Item]) -> Scores:
        times = [np.round(item[2] * 1000).astype(np.int64) for item in items]
        score = stream_ranges if streaming else score_ranges
        return score(make(detector, **options), [item[1] for item in items], times)

    return run


def candidates(peers: bool) -> dict[str, Callable[[Sequence[Item]], Scores]]:
    out: dict[str, Callable[[Sequence[Item]], Scores]] = {
        "fusion": lambda items: boards.detect_batch(*columns(items)),
        "fusion, streaming": lambda items: boards.detect_streaming(*columns(items)),
    }
    for name in MEMBERS:
        out[name] = ours(name)
    for left in MEMBERS:
        out[f"fusion less {left}"] = ours("fusion", members=[m for m in MEMBERS if m != left])
    for size in (40, 100):
        options = {"window_bank": {"size": size}}
        out[f"fusion and window_bank {size}"] = ours(
            "fusion", members=[*MEMBERS, "window_bank"], member_options=options
        )
    if peers:
        for name in BASELINES:
            out[name] = ours("fusion", members=[name])
        for name, peer in PEERS.items():
            out[name] = lambda items, peer=peer: [peer(i[1], i[2], i[3]) for i in items]  # type: ignore[misc]
    return out


def columns(items: Sequence[Item]) -> tuple[list[Any], list[Any], list[Any]]:
    return [i[1] for i in items], [i[2] for i in items], [i[3] for i in items]


def quality(console: Console, every: int, peers: bool, only: str = "") -> None:
    """VUS-PR on every set, and thousands of points a CPU second over all of them."""
    module = board()
    if module is None:
        console.print("The boards and their data are not beside this checkout (../shared).")
        return
    sets = {name: items[::every] for name, items in load(module).items()}
    table = Table(title="VUS-PR" + (f", every {every}th series" if every > 1 else ""))
    for column in ("detector", *sets, "k points/s"):
        table.add_column(column, justify="left" if column == "detector" else "right")
    for name, run in candidates(peers).items():
        if only not in name:
            continue
        figures, spent, points = [], 0.0, 0
        for items in sets.values():
            took, scores = cpu_s(lambda run=run, items=items: run(items))  # type: ignore[misc]
            spent, points = spent + took, points + sum(len(i[1]) for i in items)
            each = [
                module.vus_pr(i[4], module.clean(s, len(i[1]), i[0]), module.period(i[1]))
                for i, s in zip(items, scores, strict=True)
                if i[4].any()
            ]
            figures.append(float(np.mean(each)))
        table.add_row(name, *(f"{f:.3f}" for f in figures), f"{points / spent / 1000:.0f}")
        console.print(name, *(f"{f:.3f}" for f in figures), f"{points / spent / 1000:.0f} k/s")
    console.print(table)


def episodes(score: NDArray[np.floating[Any]], high: float, low: float, least: int) -> list[tuple[int, int, int]]:
    """(first step, step of the alarm, last step) of stretches above ``high`` that end below ``low``."""
    found, start, last = [], -1, -1
    for t, value in enumerate(np.nan_to_num(score)):
        if value >= high:
            start, last = (t if start < 0 else start), t
        elif start >= 0 and value < low:
            if last - start + 1 >= least:
                found.append((start, start + least - 1, last))
            start = -1
    if start >= 0 and last - start + 1 >= least:
        found.append((start, start + least - 1, last))
    return found


def alarms(console: Console, levels: Sequence[float] = (1.0, 1.5, 2.0)) -> None:
    """Events found, delay and false episodes of the streaming scores, at one setting for all series."""
    module = board()
    if module is None:
        return
    table = Table(title="streaming, episodes of at least 2 steps, over at half the level")
    for column in ("level", "set", "series", "events", "recall", "median delay, steps", "false a series-week"):
        table.add_column(column)
    data = load(module)
    scored = {name: ours("fusion", streaming=True)(items) for name, items in data.items()}
    for level in levels:
        for name, items in data.items():
            events, found, false, weeks, delays = 0, 0, 0, 0.0, []
            for item, score in zip(items, scored[name], strict=True):
                starts, ends = module.segments(item[4])
                told = episodes(score, level, level / 2, 2)
                weeks += (item[2][-1] - item[2][0]) / 604_800
                events += len(starts)
                for a, b in zip(starts, ends, strict=True):
                    hits = [alarm for first, alarm, last in told if first <= b and last >= a and alarm <= b]
                    found += bool(hits)
                    delays += [max(min(hits) - a, 0)] if hits else []
                false += sum(not any(f <= b and e >= a for a, b in zip(starts, ends, strict=True)) for f, _, e in told)
            delay = f"{np.median(delays):.0f}" if delays else "-"
            table.add_row(
                f"{level}", name, f"{len(items)}", f"{events}", f"{found / events:.2f}", delay, f"{false / weeks:.2f}"
            )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("throughput", "quality", "alarms"), nargs="+")
    parser.add_argument("--every", type=int, default=1, help="take every K-th series")
    parser.add_argument("--peers", action="store_true", help="baselines and other projects too (extra bench)")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--fleet", type=int, nargs="+", default=[10_000])
    chosen = parser.parse_args()
    console = Console(width=150)
    if "throughput" in chosen.part:
        throughput(console, fleets=tuple(chosen.fleet))
    if "quality" in chosen.part:
        quality(console, chosen.every, chosen.peers, chosen.only)
    if "alarms" in chosen.part:
        alarms(console)


if __name__ == "__main__":
    main()
