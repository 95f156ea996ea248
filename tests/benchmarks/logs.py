"""Log templates on the made systems, beside masking alone, in one process.

    python -m tests.benchmarks.logs [--lines 2000] [--seed 1]

GA: share of lines whose group is exactly the true one. PA: share of lines with the true text, runs of ``<*>`` joined.
Lines a second are of one core's CPU time; ``steady`` is with the templates known, as in a running service.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from aiops.core.signals import LogRecord
from aiops.core.untrusted import Untrusted
from aiops.ingest.log_templates.miner import TemplateMiner, templates_of
from tests.benchmarks.log_systems import SYSTEMS

Parse = Callable[[list[str]], list[tuple[str, str]]]
_RUN = re.compile(r"<\*>(?:\s*[,:./|_-]?\s*<\*>)+")


def masked(lines: list[str]) -> list[tuple[str, str]]:
    """The peer: each word that holds a digit is a value, and nothing else."""
    found = [re.sub(r"\S*\d\S*", "<*>", line) for line in lines]
    return [(text, text) for text in found]


def agreement(found: Sequence[tuple[str, str]], truth: Sequence[str]) -> tuple[float, float]:
    """(GA, PA)."""
    true_of: dict[str, set[str]] = defaultdict(set)
    id_of: dict[str, set[str]] = defaultdict(set)
    for (id, _), true in zip(found, truth, strict=True):
        true_of[id].add(true)
        id_of[true].add(id)
    right = sum(len(true_of[id]) == 1 and len(id_of[true]) == 1 for (id, _), true in zip(found, truth, strict=True))
    said = sum(_plain(text) == _plain(true) for (_, text), true in zip(found, truth, strict=True))
    return right / len(truth), said / len(truth)


def _plain(text: str) -> str:
    return " ".join(_RUN.sub("<*>", re.sub(r"<[^<>\s]*>", "<*>", text)).split())


def rate(work: Callable[[], object], lines: int) -> float:
    """Lines a CPU-second, the best of three."""
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        work()
        best = min(best, time.process_time() - begun)
    return lines / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    print(f"{'system':<22}{'GA':>7}{'PA':>7}{'mask GA':>9}{'mask PA':>9}{'lines/s':>10}{'steady':>10}")
    sums = [0.0] * 6
    for system in SYSTEMS:
        whole, _, truth = system.lines(chosen.lines, chosen.seed)
        row = [*agreement(templates_of(whole), truth), *agreement(masked(whole), truth)]
        row.append(rate(lambda whole=whole: templates_of(whole), len(whole)))  # type: ignore[misc]
        miner, records = TemplateMiner(), [LogRecord(0, Untrusted(line)) for line in whole]
        miner.mine(records)
        row.append(rate(lambda miner=miner, records=records: miner.mine(records), len(whole)))  # type: ignore[misc]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        print(f"{system.name:<22}{row[0]:7.3f}{row[1]:7.3f}{row[2]:9.3f}{row[3]:9.3f}{row[4]:10,.0f}{row[5]:10,.0f}")
    mean = [total / len(SYSTEMS) for total in sums]
    print(f"{'MEAN':<22}{mean[0]:7.3f}{mean[1]:7.3f}{mean[2]:9.3f}{mean[3]:9.3f}{mean[4]:10,.0f}{mean[5]:10,.0f}")


if __name__ == "__main__":
    main()
