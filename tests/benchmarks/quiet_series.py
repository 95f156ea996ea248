"""Series in which nothing happens: noise, rhythm, bursts, counts, as operational metrics have them; and faults to add.

Every kind is stationary or repeats itself over days and weeks, so that any alarm on it is false by construction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

STEP_MS = 60_000
DAY = 1440
Floats = NDArray[np.float64]
Make = Callable[[np.random.Generator, int, int], Floats]


def autoregressive(rng: np.random.Generator, series: int, steps: int, memory: float) -> Floats:
    """AR(1) of unit variance, [series, steps], started in its stationary state."""
    shocks = rng.standard_normal((series, steps)) * np.sqrt(1 - memory**2)
    shocks[:, :1] = rng.standard_normal((series, 1))
    return decaying(shocks, memory)


def decaying(shocks: Floats, memory: float) -> Floats:
    """Each step the shock and ``memory`` times the step before."""
    out = np.ascontiguousarray(shocks.T)
    for step in range(1, len(out)):
        out[step] += memory * out[step - 1]
    return np.ascontiguousarray(out.T)


def _white(rng: np.random.Generator, series: int, steps: int) -> Floats:
    return 50 + rng.standard_normal((series, steps))


def _memory(memory: float) -> Make:
    return lambda rng, series, steps: 50 + autoregressive(rng, series, steps, memory)


def _waves(rng: np.random.Generator, series: int, steps: int, days: float) -> Floats:
    turn = 2 * np.pi * (np.arange(steps) / (DAY * days) + rng.random((series, 1)))
    return np.asarray(np.sin(turn) + 0.4 * np.sin(2 * turn + rng.random((series, 1)) * 6))


def _daily(rng: np.random.Generator, series: int, steps: int) -> Floats:
    size = rng.uniform(2, 8, (series, 1))
    return 50 + size * _waves(rng, series, steps, 1.0) + autoregressive(rng, series, steps, 0.5)


def _weekly(rng: np.random.Generator, series: int, steps: int) -> Floats:
    return _daily(rng, series, steps) + rng.uniform(2, 8, (series, 1)) * _waves(rng, series, steps, 7.0)


def _bursty(rng: np.random.Generator, series: int, steps: int) -> Floats:
    """Short, high bursts at random times, some twelve a day, as of batch jobs and caches that expire."""
    arrivals = (rng.random((series, steps)) < 12 / DAY) * rng.exponential(8.0, (series, steps))
    return 20 + decaying(arrivals, 0.8) + rng.standard_normal((series, steps))


def _counts(rng: np.random.Generator, series: int, steps: int) -> Floats:
    """Whole numbers of few events a minute, most of them small, with a daily rhythm."""
    mean = rng.uniform(0.3, 8, (series, 1)) * (1 + 0.5 * _waves(rng, series, steps, 1.0) / 1.4)
    return rng.poisson(mean).astype(np.float64)


def _amplitude(rng: np.random.Generator, series: int, steps: int) -> Floats:
    """Long memory whose size wanders over a day, and a daily wave of another height each day."""
    size = np.exp(0.3 * autoregressive(rng, series, steps, 1 - 1 / DAY))
    heights = np.repeat(rng.lognormal(0, 0.2, (series, steps // DAY + 1)), DAY, axis=1)[:, :steps]
    return 50 + size * autoregressive(rng, series, steps, 0.98) + 3 * heights * _waves(rng, series, steps, 1.0)


def _heavy(rng: np.random.Generator, series: int, steps: int) -> Floats:
    return 50 + decaying(rng.standard_t(3, (series, steps)), 0.5)


KINDS: dict[str, Make] = {
    "white noise": _white,
    "AR .5": _memory(0.5),
    "AR .8": _memory(0.8),
    "AR .98": _memory(0.98),
    "daily": _daily,
    "daily and weekly": _weekly,
    "bursts": _bursty,
    "counts": _counts,
    "AR .98, wandering amplitude": _amplitude,
    "heavy tails": _heavy,
}


def quiet(kind: str, series: int, steps: int, seed: int) -> NDArray[np.float32]:
    """Float32 [series, steps], one value a minute."""
    return KINDS[kind](np.random.default_rng([seed, *kind.encode()]), series, steps).astype(np.float32)
