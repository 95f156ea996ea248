"""Native histograms from their bytes: the message ``prometheus.Histogram``, the same in remote write 1.0 and 2.0.

Read by hand, since a query meets thousands and needs no object for each of their parts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from aiops.core.series import STALE_BITS
from aiops.promql.native_histogram import Buckets, FloatHistogram, Hint


def decode(payload: bytes) -> FloatHistogram | None:
    """From a ``prometheus.Histogram``; ``None`` for a staleness marker. Raises ``ValueError`` for what is none."""
    numbers: dict[int, float] = {}
    spans: dict[int, list[tuple[int, int]]] = {8: [], 11: []}
    lists: dict[int, list[float]] = {9: [], 10: [], 12: [], 13: [], 16: []}
    for number, wire, value in _fields(payload):
        match number:
            case 1 | 6 | 14 if isinstance(value, int):
                numbers[number] = value
            case 4 if isinstance(value, int):
                numbers[number] = _zigzag(value)
            case 2 | 3 | 5 | 7 if wire == 1 and isinstance(value, int):
                numbers[number] = struct.unpack("<d", struct.pack("<Q", value))[0]
            case 8 | 11 if isinstance(value, bytes):
                span = {n: v for n, _, v in _fields(value) if isinstance(v, int)}
                spans[number].append((_zigzag(span.get(1, 0)), span.get(2, 0)))
            case 9 | 12:
                lists[number] += _deltas(value) if isinstance(value, bytes) else [_zigzag(value)]
            case 10 | 13 | 16 if isinstance(value, bytes):
                lists[number] += np.frombuffer(value, "<f8").tolist()
            case _:
                pass
    total = numbers.get(3, 0.0)
    if struct.unpack("<Q", struct.pack("<d", total))[0] == STALE_BITS:
        return None
    hint = int(numbers.get(14, 0))
    return FloatHistogram(
        int(numbers.get(4, 0)), float(numbers.get(2, numbers.get(1, 0))), total, numbers.get(5, 0.0),
        float(numbers.get(7, numbers.get(6, 0))),
        _side(spans[11], lists[12], lists[13]), _side(spans[8], lists[9], lists[10]),
        Hint(hint) if 0 <= hint < len(Hint) else Hint.UNKNOWN, tuple(lists[16]),
    )  # fmt: skip


def _side(spans: list[tuple[int, int]], deltas: list[float], counts: list[float]) -> Buckets:
    """Buckets of spans; their counts are told as such, or as differences."""
    values = np.array(counts, np.float64) if counts else np.cumsum(np.array(deltas, np.float64))
    index: list[int] = []
    at = 0
    for offset, length in spans:
        if len(index) + length > len(values):
            raise ValueError("a native histogram has more buckets than counts")
        at += offset
        index += range(at, at + length)
        at += length
    if len(index) != len(values):
        raise ValueError("a native histogram has more counts than buckets")
    return Buckets(np.array(index, np.int64), values)


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Fields of a message: number, wire type, and a number or the bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, wire, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("a native histogram is not valid protobuf")
        if at + size > len(data):
            raise ValueError("a native histogram is not valid protobuf")
        raw = data[at : at + size]
        at += size
        yield key >> 3, wire, raw if wire == 2 else int.from_bytes(raw, "little")


def _deltas(data: bytes) -> list[float]:
    """Packed signed numbers, all at once."""
    if not data:
        return []
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if not len(ends) or ends[-1] != len(octets) - 1 or int(sizes.max()) > 10:
        raise ValueError("a native histogram is not valid protobuf")
    value = np.zeros(len(ends), np.uint64)
    for k in range(int(sizes.max())):
        own = sizes > k
        value[own] |= (octets[starts[own] + k] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * k)
    signed = (value >> np.uint64(1)).astype(np.int64) ^ -(value & np.uint64(1)).astype(np.int64)
    return list(map(float, signed.tolist()))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a native histogram is not valid protobuf")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)
