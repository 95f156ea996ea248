"""What the speed bench sends: seeded counters and histograms as remote-write 1.0 bodies, the same for every server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cramjam
import numpy as np
from numpy.typing import NDArray

LE = ("0.1", "0.5", "1", "5", "+Inf")
SHARDS = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a run does.

    Attributes:
        series: counters of the query data; ``hours`` of them at 15 s.
        scrapes: bodies a shard in each timed write phase; eight shards of ``shard_series`` series.
        repeats: of every warm query and of the start-up.
        step_ms: between two samples of a series in the query data.
        disk_series: series of each shape of the disk measure, 12 hours of them at 15 s.
        month_series: gauges of the month, a sample a minute.
    """

    series: int = 1000
    hours: float = 6.2
    scrapes: int = 60
    shard_series: int = 1000
    repeats: int = 3
    step_ms: int = 15_000
    disk_series: int = 200
    month_series: int = 10


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
    """Sample messages; all times take as many bytes, as any two of this century do."""
    stamps = _stamps(tuple(times))
    rows = np.empty((len(times), 12 + stamps.shape[1]), np.uint8)
    rows[:, :3] = 0x12, 10 + stamps.shape[1], 0x09
    rows[:, 3:11] = np.asarray(values, "<f8").view(np.uint8).reshape(-1, 8)
    rows[:, 11] = 0x10
    rows[:, 12:] = stamps
    return rows.tobytes()


@lru_cache(maxsize=1024)
def _stamps(times: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.array([list(_varint(t)) for t in times], np.uint8)


def _body(series: Iterator[bytes]) -> bytes:
    return bytes(cramjam.snappy.compress_raw(b"".join(_chunk(1, item) for item in series)))


def query_bodies(sizes: Sizes, end_ms: int) -> tuple[list[bytes], int]:
    """Bodies that hold the query data up to ``end_ms``, in order of time, and the number of samples.

    ``x_total{job, instance}`` counters with a few resets; ``h_bucket{job, le}`` of ten jobs and their
    ``job_zone{job, zone}``, which is 1. Samples keep off the full quarter minute, so that open and
    closed window edges do not matter.
    """
    rng = np.random.default_rng(11)
    count = int(sizes.hours * 3_600_000) // sizes.step_ms
    times = end_ms - 7_000 - (np.arange(count)[::-1] * sizes.step_ms)
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
        heads.append(_labels({"__name__": "job_zone", "job": f"job-{job}", "zone": f"zone-{job % 3}"}))
        values.append(np.ones(count))
    return _in_time(heads, [times] * len(heads), values), count * len(heads)


def _in_time(heads: list[bytes], times: Sequence[Any], values: Sequence[Any]) -> list[bytes]:
    """Bodies of about 20,000 samples each of up to 1,000 series, in order of time."""
    bodies = []
    width = max(1, 20_000 // max(1, min(len(heads), 1000)))
    for a in range(0, len(values[0]), width):
        for first in range(0, len(heads), 1000):
            part = range(first, min(first + 1000, len(heads)))
            bodies.append(
                _body(heads[i] + _samples(times[i][a : a + width].tolist(), values[i][a : a + width]) for i in part)
            )
    return bodies


SHAPES = {
    "integer counters": ("counter", 0),
    "integer counters, scrapes off by up to 5 ms": ("counter", 5),
    "gauges of two decimals": ("gauge", 0),
    "gauges of two decimals, scrapes off by up to 5 ms": ("gauge", 5),
}
"""What the disk measure stores: the kind of value, and how far a target's scrapes are off their time, in ms."""
TARGET_SERIES = 50


def shaped_bodies(shape: tuple[str, int], sizes: Sizes, end_ms: int) -> tuple[list[bytes], int]:
    """Twelve hours at 15 s of ``disk_series`` series, 50 a target, and the number of samples.

    Counters grow by up to 50 a scrape; a third of the gauges are percentages that wander, a third latencies that
    scatter, a third bytes in pages of 4 KiB.
    """
    kind, off = shape
    rng = np.random.default_rng(13)
    count = 12 * 240
    grid = end_ms - 7_000 - np.arange(count)[::-1] * 15_000
    heads: list[bytes] = []
    times: list[Any] = []
    values: list[Any] = []
    own = grid
    for i in range(sizes.disk_series):
        if i % TARGET_SERIES == 0:
            own = grid + 13 * (i // TARGET_SERIES) + rng.integers(-off, off + 1, count)
        heads.append(_labels({"__name__": f"shape_{kind}", "i": str(i), "instance": f"host-{i // TARGET_SERIES}"}))
        times.append(own)
        if kind == "counter":
            values.append(np.cumsum(rng.integers(0, 50, count)).astype(np.float64))
        elif i % 3 == 0:
            values.append(np.round(np.clip(50 + np.cumsum(rng.normal(0, 0.5, count)), 0, 100), 2))
        elif i % 3 == 1:
            values.append(np.round(rng.lognormal(2, 0.4, count), 2))
        else:
            values.append(4096.0 * np.round(2e5 + np.cumsum(rng.normal(0, 100, count))))
    return _in_time(heads, times, values), count * sizes.disk_series


def month_bodies(sizes: Sizes, days: int, end_ms: int) -> tuple[list[bytes], int]:
    """``days`` days of gauges at a minute, off the full minute, and the number of samples."""
    rng = np.random.default_rng(14)
    count = days * 1440
    times = end_ms - 7_000 - np.arange(count)[::-1] * 60_000
    heads = [
        _labels({"__name__": "month_gauge", "job": f"job-{i % 5}", "i": str(i)}) for i in range(sizes.month_series)
    ]
    values = [np.round(50 + np.cumsum(rng.normal(0, 0.2, count)), 2) for _ in heads]
    return _in_time(heads, [times] * len(heads), values), count * len(heads)


def churn_bodies(sizes: Sizes, count: int, now_ms: int) -> list[bytes]:
    """Bodies of ``shard_series`` series each that no other body holds, labelled as a cluster's pods are."""
    return [
        _body(
            _labels({
                "__name__": "container_cpu_usage_seconds_total", "job": "kubelet", "namespace": f"ns-{i % 20}",
                "container": "app", "pod": f"pod-{body}-{i:05d}", "instance": f"10.0.{body}.{i % 200}:10250",
            })
            + _samples([now_ms - 1000], [float(i)])
            for i in range(sizes.shard_series)
        )
        for body in range(count)
    ]  # fmt: skip


def write_bodies(
    sizes: Sizes, name: str, end_ms: int, shards: int = SHARDS, scrapes: int | None = None
) -> list[list[bytes]]:
    """For each shard its scrapes in order of time: one sample of ``shard_series`` series a body."""
    rng = np.random.default_rng(12)
    scrapes = sizes.scrapes if scrapes is None else scrapes
    found = []
    for shard in range(shards):
        heads = [
            _labels({"__name__": name, "job": "write", "shard": str(shard), "instance": f"host-{i:05d}:9100"})
            for i in range(sizes.shard_series)
        ]
        value = rng.integers(0, 10_000, len(heads)).astype(np.float64)
        bodies = []
        for scrape in range(scrapes):
            value = value + rng.integers(0, 50, len(heads))
            stamp = end_ms - (scrapes - scrape) * 1000
            bodies.append(_body(h + _samples([stamp], [v]) for h, v in zip(heads, value.tolist(), strict=True)))
        found.append(bodies)
    return found
