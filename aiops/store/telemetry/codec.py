"""The codec of closed samples: one column of integers (times) or floats (values) as 64-bit words.

Decimals are integers after scaling (12.34 is 1234 / 10^2), as VictoriaMetrics does it; what repeats is differenced,
and what is left is packed in groups of :data:`GROUP`, each with the fewest bits that hold it (frame of reference).
Floats of no short decimal form are coded by XOR with their predecessor (Gorilla, VLDB 2015), packed likewise. Every
bit pattern round-trips, ``-0.0`` and the payloads of NaN included.

A column of n items, little-endian words::

    0         kind (bits 0-3), order (4-7), scale (8-15), shift (16-23), bytes a base (24-31), exceptions (32-63)
    1         the first item
    2         the seed, if order is SECOND or LINEAR
    ...       heads, in bytes, padded to a word: widths [G]; then bases [G * bytes] (XOR: trailing zeros [G])
    ...       G packed groups, each of whole words
    ...       exceptions: (place, bits) pairs of words

G is ceil((n - 1) / 64). With m the scaled integers and k_i = (m_i - m_0) >> shift (differences are mod 2^64), what is
packed for i >= 1 is, by order: DIRECT k_i; FIRST k_i - k_{i-1}; SECOND the difference of FIRST, whose first one is the
seed; LINEAR k_i - i * seed. A group holds item - base; bases are zigzag. Times have scale 0 and no exceptions.

This module decodes with NumPy; ``codec_kernels`` encodes and decodes with Numba, to equal bits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

GROUP = 64
CODEC = 1
"""The number of this format in the ``codec`` column."""
INTEGERS, XOR = 0, 1
DIRECT, FIRST, SECOND, LINEAR = range(4)

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Codec:
    """Columns laid one after another; column i is ``words[starts[i] : starts[i + 1]]``.

    Attributes:
        encode_times, encode_values: (offsets [K + 1], items [N]) to (words, starts [K + 1]).
        decode_times, decode_values: (words, start of each column, n of each, where its items begin in out, out);
            fills out.
        copy_times: (source, base, start of each piece, n of each, where it begins in out, out); adds base.
        copy_values: the same without a base.
        equal_times: (ts, starts, ends) of series to which group of equal times each belongs, and a series of each.
    """

    encode_times: Callable[[Ints, Ints], tuple[Words, Ints]]
    encode_values: Callable[[Ints, Floats], tuple[Words, Ints]]
    decode_times: Callable[[Words, Ints, Ints, Ints, Ints], None]
    decode_values: Callable[[Words, Ints, Ints, Ints, Floats], None]
    copy_times: Callable[[Any, int, Ints, Ints, Ints, Ints], None]
    copy_values: Callable[[Any, Ints, Ints, Ints, Floats], None]
    equal_times: Callable[[Any, Ints, Ints], tuple[Ints, Ints]]


class Codecs:
    """Gives the compiled codec once it is there; compiling takes a thread of its own."""

    def __init__(self) -> None:
        self._compiled: Codec | None = None
        self._failed = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def compiled(self, *, wait: bool = False) -> Codec | None:
        """The compiled codec, or ``None`` while it is made; the first call begins it. Raises nothing."""
        if self._compiled is None and not self._failed:
            with self._lock:
                if self._thread is None:
                    # No daemon: the compiler must not be torn down in its midst when the process ends.
                    self._thread = threading.Thread(target=self._compile, name="codec-kernels")
                    self._thread.start()
            if wait:
                self._thread.join()
        return self._compiled

    @property
    def ready(self) -> Codec | None:
        """The compiled codec where it is made already; begins nothing."""
        return self._compiled

    def _compile(self) -> None:
        try:
            from aiops.store.telemetry import codec_kernels

            self._compiled = codec_kernels.load()
        except Exception:
            self._failed = True
            log.exception("The sample codec cannot be compiled; closed blocks stay as rows.")


CODECS = Codecs()


def _decode_values(words: Words, starts: Ints, counts: Ints, to: Ints, out: Floats) -> None:
    for start, n, at in zip(starts.tolist(), counts.tolist(), to.tolist(), strict=True):
        out[at : at + n] = values_of_column(words, start, n)


def _decode_times(words: Words, starts: Ints, counts: Ints, to: Ints, out: Ints) -> None:
    for start, n, at in zip(starts.tolist(), counts.tolist(), to.tolist(), strict=True):
        out[at : at + n] = times_of_column(words, start, n)


def _copy_values(source: Any, starts: Ints, counts: Ints, to: Ints, out: Floats) -> None:
    for start, n, at in zip(starts.tolist(), counts.tolist(), to.tolist(), strict=True):
        out[at : at + n] = source[start : start + n]


def _copy_times(source: Any, base: int, starts: Ints, counts: Ints, to: Ints, out: Ints) -> None:
    for start, n, at in zip(starts.tolist(), counts.tolist(), to.tolist(), strict=True):
        np.add(source[start : start + n], np.int64(base), out=out[at : at + n], dtype=np.int64)


def _all_differ(_ts: Any, starts: Ints, _ends: Ints) -> tuple[Ints, Ints]:
    own = np.arange(len(starts), dtype=np.int64)
    return own, own


def _cannot_encode(offsets: Ints, items: Any) -> tuple[Words, Ints]:
    raise NotImplementedError("NumPy decodes only.")


PLAIN = Codec(
    _cannot_encode, _cannot_encode, _decode_times, _decode_values, _copy_times, _copy_values, _all_differ
)  # fmt: skip
"""NumPy, which reads while the compiled codec is not there."""


def reader() -> Codec:
    """The compiled codec where it is ready, else :data:`PLAIN`."""
    return CODECS.ready or PLAIN


# ------------------------------------------------------------------ NumPy


def times_of_column(words: Words, start: int, n: int) -> Ints:
    """One column of times, by NumPy: int64 [n]."""
    if n == 0:
        return np.empty(0, np.int64)
    head = _Head(words, start, n)
    return head.integers()


def values_of_column(words: Words, start: int, n: int) -> Floats:
    """One column of values, by NumPy: float64 [n]."""
    if n == 0:
        return np.empty(0)
    head = _Head(words, start, n)
    if head.kind == XOR:
        return head.floats()
    integers = head.integers()
    values = integers.astype(np.float64)
    if head.scale:
        values /= 10.0**head.scale
    at, bits = head.exceptions()
    values.view(np.uint64)[at] = bits
    return values


class _Head:
    """A column's head, and where its groups are."""

    def __init__(self, words: Words, start: int, n: int) -> None:
        head = int(words[start])
        self.kind, self.order = head & 15, head >> 4 & 15
        self.scale, self.shift, self.base_bytes = head >> 8 & 255, head >> 16 & 255, head >> 24 & 255
        self.exception_count = head >> 32
        self.words, self.n = words, n
        self.first = words[start + 1]
        at = start + 2
        self.seed = np.uint64(0)
        if self.kind == INTEGERS and self.order >= SECOND:
            self.seed = words[at]
            at += 1
        groups = -(-(n - 1) // GROUP)
        size = groups * (2 if self.kind == XOR else 1 + self.base_bytes)
        heads = np.ascontiguousarray(words[at : at + -(-size // 8)]).astype("<u8").view(np.uint8)
        self.widths = heads[:groups].astype(np.int64)
        self.rest = heads[groups:size]
        at += -(-size // 8)
        counts = np.minimum(GROUP, n - 1 - GROUP * np.arange(groups))
        sizes = -(-counts * self.widths // 64)
        self.group_at = at + np.cumsum(sizes) - sizes
        self.end = at + int(sizes.sum())

    def _packed(self) -> Words:
        """The packed items of all groups: uint64 [n - 1]."""
        place = np.arange(self.n - 1)
        group, within = place // GROUP, place % GROUP
        width = self.widths[group].astype(np.uint64)
        bit = within.astype(np.uint64) * width
        word = self.group_at[group] + (bit >> np.uint64(6)).astype(np.int64)
        shift = bit & np.uint64(63)
        last = len(self.words) - 1
        low = self.words[np.minimum(word, last)] >> shift
        high = (self.words[np.minimum(word + 1, last)] << np.uint64(1)) << (np.uint64(63) - shift)
        mask = np.where(width == 64, ~np.uint64(0), (np.uint64(1) << (width & np.uint64(63))) - np.uint64(1))
        straddles = shift + width > np.uint64(64)
        return np.asarray((low | np.where(straddles, high, np.uint64(0))) & mask)

    def integers(self) -> Ints:
        n = self.n
        out = np.zeros(n, np.uint64)
        if n > 1:
            groups = len(self.widths)
            bases = np.zeros(groups, np.uint64)
            for byte in range(self.base_bytes):
                bases |= self.rest[byte :: self.base_bytes].astype(np.uint64) << np.uint64(8 * byte)
            bases = (bases >> np.uint64(1)) ^ (~(bases & np.uint64(1)) + np.uint64(1))
            item = self._packed() + np.repeat(bases, GROUP)[: n - 1]
            if self.order == LINEAR:
                item = item + np.arange(1, n, dtype=np.uint64) * self.seed
            if self.order == SECOND:
                item = np.cumsum(item, dtype=np.uint64) + self.seed
            if self.order in (FIRST, SECOND):
                item = np.cumsum(item, dtype=np.uint64)
            out[1:] = item << np.uint64(self.shift)
        return np.asarray((out + self.first).view(np.int64))

    def floats(self) -> Floats:
        out = np.empty(self.n, np.uint64)
        out[0] = self.first
        zeros = np.repeat(self.rest.astype(np.uint64), GROUP)[: self.n - 1]
        out[1:] = self._packed() << zeros
        return np.bitwise_xor.accumulate(out).view(np.float64)

    def exceptions(self) -> tuple[Any, Words]:
        pairs = self.words[self.end : self.end + 2 * self.exception_count]
        return pairs[0::2].astype(np.int64), pairs[1::2]
