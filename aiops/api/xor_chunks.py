"""Prometheus' XOR chunks and the frames of a streamed remote read, compiled (Numba).

Formats: https://github.com/prometheus/prometheus/blob/main/tsdb/docs/format/chunks.md (XOR chunk data) and
https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/ (a frame is its length as a varint, the CRC-32
of Castagnoli in four bytes, big endian, and the message). Importing this module imports Numba.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_jit = numba.njit(cache=True, nogil=True)

CHUNK_SAMPLES = 120
"""What a Prometheus aims at in a chunk."""
HEAD_BYTES, SAMPLE_BYTES = 2 + 10 + 8, 19
"""A chunk takes no more: its count, first time and value; 68 + 77 bits for each sample after that."""
_POLYNOMIAL = 0x82F63B78
_NO_WINDOW = 0xFF


def _crc_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), table >> np.uint32(1))
    return table


_TABLE = _crc_table()


@_jit
def _crc(data: Any, table: Any) -> Any:
    crc = np.uint32(0xFFFFFFFF)
    for i in range(len(data)):
        crc = table[(crc ^ np.uint32(data[i])) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)


def castagnoli(data: bytes) -> int:
    """CRC-32C."""
    return int(_crc(np.frombuffer(data, np.uint8), _TABLE))


@_jit
def _bits(out: Any, at: int, value: Any, count: int) -> Any:
    """Append the low ``count`` bits of a value to a stream that is ``at`` bits long; returns its new length."""
    left = count
    while left > 0:
        room = 8 - (at & 7)
        take = min(room, left)
        piece = (value >> np.uint64(left - take)) & np.uint64((1 << take) - 1)
        out[at >> 3] |= np.uint8(piece << np.uint64(room - take))
        at += take
        left -= take
    return at


@_jit
def _uvarint(out: Any, at: int, value: Any) -> Any:
    while value >= np.uint64(0x80):
        at = _bits(out, at, (value & np.uint64(0x7F)) | np.uint64(0x80), 8)
        value >>= np.uint64(7)
    return _bits(out, at, value, 8)


@_jit
def _leading(value: Any) -> Any:
    n = 0
    while n < 64 and not value >> np.uint64(63 - n) & np.uint64(1):
        n += 1
    return n


@_jit
def _trailing(value: Any) -> Any:
    n = 0
    while n < 64 and not value >> np.uint64(n) & np.uint64(1):
        n += 1
    return n


@_jit
def _chunk(ts: Any, bits: Any, out: Any) -> Any:
    """One chunk of samples; ``out`` is zero and large enough. Returns the bytes that it takes."""
    size = len(ts)
    out[0], out[1] = size >> 8, size & 0xFF
    at = 16
    low, high = _NO_WINDOW, 0
    before = np.int64(0)
    for i in range(size):
        if i == 0:
            first = ts[0]
            at = _uvarint(out, at, np.uint64((first << 1) ^ (first >> 63)))
            at = _bits(out, at, bits[0], 64)
            continue
        delta = ts[i] - ts[i - 1]
        if i == 1:
            at = _uvarint(out, at, np.uint64(delta))
        else:
            change = delta - before
            if change == 0:
                at = _bits(out, at, np.uint64(0), 1)
            elif -8191 <= change <= 8192:
                at = _bits(out, _bits(out, at, np.uint64(0b10), 2), np.uint64(change), 14)
            elif -65535 <= change <= 65536:
                at = _bits(out, _bits(out, at, np.uint64(0b110), 3), np.uint64(change), 17)
            elif -524287 <= change <= 524288:
                at = _bits(out, _bits(out, at, np.uint64(0b1110), 4), np.uint64(change), 20)
            else:
                at = _bits(out, _bits(out, at, np.uint64(0b1111), 4), np.uint64(change), 64)
        before = delta
        xor = bits[i] ^ bits[i - 1]
        if xor == np.uint64(0):
            at = _bits(out, at, np.uint64(0), 1)
            continue
        at = _bits(out, at, np.uint64(1), 1)
        leading, trailing = min(_leading(xor), 31), _trailing(xor)
        if low != _NO_WINDOW and leading >= low and trailing >= high:
            at = _bits(out, at, np.uint64(0), 1)
            at = _bits(out, at, xor >> np.uint64(high), 64 - low - high)
            continue
        low, high = leading, trailing
        width = 64 - leading - trailing
        at = _bits(out, at, np.uint64(1), 1)
        at = _bits(out, at, np.uint64(leading), 5)
        at = _bits(out, at, np.uint64(width & 63), 6)
        at = _bits(out, at, xor >> np.uint64(trailing), width)
    return (at + 7) >> 3


@_jit
def _chunks(ts: Any, bits: Any, starts: Any, ends: Any, out: Any, sizes: Any) -> None:
    for i in range(len(starts)):
        sizes[i] = _chunk(ts[starts[i] : ends[i]], bits[starts[i] : ends[i]], out[i])


def encode(
    ts: NDArray[np.int64], values: NDArray[np.float64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> list[bytes]:
    """The data of a chunk for each span of samples, of which none is empty or holds more than 65,535.

    Args:
        ts: ms, ascending within a span.
        values: float64; every bit is kept.
        starts, ends: int64, the spans.
    """
    longest = int((ends - starts).max(initial=0))
    out = np.zeros((len(starts), HEAD_BYTES + longest * SAMPLE_BYTES), np.uint8)
    sizes = np.empty(len(starts), np.int64)
    _chunks(ts, values.view(np.uint64), starts, ends, out, sizes)
    return [out[i, :size].tobytes() for i, size in enumerate(sizes.tolist())]
