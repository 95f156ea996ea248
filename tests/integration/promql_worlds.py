"""Generated series for the differential test, and how they get into a real Prometheus and into our store.

A world is 40 minutes of samples. Every series is scraped each 15 s at its own second of the quarter minute, never at
0 or 7: queries look at 7 s past a quarter minute and inner points of subqueries lie on whole quarter minutes, so that
no sample is on the edge of a window, where Prometheus 2.x and 3.x differ. Values are multiples of 1/64 below 2^30: sums
of them are exact in any order, so that both sides may be compared at 1e-9 and discontinuous functions agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from aiops.core.series import METRIC_NAME, STALE_NAN, Labels, SampleBlock, labels_of
from tests.unit.ingest import encode

START_MS = 1_700_000_100_000
"""On a quarter minute."""
STEP_MS = 15_000
COUNT = 160
APART_MS = 3 * 3_600_000
SECONDS = (1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14)
BUCKETS = ("0.1", "0.25", "1", "2.5", "+Inf")


@dataclass(frozen=True)
class World:
    start_ms: int
    block: SampleBlock

    @property
    def end_ms(self) -> int:
        return self.start_ms + COUNT * STEP_MS


@st.composite
def labels(draw: st.DrawFn, name: str) -> Labels:
    pairs = {METRIC_NAME: name, "job": draw(st.sampled_from(["a", "b", "c"]))}
    if draw(st.booleans()):
        pairs["zone"] = draw(st.sampled_from(["x", "y", "x y", 'q"\\u', "é"]))
    if draw(st.booleans()):
        pairs["instance"] = draw(st.sampled_from(["1", "2"]))
    return labels_of(pairs)


def _alive(draw: st.DrawFn, rng: np.random.Generator) -> tuple[Any, Any]:
    """(kept samples, staleness markers): gaps, churn and targets that come and go."""
    kept, stale = np.ones(COUNT, bool), np.zeros(COUNT, bool)
    kind = draw(st.sampled_from(["whole", "whole", "gaps", "churn", "flapping", "sparse"]))
    if kind == "gaps":
        for begin in rng.integers(0, COUNT, 4):
            kept[begin : begin + int(rng.integers(1, 30))] = False
    elif kind == "churn":
        begin, end = sorted(rng.integers(0, COUNT, 2).tolist())
        kept[:begin] = kept[end:] = False
        stale[min(end, COUNT - 1)] = bool(rng.integers(2))
    elif kind == "flapping":
        for begin in rng.integers(0, COUNT - 20, 3):
            stale[begin] = True
            kept[begin + 1 : begin + int(rng.integers(1, 15))] = False
    elif kind == "sparse":
        kept = rng.random(COUNT) < 0.15
    return kept, stale


def _values(name: str, index: int, rng: np.random.Generator) -> Any:
    steps = np.arange(COUNT)
    if name in ("c_total", "d_total"):
        rise = rng.integers(0, 40, COUNT) * (rng.random(COUNT) < 0.8)
        counter = 2.0**29 + np.cumsum(rise).astype(float)
        # The rise over a reset is the value after it. It is 64 times less than before, so that no extrapolation
        # reaches zero: there 2.x and 3.x differ.
        for base, reset in zip(
            (2.0**23, 2.0**17), sorted(rng.integers(1, COUNT, int(rng.integers(0, 3)))), strict=False
        ):
            counter[reset:] += base - counter[reset]
        return counter
    if name == "s":  # special values, but none so small that it is denormal, whose logarithm Go gets wrong on amd64
        pool = np.array([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e300, 2.5e-308, 0.5])
        return np.where(rng.random(COUNT) < 0.4, rng.choice(pool, COUNT), rng.integers(-5, 5, COUNT))
    if name == "k":  # few values, for ties and changes
        return rng.integers(-2, 3, COUNT).astype(float)[steps - steps % int(rng.integers(1, 6))]
    # One 64th apart, so that no two series of a metric are ever equal.
    return rng.integers(-500, 1000, COUNT) + index / 64


NAMES = ("g", "h", "c_total", "d_total", "s", "k")


@st.composite
def worlds(draw: st.DrawFn) -> list[tuple[Labels, Any, Any]]:
    """Series of one world: labels, times after its start (ms), values."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows: dict[Labels, tuple[Any, Any]] = {}
    for name in NAMES:
        for index in range(draw(st.integers(2, 6))):
            own = draw(labels(name))
            kept, stale = _alive(draw, rng)
            values = np.where(stale, STALE_NAN, _values(name, index, rng))
            # NumPy may quieten the marker's NaN in arithmetic, not in where.
            offset = int(draw(st.sampled_from(SECONDS))) * 1000 + int(draw(st.sampled_from([0, 123])))
            times = np.arange(COUNT) * STEP_MS + offset
            rows.setdefault(own, (times[kept | stale], values[kept | stale]))
    for job in draw(st.sampled_from([("a",), ("a", "b")])):
        kept, stale = _alive(draw, rng)
        times = np.arange(COUNT) * STEP_MS + int(draw(st.sampled_from(SECONDS))) * 1000
        counts = np.cumsum(np.cumsum(rng.integers(0, 9, (len(BUCKETS), COUNT)), axis=0), axis=1) + 2.0**20
        if draw(st.booleans()):  # not monotonic
            counts[1] -= 64
        for le, row in zip(BUCKETS, counts, strict=True):
            own = labels_of({METRIC_NAME: "b_bucket", "job": job, "le": le})
            rows[own] = (times[kept | stale], np.where(stale, STALE_NAN, row)[kept | stale])
    return [(own, times, values) for own, (times, values) in sorted(rows.items()) if len(times)]


def make(count: int, number: int) -> list[World]:
    """``count`` worlds, three hours apart, drawn with the seed ``number``."""
    drawn: list[list[tuple[Labels, Any, Any]]] = []

    @seed(number)
    @settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(worlds())
    def collect(world: list[tuple[Labels, Any, Any]]) -> None:
        drawn.append(world)

    collect()
    out = []
    for i, rows in enumerate(drawn[-count:]):
        start = START_MS + i * APART_MS
        block = SampleBlock.build((own, (times + start).astype(np.int64), values) for own, times, values in rows)
        out.append(World(start, block))
    return out


def remote_write(url: str, block: SampleBlock) -> None:
    """Send a block to a Prometheus by remote write, the one way that takes staleness markers."""
    body = bytearray()
    for i, own in enumerate(block.labels):
        ts, values = block.series(i)
        bits = values.view(np.uint64).tolist()
        body += encode.series(own, list(zip(ts.tolist(), bits, strict=True)))
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    reply = httpx.post(
        f"{url}/api/v1/write", content=encode.snappy(bytes(body)), headers=headers, timeout=60, trust_env=False
    )
    assert reply.status_code in (200, 204), reply.text
