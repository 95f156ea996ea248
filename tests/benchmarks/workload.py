"""What the speed bench sends: seeded counters and histograms as remote-write 1.0 bodies, the same for every server."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cramjam
import numpy as np

STEP_MS = 15_000
LE = ("0.1", "0.5", "1", "5", "+Inf")
SHARDS = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a run does.

    Attributes:
        series: counters of the query data; ``hours`` of them at 15 s.
        scrapes: bodies a shard in each timed write phase; eight shards of ``shard_series`` series.
        repeats: of every warm query and of the start-up.
    """

    series: int = 1000
    hours: float = 6.2
    scrapes: int = 60
    shard_series: int = 1000
    repeats: int = 3


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _chunk(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _labels(pairs: dict[str, str]) -> bytes:
    return b"".join(_chunk(1, _chunk(1, k.encode()) + _chunk(2, v.encode())) for k, v in sorted(pairs.items()))


def _samples(times: Sequence[int], values: Sequence[float]) -> bytes:
    return b"".join(
        _chunk(2, b"\x09" + struct.pack("<d", v) + b"\x10" + _varint(t)) for t, v in zip(times, values, strict=True)
    )


def _body(series: Iterator[bytes]) -> bytes:
    return bytes(cramjam.snappy.compress_raw(b"".join(_chunk(1, item) for item in series)))


def query_bodies(sizes: Sizes, end_ms: int) -> tuple[list[bytes], int]:
    """Bodies that hold the query data up to ``end_ms``, in order of time, and the number of samples.

    ``x_total{job, instance}`` counters with a few resets; ``h_bucket{job, le}`` of ten jobs. Samples keep off the
    full quarter minute, so that open and closed window edges do not matter.
    """
    rng = np.random.default_rng(11)
    count = int(sizes.hours * 3_600_000) // STEP_MS
    times = end_ms - 7_000 - (np.arange(count)[::-1] * STEP_MS)
    heads, values = [], []
    for i in range(sizes.series):
        heads.append(_labels({"__name__": "x_total", "job": f"job-{i % 10}", "instance": f"host-{i:05d}:9100"}))
        counter = np.cumsum(rng.integers(0, 50, count)).astype(np.float64)
        if i % 97 == 5:
            counter[count // 2 :] -= counter[count // 2]
        values.append(counter)
    for job in range(10):
        total = np.zeros(count)
        for le in LE:
            heads.append(_labels({"__name__": "h_bucket", "job": f"job-{job}", "le": le}))
            total = total + np.cumsum(rng.integers(1, 20, count)).astype(np.float64)
            values.append(total)
    bodies = []
    width = max(1, 20_000 // max(1, min(len(heads), 1000)))
    for a in range(0, count, width):
        stamps = times[a : a + width].tolist()
        for first in range(0, len(heads), 1000):
            part = range(first, min(first + 1000, len(heads)))
            bodies.append(_body(heads[i] + _samples(stamps, values[i][a : a + width].tolist()) for i in part))
    return bodies, count * len(heads)


def write_bodies(sizes: Sizes, name: str, end_ms: int) -> list[list[bytes]]:
    """For each shard its scrapes in order of time: one sample of ``shard_series`` series a body."""
    rng = np.random.default_rng(12)
    shards = []
    for shard in range(SHARDS):
        heads = [
            _labels({"__name__": name, "job": "write", "shard": str(shard), "instance": f"host-{i:05d}:9100"})
            for i in range(sizes.shard_series)
        ]
        value = rng.integers(0, 10_000, len(heads)).astype(np.float64)
        bodies = []
        for scrape in range(sizes.scrapes):
            value = value + rng.integers(0, 50, len(heads))
            stamp = end_ms - (sizes.scrapes - scrape) * 1000
            bodies.append(_body(h + _samples([stamp], [v]) for h, v in zip(heads, value.tolist(), strict=True)))
        shards.append(bodies)
    return shards
