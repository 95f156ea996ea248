"""Compiled decoding of remote write 1.0 (Numba): from the bytes of a request to series numbers, times and values.

Importing this module imports Numba; the decoder does so in the background only.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_jit = numba.njit(cache=True, nogil=True)

SAMPLES, UNKNOWN, ODD, METADATA, LAST = range(5)
"""Places in ``counts``: how many rows of each output were filled, and the entry of the last series."""
DAMAGED = -1


@_jit
def hash_of(data: Any, start: int, length: int, seed: int) -> Any:
    """64 bits over four interleaved lanes; where two label sets collide, their bytes decide."""
    a, b = np.uint64(seed), np.uint64(seed) ^ np.uint64(0x9E3779B97F4A7C15)
    c, d = a ^ np.uint64(0xC2B2AE3D27D4EB4F), b ^ np.uint64(0x165667B19E3779F9)
    m = np.uint64(0x100000001B3)
    part = data[start : start + length]
    whole = length - length % 4
    for i in range(0, whole, 4):
        a = (a ^ np.uint64(part[i])) * m
        b = (b ^ np.uint64(part[i + 1])) * m
        c = (c ^ np.uint64(part[i + 2])) * m
        d = (d ^ np.uint64(part[i + 3])) * m
    for i in range(whole, length):
        a = (a ^ np.uint64(part[i])) * m
    h = a ^ (b << np.uint64(17) | b >> np.uint64(47)) ^ (c << np.uint64(31) | c >> np.uint64(33)) ^ d * m
    h = (h ^ h >> np.uint64(32)) * np.uint64(0xD6E8FEB86659FD93)
    return h ^ h >> np.uint64(32)


@_jit
def _equal(data: Any, start: int, arena: Any, at: int, length: int) -> Any:
    left, right = data[start : start + length], arena[at : at + length]
    differs = np.uint8(0)
    for i in range(length):
        differs |= left[i] ^ right[i]
    return differs == 0


@_jit
def find(data: Any, start: int, length: int, seed: int, arena: Any, places: Any, lengths: Any, slots: Any) -> Any:
    """The entry that holds exactly these bytes, or -1."""
    mask = len(slots) - 1
    at = np.int64(hash_of(data, start, length, seed) & np.uint64(mask))
    while slots[at] >= 0:
        entry = slots[at]
        if lengths[entry] == length and _equal(data, start, arena, places[entry], length):
            return np.int64(entry)
        at = (at + 1) & mask
    return np.int64(-1)


@_jit
def insert(
    data: Any, starts: Any, sizes: Any, sids: Any, seed: int, arena: Any, places: Any, lengths: Any, owners: Any,
    following: Any, slots: Any, entries: int, used: int,
) -> Any:  # fmt: skip
    """Add keys that are not there yet; there must be room. Returns (entries, used bytes of the arena)."""
    mask = len(slots) - 1
    for k in range(len(starts)):
        start, length = starts[k], sizes[k]
        if sids[k] < 0 or find(data, start, length, seed, arena, places, lengths, slots) >= 0:
            continue
        for i in range(length):
            arena[used + i] = data[start + i]
        places[entries], lengths[entries], owners[entries], following[entries] = used, length, sids[k], -1
        at = np.int64(hash_of(data, start, length, seed) & np.uint64(mask))
        while slots[at] >= 0:
            at = (at + 1) & mask
        slots[at] = entries
        entries += 1
        used += length
    return entries, used


@_jit
def rehash(seed: int, arena: Any, places: Any, lengths: Any, slots: Any, entries: int) -> None:
    mask = len(slots) - 1
    slots[:] = -1
    for entry in range(entries):
        at = np.int64(hash_of(arena, places[entry], lengths[entry], seed) & np.uint64(mask))
        while slots[at] >= 0:
            at = (at + 1) & mask
        slots[at] = entry


@_jit
def _varint(data: Any, at: int, end: int) -> Any:
    """(value, next place); the place is -1 where it is cut or longer than ten bytes."""
    value, shift = np.uint64(0), np.uint64(0)
    for i in range(at, min(end, at + 10)):
        byte = np.uint64(data[i])
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < 128:
            return np.int64(value), np.int64(i + 1)
        shift += np.uint64(7)
    return np.int64(0), np.int64(-1)


@_jit
def _chunk(data: Any, at: int, end: int) -> Any:
    """(start, end) of a length-delimited field whose tag is before ``at``; the end is -1 where it is cut."""
    length, start = _varint(data, at, end)
    if start < 0 or length < 0 or length > end - start:
        return np.int64(0), np.int64(-1)
    return start, start + length


@_jit
def decode(
    data: Any, last: Any, seed: int, arena: Any, places: Any, lengths: Any, owners: Any, following: Any,
    slots: Any, sid: Any, ts: Any, bits: Any, unknown: Any, odd: Any, metadata: Any, counts: Any,
) -> Any:  # fmt: skip
    """Read a whole ``WriteRequest``.

    Args:
        data: its bytes.
        last: the entry of the series before, which tells what series most likely comes next; -1 for none.
        arena, places, lengths, owners, following, slots: the table of label bytes.
        sid, ts, bits: take the samples; a negative ``sid`` is -1 - (row of ``unknown``).
        unknown: takes (start, end) of label bytes that the table lacks.
        odd: takes (start, end) of series that hold more than labels and samples, which are not read here.
        metadata: takes (start, end).
        counts: takes how many of each.

    Returns:
        0, or ``DAMAGED`` where this is not a ``WriteRequest`` or an output is full.
    """
    n = len(data)
    m = u = o = y = 0
    at = 0
    while at < n:
        tag = data[at]
        if tag != 0x0A and tag != 0x1A:
            return DAMAGED
        start, end = _chunk(data, at + 1, n)
        if end < 0:
            return DAMAGED
        at = end
        if tag == 0x1A:
            if y == len(metadata):
                return DAMAGED
            metadata[y, 0], metadata[y, 1] = start, end
            y += 1
            continue
        # Labels come first.
        place = start
        good = True
        while place < end and data[place] == 0x0A:
            _, after = _chunk(data, place + 1, end)
            if after < 0:
                good = False
                break
            place = after
        size = place - start
        entry, owner = np.int64(-1), np.int64(0)
        if good:
            if last >= 0:
                guess = following[last]
                if guess >= 0 and lengths[guess] == size and _equal(data, start, arena, places[guess], size):
                    entry = np.int64(guess)
            if entry < 0:
                entry = find(data, start, size, seed, arena, places, lengths, slots)
                if last >= 0 and entry >= 0:
                    following[last] = entry
            owner = np.int64(owners[entry]) if entry >= 0 else np.int64(-1 - u)
        first = m
        while good and place < end:
            kind = data[place]
            inner, stop = _chunk(data, place + 1, end)
            if stop < 0 or kind != 0x12:
                good = False
                break
            place = stop
            if m == len(sid):
                return DAMAGED
            value, when = np.uint64(0), np.int64(0)
            while inner < stop:
                field = data[inner]
                if field == 0x09 and inner + 9 <= stop:
                    value = np.uint64(0)
                    for i in range(8):
                        value |= np.uint64(data[inner + 1 + i]) << np.uint64(8 * i)
                    inner += 9
                elif field == 0x10:
                    when, inner = _varint(data, inner + 1, stop)
                    if inner < 0:
                        good = False
                        break
                else:
                    good = False
                    break
            sid[m], ts[m], bits[m] = owner, when, value
            m += 1
        if not good:
            m = first
            if o == len(odd):
                return DAMAGED
            odd[o, 0], odd[o, 1] = start, end
            o += 1
            continue
        if entry < 0:
            if u == len(unknown):
                return DAMAGED
            unknown[u, 0], unknown[u, 1] = start, start + size
            u += 1
        last = entry
    counts[SAMPLES], counts[UNKNOWN], counts[ODD], counts[METADATA], counts[LAST] = m, u, o, y, last
    return 0
