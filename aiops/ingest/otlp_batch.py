"""Gathers what one OTLP metrics request brings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from aiops.core.ports import Collected
from aiops.core.series import Exemplar, Labels, MetricMetadata, NativeHistogram, SampleBlock
from aiops.ingest.bodies import Rejections


class Batch:
    """Samples, histograms, exemplars and metadata of a request, and what was left out.

    Attributes:
        resource: the number of the resource at hand.
    """

    def __init__(self) -> None:
        self.rejections = Rejections()
        self.metadata: dict[str, MetricMetadata] = {}
        self.exemplars: list[Exemplar] = []
        self.histograms: list[NativeHistogram] = []
        self.resource = 0
        self._hulls: dict[int, tuple[int, int]] = {}
        self._labels: list[Labels] = []
        self._ts: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.float64]] = []

    def saw(self, first_ms: int, last_ms: int, resource: int | None = None) -> None:
        """The resource, by default the one at hand, has points from one time to another."""
        number = self.resource if resource is None else resource
        held = self._hulls.get(number, (first_ms, last_ms))
        self._hulls[number] = (min(held[0], first_ms), max(held[1], last_ms))

    def saw_all(self, resources: NDArray[np.int64], ts: NDArray[np.int64]) -> None:
        """Times of points by the resource that each belongs to; resources in order."""
        if not len(ts):
            return
        starts = np.flatnonzero(np.concatenate([[True], resources[1:] != resources[:-1]]))
        lows, highs = np.minimum.reduceat(ts, starts), np.maximum.reduceat(ts, starts)
        for number, low, high in zip(resources[starts].tolist(), lows.tolist(), highs.tolist(), strict=True):
            self.saw(low, high, number)

    def hull(self, resource: int) -> tuple[int, int] | None:
        """The first and last time of a resource's points, in ms."""
        return self._hulls.get(resource)

    def add(self, labels: Sequence[Labels], ts: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """One sample of each of the series; one may occur several times."""
        if len(labels):
            self._labels.extend(labels)
            self._ts.append(ts)
            self._values.append(values)

    def add_at(self, labels: Sequence[Labels], ts_ms: int, values: NDArray[np.float64]) -> None:
        """One sample of each of the series, all at one time."""
        self.add(labels, np.full(len(labels), ts_ms, np.int64), values)

    def add_series(self, labels: Labels, ts: Iterable[int], values: Iterable[float]) -> None:
        """Several samples of one series."""
        times = np.array(list(ts), np.int64)
        self.add([labels] * len(times), times, np.array(list(values), np.float64))

    def collected(self) -> Collected:
        samples = SampleBlock.empty()
        if self._labels:
            offsets = np.arange(len(self._labels) + 1, dtype=np.int64)
            samples = SampleBlock(tuple(self._labels), offsets, np.concatenate(self._ts), np.concatenate(self._values))
        return Collected(
            samples=samples,
            metadata=tuple(self.metadata.values()),
            exemplars=tuple(self.exemplars),
            histograms=tuple(self.histograms),
        )
