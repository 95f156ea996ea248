"""A table from the label bytes of remote write to series numbers: whole requests are read without an object a series.

Keys are compared byte for byte, so a collision of hashes cannot mix series up. The table forgets everything when it
grows above its budget, or when the index has given up series.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

BUDGET_BYTES = 256 << 20
_FIRST_BYTES, _FIRST_ENTRIES = 1 << 20, 1 << 13
_SPARE = 64
"""Room for series and metadata that the size of a body does not account for."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a body holds. Views into scratch arrays: to be used before the next body is read.

    Attributes:
        sid: int64; negative where the series is row ``-1 - sid`` of ``unknown``.
        ts, values: ms, float64.
        unknown, odd, metadata: [k, 2] places in the body, as ``write_kernels.decode`` has them.
    """

    sid: NDArray[np.int64]
    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    unknown: NDArray[np.int64]
    odd: NDArray[np.int64]
    metadata: NDArray[np.int64]


class SeriesTable:
    """One thread at a time reads and learns. Usable once :meth:`warm` has loaded the kernels."""

    def __init__(self, budget: int = BUDGET_BYTES) -> None:
        self._budget = budget
        self._seed = np.int64(secrets.randbits(62))
        self._kernels: Any = None
        self._warming: threading.Thread | None = None
        self._counts = np.zeros(8, np.int64)
        self._room = 0
        self._last = -1
        self.clear()

    @property
    def ready(self) -> bool:
        return self._kernels is not None

    def warm(self, *, wait: bool = False) -> None:
        """Compile (or load from disk) the kernels in a background thread."""
        if self._warming is None:
            self._warming = threading.Thread(target=self._load, name="write-kernels", daemon=True)
            self._warming.start()
        if wait:
            self._warming.join()

    def _load(self) -> None:
        try:
            from aiops.ingest import write_kernels

            started = time.monotonic()
            trial = SeriesTable()
            trial._kernels = write_kernels
            trial.parse(b"\x0a\x04\x0a\x02\x0a\x00")
            trial.learn(b"ab", np.array([[0, 1], [1, 2]]), np.array([0, 1]))
            trial._grow_entries(2 * len(trial._places))
            trial.parse(b"")
            log.info("Remote-write kernels are ready after %.1f s.", time.monotonic() - started)
            self._kernels = write_kernels
        except Exception:
            log.exception("The remote-write kernels cannot be compiled; bodies are decoded more slowly.")

    def clear(self) -> None:
        self._entries = self._used = 0
        self._last = -1
        self._arena = np.empty(_FIRST_BYTES, np.uint8)
        self._places = np.empty(_FIRST_ENTRIES, np.int64)
        self._lengths = np.empty(_FIRST_ENTRIES, np.int32)
        self._owners = np.empty(_FIRST_ENTRIES, np.int32)
        self._following = np.full(_FIRST_ENTRIES, -1, np.int32)
        self._slots = np.full(2 * _FIRST_ENTRIES, -1, np.int32)

    def parse(self, body: bytes) -> Parsed | None:
        """Read a plain ``WriteRequest``; ``None`` where it is damaged or out of the ordinary."""
        data = np.frombuffer(body, np.uint8)
        self._make_room(len(data) // 4 + _SPARE)
        done = self._kernels.decode(
            data, self._last, self._seed, self._arena, self._places, self._lengths, self._owners, self._following,
            self._slots, self._sid, self._ts, self._bits, self._unknown, self._odd, self._metadata,
            self._counts,
        )  # fmt: skip
        if done != 0:
            return None
        samples, unknown, odd, metadata, self._last = self._counts[:5].tolist()
        return Parsed(
            self._sid[:samples],
            self._ts[:samples],
            self._bits[:samples].view(np.float64),
            self._unknown[:unknown],
            self._odd[:odd],
            self._metadata[:metadata],
        )

    def _make_room(self, samples: int) -> None:
        if samples > self._room:
            self._room = samples
            self._sid, self._ts = np.empty(samples, np.int64), np.empty(samples, np.int64)
            self._bits = np.empty(samples, np.uint64)
            self._unknown, self._odd = np.empty((samples, 2), np.int64), np.empty((samples, 2), np.int64)
            self._metadata = np.empty((samples, 2), np.int64)

    def learn(self, body: bytes, places: NDArray[np.int64], sids: NDArray[np.int64]) -> None:
        """Remember that the bytes ``[start, end)`` of the body are the labels of a series; negative ones are left."""
        sizes = places[:, 1] - places[:, 0]
        needed = self._used + int(sizes.sum())
        entries = self._entries + len(sizes)
        if needed + 40 * entries > self._budget:
            self.clear()
            needed, entries = int(sizes.sum()), len(sizes)
        if needed > len(self._arena):
            self._arena = _grown(self._arena, max(needed, 2 * len(self._arena)))
        if entries > len(self._places):
            self._grow_entries(max(entries, 2 * len(self._places)))
        data = np.frombuffer(body, np.uint8)
        self._entries, self._used = self._kernels.insert(
            data, np.ascontiguousarray(places[:, 0]), np.ascontiguousarray(sizes), sids, self._seed, self._arena,
            self._places, self._lengths, self._owners, self._following, self._slots, self._entries, self._used,
        )  # fmt: skip

    def _grow_entries(self, room: int) -> None:
        self._places, self._lengths = _grown(self._places, room), _grown(self._lengths, room)
        self._owners, self._following = _grown(self._owners, room), _grown(self._following, room)
        self._slots = np.full(1 << (2 * room - 1).bit_length(), -1, np.int32)
        self._kernels.rehash(self._seed, self._arena, self._places, self._lengths, self._slots, self._entries)


def _grown(array: NDArray[Any], room: int) -> NDArray[Any]:
    new = np.empty(room, array.dtype)
    new[: len(array)] = array
    return new
