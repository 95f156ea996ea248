"""Points whose label sets are known: their times and values are read with NumPy, all of a request at once.

Exporters write a point's fields in the order of their numbers, so times, values and counts lie at fixed places before
the attributes. A point that is written otherwise is not taken here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aiops.core.series import Labels
from aiops.ingest.otlp_batch import Batch

OwnerT = TypeVar("OwnerT")
NANOS = 1_000_000
FIELD = 9
"""Bytes of a field of fixed width: a tag and eight bytes."""
NUMBER_HEADS = (3 * FIELD, 2 * FIELD)
"""Bytes before a number point's attributes: (start,) time, value."""
START, TIME, DOUBLE, COUNT, SUM, INT, BUCKETS, MIN, MAX = (0x11, 0x19, 0x21, 0x21, 0x29, 0x31, 0x32, 0x59, 0x61)
TIMELESS = "a point has no time"


@dataclass(frozen=True, slots=True)
class HistogramSeries:
    """The series of one classic histogram: its buckets with +Inf last, the count, and the sum where there is one."""

    labels: tuple[Labels, ...]
    names: tuple[str, ...]
    bounds: tuple[float, ...]

    def bucket(self, value: float) -> Labels:
        """The bucket that a value falls into."""
        return self.labels[int(np.searchsorted(self.bounds, value))]


class Pending:
    """Points of one request by the length of their heads; :meth:`flush` adds their samples to the batch."""

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[list[bytes], list[Labels], list[int]]] = {}
        self._histograms: dict[int, tuple[list[bytes], list[HistogramSeries], list[int]]] = {}

    def numbers(self, head: int, points: Sequence[bytes], series: Sequence[Labels], resource: int) -> None:
        """Take points that passed :func:`is_number`."""
        heads, labels, resources = self._numbers.setdefault(head, ([], [], []))
        heads += [raw[:head] for raw in points]
        labels += series
        resources += [resource] * len(points)

    def histogram(self, head: int, raw: bytes, series: HistogramSeries, resource: int) -> None:
        """Take a point that :func:`split_histogram` could split."""
        heads, owners, resources = self._histograms.setdefault(head, ([], [], []))
        heads.append(raw[:head])
        owners.append(series)
        resources.append(resource)

    def flush(self, batch: Batch) -> None:
        for head, (heads, labels, resources) in self._numbers.items():
            rows = _rows(heads, head)
            ts = millis(rows, head - 2 * FIELD)
            batch.add(*_kept(_timed(batch, ts, resources), labels, ts, number_values(rows)))
        for head, (heads, owners, resources) in self._histograms.items():
            rows = _rows(heads, head)
            ts = millis(rows, FIELD)
            keep = _timed(batch, ts, resources)
            own, ts, values = _kept(keep, owners, ts, histogram_values(rows, len(owners[0].bounds) + 1))
            labels_of = list(chain.from_iterable([s.labels for s in own]))
            batch.add(labels_of, np.repeat(ts, values.shape[1]), values.ravel())
        self._numbers.clear()
        self._histograms.clear()


def is_number(raw: bytes, head: int) -> bool:
    """Whether a point begins with (start,) time and value and has bytes enough for them."""
    if len(raw) < head or raw[head - 2 * FIELD] != TIME or raw[head - FIELD] not in (DOUBLE, INT):
        return False
    return head == 2 * FIELD or raw[0] == START


def split_histogram(raw: bytes) -> tuple[int, int]:
    """Where a point's counts end and where its minimum begins: (start, time, count, sum, buckets | … | min, max).

    (0, 0) for a point of another form.
    """
    if len(raw) < 4 * FIELD + 3 or not (
        raw[0] == START and raw[FIELD] == TIME and raw[2 * FIELD] == COUNT
        and raw[3 * FIELD] == SUM and raw[4 * FIELD] == BUCKETS
    ):  # fmt: skip
        return 0, 0
    size, at = raw[4 * FIELD + 1], 4 * FIELD + 2
    if size >= 0x80:
        size, at = (size & 0x7F) | raw[at] << 7, at + 1
        if size >= 0x4000:
            return 0, 0
    head = at + size
    with_range = len(raw) >= head + 2 * FIELD and raw[-2 * FIELD] == MIN and raw[-FIELD] == MAX
    return head, len(raw) - 2 * FIELD if with_range else len(raw)


def number_values(rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Values at the end of number points' heads."""
    bits = rows[:, -8:].copy()
    as_int = bits.view("<i8")[:, 0].astype(np.float64)
    return np.where(rows[:, -FIELD] == INT, as_int, bits.view("<f8")[:, 0])


def histogram_values(rows: NDArray[np.uint8], buckets: int) -> NDArray[np.float64]:
    """Cumulative buckets, count and sum, [points, buckets + 2]."""
    values = np.empty((len(rows), buckets + 2))
    values[:, :buckets] = np.cumsum(rows[:, rows.shape[1] - 8 * buckets :].copy().view("<u8"), axis=1)
    values[:, buckets - 1] = values[:, buckets] = _field(rows, 2 * FIELD, "<u8").astype(np.float64)
    values[:, buckets + 1] = _field(rows, 3 * FIELD, "<f8")
    return values


def millis(rows: NDArray[np.uint8], at: int) -> NDArray[np.int64]:
    """Nanoseconds behind the tag at ``at`` of every row, in ms."""
    return np.asarray((_field(rows, at, "<u8") // NANOS).astype(np.int64))


def _field(rows: NDArray[np.uint8], at: int, kind: str) -> NDArray[np.generic]:
    return np.asarray(rows[:, at + 1 : at + FIELD].copy().view(kind)[:, 0])


def _rows(heads: Sequence[bytes], width: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(heads), np.uint8).reshape(-1, width)


def _timed(batch: Batch, ts: NDArray[np.int64], resources: Sequence[int]) -> NDArray[np.bool_] | None:
    """Tell the batch the times; which points have one, ``None`` where all do."""
    keep = ts > 0
    if keep.all():
        batch.saw_all(np.array(resources), ts)
        return None
    batch.rejections.add(TIMELESS, int(np.count_nonzero(~keep)))
    batch.saw_all(np.array(resources)[keep], ts[keep])
    return np.asarray(keep)


def _kept(
    keep: NDArray[np.bool_] | None, series: Sequence[OwnerT], ts: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[Sequence[OwnerT], NDArray[np.int64], NDArray[np.float64]]:
    return (series, ts, values) if keep is None else (list(compress(series, keep)), ts[keep], values[keep])
