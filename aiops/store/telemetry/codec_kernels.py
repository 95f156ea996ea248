"""The codec of closed samples, compiled (Numba); the format is told in ``codec.py``.

Importing this module imports Numba; :class:`aiops.store.telemetry.codec.Codecs` does so on a thread of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from aiops.store.telemetry.codec import (
    DIRECT,
    FIRST,
    GROUP,
    LINEAR,
    SECOND,
    XOR,
    Codec,
    Floats,
    Ints,
    Words,
)

F = TypeVar("F", bound=Callable[..., Any])

MOST_DIGITS = 12
"""Decimals of more places are coded by XOR."""
_LARGEST = 2.0**53
_POWERS = np.array([10.0**e for e in range(MOST_DIGITS + 1)])
U0, U1, U6, U63, U64 = np.uint64(0), np.uint64(1), np.uint64(6), np.uint64(63), np.uint64(64)
_NEGATIVE_ZERO = np.uint64(1 << 63)


def _jit(function: F) -> F:
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)(function))


@_jit
def _width(x: Any) -> Any:
    """Bits that hold an unsigned number."""
    n = 0
    if x >= (U1 << np.uint64(32)):
        n += 32
        x >>= np.uint64(32)
    if x >= (U1 << np.uint64(16)):
        n += 16
        x >>= np.uint64(16)
    if x >= (U1 << np.uint64(8)):
        n += 8
        x >>= np.uint64(8)
    while x > U0:
        n += 1
        x >>= U1
    return n


@_jit
def _trailing(x: Any) -> Any:
    if x == U0:
        return 63
    n = 0
    while x & U1 == U0:
        n += 1
        x >>= U1
    return n


@_jit
def _pack(item: Words, count: Any, width: Any, out: Words, at: Any) -> Any:
    """Items of ``width`` bits into whole words; returns the place after them."""
    if width == 0:
        return at
    word, used = U0, U0
    w = np.uint64(width)
    for i in range(count):
        x = item[i]
        word |= x << used
        if used + w >= U64:
            out[at] = word
            at += 1
            left = U64 - used
            word = U0 if left >= U64 else x >> left
            used = used + w - U64
            if used == U0:
                word = U0
        else:
            used += w
    if used > U0:
        out[at] = word
        at += 1
    return at


@_jit
def _item(k: Ints, i: Any, order: Any, seed: Any) -> Any:
    if order == DIRECT:
        return k[i]
    if order == FIRST:
        return k[i] - k[i - 1]
    if order == SECOND:
        before = seed if i == 1 else k[i - 1] - k[i - 2]
        return k[i] - k[i - 1] - before
    return k[i] - np.int64(i) * seed


@_jit
def _best_order(k: Ints, n: Any, slope: Any) -> Any:
    """The order that takes the fewest bits, and its seed."""
    best, best_bits, best_seed = FIRST, np.int64(1) << np.int64(62), np.int64(0)
    second = k[1] - k[0]
    for order in (FIRST, SECOND, DIRECT, LINEAR):
        seed = np.int64(0)
        bits = np.int64(0)
        if order == SECOND:
            seed, bits = second, np.int64(64)
        elif order == LINEAR:
            seed, bits = slope, np.int64(64)
        for g in range(1, n, GROUP):
            stop = min(n, g + GROUP)
            low = high = _item(k, g, order, seed)
            for i in range(g + 1, stop):
                x = _item(k, i, order, seed)
                low = min(low, x)
                high = max(high, x)
            width = _width(np.uint64(high - low))
            bits += -(-(stop - g) * width // 64) * 64 + _width(np.uint64((low << np.int64(1)) ^ (low >> np.int64(63))))
            if bits >= best_bits:
                break
        if bits < best_bits:
            best, best_bits, best_seed = order, bits, seed
    return best, best_seed


@_jit
def _encode_integers(m: Ints, n: Any, scale: Any, exceptions: Any, out: Words, at: Any) -> Any:
    """``m`` is overwritten. Returns the place after the column, without its exceptions."""
    first = m[0]
    union = U0
    for i in range(n):
        m[i] = m[i] - first
        union |= np.uint64(m[i])
    shift = _trailing(union) if union != U0 else 0
    if shift:
        for i in range(n):
            m[i] = m[i] >> np.int64(shift)
    order, seed = FIRST, np.int64(0)
    if n > 1:
        order, seed = _best_order(m, n, m[n - 1] // np.int64(n - 1))
    groups = -(-(n - 1) // GROUP)
    bases = np.zeros(groups, np.uint64)
    widths = np.zeros(groups, np.int64)
    widest = U0
    for g in range(groups):
        a, stop = 1 + g * GROUP, min(n, 1 + (g + 1) * GROUP)
        low = high = _item(m, a, order, seed)
        for i in range(a + 1, stop):
            x = _item(m, i, order, seed)
            low = min(low, x)
            high = max(high, x)
        widths[g] = _width(np.uint64(high - low))
        bases[g] = np.uint64(low << np.int64(1)) ^ np.uint64(low >> np.int64(63))
        widest |= bases[g]
    base_bytes = (_width(widest) + 7) // 8
    out[at] = (
        np.uint64(order << 4)
        | np.uint64(scale << 8)
        | np.uint64(shift << 16)
        | np.uint64(base_bytes << 24)
        | (np.uint64(exceptions) << np.uint64(32))
    )
    out[at + 1] = np.uint64(first)
    at += 2
    if order >= SECOND:
        out[at] = np.uint64(seed)
        at += 1
    heads = -(-groups * (1 + base_bytes) // 8)
    for j in range(at, at + heads):
        out[j] = U0
    for g in range(groups):
        out[at + (g >> 3)] |= np.uint64(widths[g]) << np.uint64(8 * (g & 7))
        for b in range(base_bytes):
            j = groups + g * base_bytes + b
            byte = (bases[g] >> np.uint64(8 * b)) & np.uint64(255)
            out[at + (j >> 3)] |= byte << np.uint64(8 * (j & 7))
    at += heads
    item = np.empty(GROUP, np.uint64)
    for g in range(groups):
        a, stop = 1 + g * GROUP, min(n, 1 + (g + 1) * GROUP)
        low = np.int64(bases[g] >> U1) ^ -np.int64(bases[g] & U1)
        for i in range(a, stop):
            item[i - a] = np.uint64(_item(m, i, order, seed) - low)
        at = _pack(item, stop - a, widths[g], out, at)
    return at


@_jit
def _encode_xor(bits: Words, n: Any, out: Words, at: Any) -> Any:
    groups = -(-(n - 1) // GROUP)
    out[at] = np.uint64(XOR)
    out[at + 1] = bits[0]
    at += 2
    heads = -(-groups * 2 // 8)
    head_at = at
    for j in range(at, at + heads):
        out[j] = U0
    at += heads
    item = np.empty(GROUP, np.uint64)
    for g in range(groups):
        a, stop = 1 + g * GROUP, min(n, 1 + (g + 1) * GROUP)
        union = U0
        for i in range(a, stop):
            item[i - a] = bits[i] ^ bits[i - 1]
            union |= item[i - a]
        zeros = _trailing(union) if union != U0 else 0
        width = _width(union >> np.uint64(zeros))
        for i in range(stop - a):
            item[i] = item[i] >> np.uint64(zeros)
        out[head_at + (g >> 3)] |= np.uint64(width) << np.uint64(8 * (g & 7))
        j = groups + g
        out[head_at + (j >> 3)] |= np.uint64(zeros) << np.uint64(8 * (j & 7))
        at = _pack(item, stop - a, width, out, at)
    return at


@_jit
def _digits(v: Floats, bits: Words) -> Any:
    """Places after the point that all finite values need, or -1; and how many values are exceptions."""
    scale, odd = 0, 0
    for i in range(len(v)):
        x = v[i]
        if not math.isfinite(x) or bits[i] == _NEGATIVE_ZERO:
            odd += 1
            continue
        while True:
            m = np.rint(x * _POWERS[scale])
            if abs(m) < _LARGEST and m / _POWERS[scale] == x:
                break
            scale += 1
            if scale > MOST_DIGITS or abs(m) >= _LARGEST:
                return -1, odd
    return scale, odd


@_jit
def _encode_values(offsets: Ints, values: Floats, bits: Words, out: Words, starts: Ints) -> Any:
    at = 0
    for s in range(len(offsets) - 1):
        starts[s] = at
        a, b = offsets[s], offsets[s + 1]
        n = b - a
        if n == 0:
            continue
        scale, odd = _digits(values[a:b], bits[a:b])
        if scale < 0 or odd * 4 > n:
            at = _encode_xor(bits[a:b], n, out, at)
            continue
        m = np.empty(n, np.int64)
        before = np.int64(0)
        lead = 0
        for i in range(n):
            x = values[a + i]
            if math.isfinite(x) and bits[a + i] != _NEGATIVE_ZERO:
                before = np.int64(np.rint(x * _POWERS[scale]))
                if lead == i:
                    m[:i] = before
                    lead = -1
            elif lead == i:
                lead = i + 1
            m[i] = before
        start = at
        at = _encode_integers(m, n, scale, odd, out, at)
        for i in range(n):
            if not math.isfinite(values[a + i]) or bits[a + i] == _NEGATIVE_ZERO:
                out[at] = np.uint64(i)
                out[at + 1] = bits[a + i]
                at += 2
        if at - start > n + 4:
            at = _encode_xor(bits[a:b], n, out, start)
    starts[len(offsets) - 1] = at
    return at


@_jit
def _encode_times(offsets: Ints, times: Ints, out: Words, starts: Ints) -> Any:
    at = 0
    for s in range(len(offsets) - 1):
        starts[s] = at
        a, b = offsets[s], offsets[s + 1]
        if b > a:
            at = _encode_integers(times[a:b].copy(), b - a, 0, 0, out, at)
    starts[len(offsets) - 1] = at
    return at


@_jit
def _group(words: Words, at: Any, width: Any, count: Any, item: Words) -> None:
    """Unpack ``count`` items. Reads no word beyond the group."""
    if width == 0:
        for i in range(count):
            item[i] = U0
        return
    w = np.uint64(width)
    if width == 64:
        for i in range(count):
            item[i] = words[at + i]
        return
    mask = (U1 << w) - U1
    bit = U0
    last = at + (count * width - 1) // 64
    for i in range(count):
        j = at + np.int64(bit >> U6)
        s = bit & U63
        x = words[j] >> s
        if j < last:
            x |= (words[j + 1] << U1) << (U63 - s)
        item[i] = x & mask
        bit += w


@_jit
def _decode_integers(words: Words, start: Any, n: Any, out: Ints, item: Words) -> Any:
    """Fills ``out[:n]``; returns the place of the exceptions."""
    head = words[start]
    order = np.int64((head >> np.uint64(4)) & np.uint64(15))
    shift = np.int64((head >> np.uint64(16)) & np.uint64(255))
    base_bytes = np.int64((head >> np.uint64(24)) & np.uint64(255))
    first = np.int64(words[start + 1])
    at = start + 2
    seed = np.int64(0)
    if order >= SECOND:
        seed = np.int64(words[at])
        at += 1
    groups = -(-(n - 1) // GROUP)
    heads = at
    at += -(-groups * (1 + base_bytes) // 8)
    out[0] = first
    total, step = np.int64(0), seed
    for g in range(groups):
        a, stop = 1 + g * GROUP, min(n, 1 + (g + 1) * GROUP)
        width = np.int64((words[heads + (g >> 3)] >> np.uint64(8 * (g & 7))) & np.uint64(255))
        base = U0
        for b in range(base_bytes):
            j = groups + g * base_bytes + b
            base |= ((words[heads + (j >> 3)] >> np.uint64(8 * (j & 7))) & np.uint64(255)) << np.uint64(8 * b)
        low = np.int64(base >> U1) ^ -np.int64(base & U1)
        count = stop - a
        _group(words, at, width, count, item)
        at += (count * width + 63) // 64
        if order == FIRST:
            for i in range(count):
                total += np.int64(item[i]) + low
                out[a + i] = first + (total << shift)
        elif order == DIRECT:
            for i in range(count):
                out[a + i] = first + ((np.int64(item[i]) + low) << shift)
        elif order == SECOND:
            for i in range(count):
                step += np.int64(item[i]) + low
                total += step
                out[a + i] = first + (total << shift)
        else:
            for i in range(count):
                out[a + i] = first + ((np.int64(item[i]) + low + np.int64(a + i) * seed) << shift)
    return at


@_jit
def _decode_xor(words: Words, start: Any, n: Any, out: Words, item: Words) -> None:
    groups = -(-(n - 1) // GROUP)
    before = words[start + 1]
    out[0] = before
    heads = start + 2
    at = heads + -(-groups * 2 // 8)
    for g in range(groups):
        a, stop = 1 + g * GROUP, min(n, 1 + (g + 1) * GROUP)
        j = groups + g
        width = np.int64((words[heads + (g >> 3)] >> np.uint64(8 * (g & 7))) & np.uint64(255))
        zeros = (words[heads + (j >> 3)] >> np.uint64(8 * (j & 7))) & np.uint64(255)
        count = stop - a
        _group(words, at, width, count, item)
        at += (count * width + 63) // 64
        for i in range(count):
            before ^= item[i] << zeros
            out[a + i] = before


@_jit
def _decode_values(words: Words, starts: Ints, counts: Ints, to: Ints, out: Floats, bits: Words, whole: Ints) -> None:
    """``bits`` and ``whole`` are views of ``out``."""
    item = np.empty(GROUP, np.uint64)
    for s in range(len(starts)):
        n, a = counts[s], to[s]
        if n == 0:
            continue
        head = words[starts[s]]
        if head & np.uint64(15) == np.uint64(XOR):
            _decode_xor(words, starts[s], n, bits[a : a + n], item)
            continue
        at = _decode_integers(words, starts[s], n, whole[a : a + n], item)
        scale = np.int64((head >> np.uint64(8)) & np.uint64(255))
        if scale == 0:
            for i in range(a, a + n):
                out[i] = np.float64(whole[i])
        else:
            power = _POWERS[scale]
            for i in range(a, a + n):
                out[i] = np.float64(whole[i]) / power
        for _ in range(np.int64(head >> np.uint64(32))):
            bits[a + np.int64(words[at])] = words[at + 1]
            at += 2


@_jit
def _decode_times(words: Words, starts: Ints, counts: Ints, to: Ints, out: Ints) -> None:
    item = np.empty(GROUP, np.uint64)
    for s in range(len(starts)):
        if counts[s] > 0:
            _decode_integers(words, starts[s], counts[s], out[to[s] : to[s] + counts[s]], item)


@_jit
def _copy_times(source: Ints, base: Any, starts: Ints, counts: Ints, to: Ints, out: Ints) -> None:
    for s in range(len(starts)):
        a, b = starts[s], to[s]
        for i in range(counts[s]):
            out[b + i] = base + source[a + i]


@_jit
def _copy_values(source: Floats, starts: Ints, counts: Ints, to: Ints, out: Floats) -> None:
    for s in range(len(starts)):
        out[to[s] : to[s] + counts[s]] = source[starts[s] : starts[s] + counts[s]]


@_jit
def _equal_times(ts: Ints, starts: Ints, ends: Ints, hashes: Words) -> None:
    for s in range(len(starts)):
        h = np.uint64(ends[s] - starts[s]) * np.uint64(0x9E3779B97F4A7C15)
        for i in range(starts[s], ends[s]):
            h = (h ^ np.uint64(ts[i])) * np.uint64(0x9FB21C651E98DF25)
            h ^= h >> np.uint64(32)
        hashes[s] = h


@_jit
def _confirm(ts: Ints, starts: Ints, ends: Ints, like: Ints, same: Any) -> None:
    for s in range(len(starts)):
        a, b = starts[s], starts[like[s]]
        n = ends[s] - a
        same[s] = n == ends[like[s]] - b
        if same[s]:
            for i in range(n):
                if ts[a + i] != ts[b + i]:
                    same[s] = False
                    break


def _room(offsets: Ints) -> int:
    """Words that no encoding exceeds: a word an item, heads of nine bytes a group, exceptions twice over."""
    n = int(offsets[-1] - offsets[0])
    return 3 * n + 12 * len(offsets) + n // 16


def encode_values(offsets: Ints, values: Floats) -> tuple[Words, Ints]:
    values = _own(values, np.float64)
    out, starts = np.empty(_room(offsets), np.uint64), np.empty(len(offsets), np.int64)
    used = _encode_values(_own(offsets, np.int64), values, values.view(np.uint64), out, starts)
    return out[:used].copy(), starts


def encode_times(offsets: Ints, times: Ints) -> tuple[Words, Ints]:
    out, starts = np.empty(_room(offsets), np.uint64), np.empty(len(offsets), np.int64)
    used = _encode_times(_own(offsets, np.int64), _own(times, np.int64), out, starts)
    return out[:used].copy(), starts


def decode_values(words: Words, starts: Ints, counts: Ints, to: Ints, out: Floats) -> None:
    _decode_values(
        _own(words, np.uint64), _own(starts, np.int64), _own(counts, np.int64), _own(to, np.int64), out,
        out.view(np.uint64), out.view(np.int64),
    )  # fmt: skip


def decode_times(words: Words, starts: Ints, counts: Ints, to: Ints, out: Ints) -> None:
    _decode_times(_own(words, np.uint64), _own(starts, np.int64), _own(counts, np.int64), _own(to, np.int64), out)


def copy_times(source: Any, base: int, starts: Ints, counts: Ints, to: Ints, out: Ints) -> None:
    _copy_times(_writable(source), int(base), _own(starts, np.int64), _own(counts, np.int64), _own(to, np.int64), out)


def copy_values(source: Floats, starts: Ints, counts: Ints, to: Ints, out: Floats) -> None:
    _copy_values(_writable(source), _own(starts, np.int64), _own(counts, np.int64), _own(to, np.int64), out)


def equal_times(ts: Any, starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    ts, starts, ends = _writable(ts), _own(starts, np.int64), _own(ends, np.int64)
    hashes = np.empty(len(starts), np.uint64)
    _equal_times(ts, starts, ends, hashes)
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    like = first[group].astype(np.int64)
    same = np.empty(len(starts), np.bool_)
    _confirm(ts, starts, ends, like, same)
    odd = np.flatnonzero(~same)
    group = group.astype(np.int64)
    group[odd] = len(first) + np.arange(len(odd))
    return group, np.concatenate([first, odd]).astype(np.int64)


def _writable(array: Any) -> Any:
    """Of its own type; only int32, int64 and float64 come here, so each compiles once."""
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()


def _own(array: Any, dtype: Any) -> Any:
    """Contiguous and writable, so that only one signature is ever compiled."""
    out = np.ascontiguousarray(array, dtype)
    return out if out.flags.writeable else out.copy()


def load() -> Codec:
    """Compile everything, or read it from Numba's cache on disk."""
    offsets = np.array([0, 3], np.int64)
    for encode, items in ((encode_values, np.array([1.0, 2.5, math.pi])), (encode_values, np.array([1.0, 2.0, 4.5]))):
        words, starts = encode(offsets, items)
        decode_values(words, starts[:1], np.array([3]), np.array([0]), np.empty(3))
    words, starts = encode_times(offsets, np.array([1, 2, 4], np.int64))
    one, none, three = np.zeros(1, np.int64), np.zeros(1, np.int64), np.full(1, 3)
    decode_times(words, one, three, none, np.empty(3, np.int64))
    copy_values(np.zeros(3), one, three, none, np.empty(3))
    for dtype in (np.int32, np.int64):
        copy_times(np.zeros(3, dtype), 0, one, three, none, np.empty(3, np.int64))
        equal_times(np.zeros(3, dtype), one, three)
    return Codec(encode_times, encode_values, decode_times, decode_values, copy_times, copy_values, equal_times)
