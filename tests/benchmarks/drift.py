"""False drift and found drift on autocorrelated streams: ``python -m tests.benchmarks.drift [streams]``.

Each stream is minutes of AR(1) noise, half of them with a daily season as well; a training window of 14 days, then
daily checks of a day for ten days. A textbook test of the raw values (Kolmogorov and Smirnov, 1 %) stands beside ours
in the same run.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from aiops.models.drift_tests import SeriesDrift, series_drift
from aiops.settings.models import DriftSettings

STEP, DAY, TRAINED, CHECKS = 60_000, 1440, 14, 10
MEMORIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
MONDAY = 1_700_438_400_000


def streams(count: int, memory: float, seed: int) -> NDArray[np.float32]:
    """[count, T] of standard deviation 1 about a season of 2 on every second one."""
    random = np.random.default_rng(seed)
    steps = (TRAINED + CHECKS) * DAY
    noise = random.standard_normal((count, steps + 2000)).astype(np.float32) * np.float32(np.sqrt(1 - memory**2))
    x = signal.lfilter([1.0], [1.0, -memory], noise, axis=1)[:, 2000:].astype(np.float32)
    phase = random.uniform(0, 2 * np.pi, (count, 1))
    season = 2 * np.sin(2 * np.pi * np.arange(steps) / DAY + phase) * (np.arange(count) % 2)[:, None]
    return (x + season).astype(np.float32)


def main(count: int = 1000) -> None:
    chosen, ts = DriftSettings(), MONDAY + STEP * np.arange((TRAINED + CHECKS) * DAY, dtype=np.int64)
    share = count // len(MEMORIES) + 1
    head = TRAINED * DAY
    total = months = 0.0
    print("memory  false a stream-month  raw KS false a check  +1 sd found: 1 check  3 checks  with debounce")
    begin = time.process_time()
    for number, memory in enumerate(MEMORIES):
        x = streams(share, memory, number)
        before = x[:, :head]

        def check(
            after: NDArray[np.float32], day: int, before: NDArray[np.float32] = before
        ) -> tuple[SeriesDrift, NDArray[np.bool_]]:
            start = head + day * DAY
            made = series_drift(before, after, ts[:head], ts[start : start + DAY], STEP)
            return made, made.drifted(chosen.false_discovery_rate, chosen.min_psi)

        days = [x[:, head + d * DAY : head + (d + 1) * DAY] for d in range(CHECKS)]
        false = sum(int(check(after, d)[1].sum()) for d, after in enumerate(days))
        raw = np.mean([stats.ks_2samp(before[n, ::7], days[0][n]).pvalue < 0.01 for n in range(0, share, 4)])
        moved = np.array([check(after + 1, d)[1] for d, after in enumerate(days[:4])])
        confirmed = (moved[1:] & moved[:-1]).any(0).mean()
        total, months = total + false, months + share * CHECKS / 30
        print(
            f"{memory:6.2f} {30 * false / (share * CHECKS):21.4f} {raw:21.1%} {moved[0].mean():20.1%}"
            f" {moved[:3].any(0).mean():9.1%} {confirmed:14.1%}"
        )
    print(f"all: {total / months:.4f} false a stream-month, {time.process_time() - begin:.0f} s of CPU")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
