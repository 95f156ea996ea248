"""Delta to cumulative: a running total for each stream of delta points.

Method: the OpenTelemetry data model (https://opentelemetry.io/docs/specs/otel/metrics/data-model/, "Sums:
Delta-to-Cumulative") with one writer a stream. A total goes on from what the store holds for the series, so that a
restart neither loses nor repeats anything; a stream that was silent for longer than ``idle_ms`` starts from zero,
which PromQL reads as a reset.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from aiops.core.ports import Clock
from aiops.core.series import Labels, is_stale

TotalT = TypeVar("TotalT")
FULL = "more delta streams than otlp.delta_max_streams"
FUTURE = "a delta point is too far in the future"
LATE = "a delta point is older than the last one of its stream"
OVERLAP = "a delta point's window overlaps the one before"


class LastSamples(Protocol):
    """Time (ms) and value of the last sample of each series of a metric since a time (ms)."""

    def __call__(self, name: str, since_ms: int) -> Mapping[Labels, tuple[int, float]]: ...


@dataclass(frozen=True, slots=True)
class Stream(Generic[TotalT]):
    """Where a stream stands: its last point (ms), that point's start and value, and the total with it."""

    at_ms: int
    start_ms: int
    last: TotalT
    total: TotalT


@dataclass(frozen=True, slots=True)
class Step(Generic[TotalT]):
    """What became of a delta point.

    Attributes:
        total: the running total with it; ``None`` where the point is left out.
        begun_ms: where the stream began from zero, the time of that zero; else 0.
        reason: why it is left out; empty for one that was there already.
    """

    total: TotalT | None = None
    begun_ms: int = 0
    reason: str = ""


class DeltaStreams:
    """Running totals of all streams. One request at a time: :meth:`commit` or :meth:`rollback` ends it.

    Memory is bounded by ``max_streams``; those that are idle make room. A point further ahead of the clock than
    ``future_ms`` is left out, since after it no other could follow.
    """

    def __init__(self, max_streams: int, idle_ms: int, future_ms: int, clock: Clock) -> None:
        self._max = max_streams
        self._idle_ms = idle_ms
        self._future_ms = future_ms
        self._clock = clock
        self._streams: dict[Hashable, Stream[object]] = {}
        self._before: dict[Hashable, Stream[object] | None] = {}
        self._swept_ms = 0

    def __len__(self) -> int:
        return len(self._streams)

    def add(
        self,
        key: Hashable,
        start_ms: int,
        at_ms: int,
        delta: TotalT,
        plus: Callable[[TotalT, TotalT], TotalT | None],
        recall: Callable[[], tuple[int, TotalT] | None],
    ) -> Step[TotalT]:
        """Add one point to its stream.

        Args:
            key: the stream; one key always bears totals of one type.
            start_ms: start of the point's window, 0 where it is not known.
            plus: the total after a delta; ``None`` where they do not fit, which begins the stream anew.
            recall: time and total that the store holds for a stream that is not in memory.
        """
        if at_ms > self._clock() + self._future_ms:
            return Step(reason=FUTURE)
        stream: Stream[TotalT] | None = self._streams.get(key)  # type: ignore[assignment]
        if stream is None:
            if len(self._streams) >= self._max and not self._make_room():
                return Step(reason=FULL)
            held = recall()
            if held is not None:
                stream = Stream(held[0], held[0], held[1], held[1])
                if at_ms <= stream.at_ms:
                    self._put(key, stream)
                    return Step()
        elif at_ms == stream.at_ms and start_ms == stream.start_ms and _equal(delta, stream.last):
            return Step()
        if stream is not None and at_ms <= stream.at_ms:
            return Step(reason=LATE)
        if stream is not None and 0 < start_ms < stream.at_ms:
            return Step(reason=OVERLAP)
        total = None
        if stream is not None and at_ms - stream.at_ms <= self._idle_ms:
            total = plus(stream.total, delta)
        begun = 0
        if total is None:
            total = delta
            begun = start_ms if 0 < start_ms < at_ms and (stream is None or start_ms > stream.at_ms) else 0
        self._put(key, Stream(at_ms, start_ms, delta, total))
        return Step(total, begun)

    def commit(self) -> None:
        """What was added is stored."""
        self._before.clear()

    def rollback(self) -> None:
        """What was added since the last :meth:`commit` was not stored: the sender will bring it again."""
        for key, stream in self._before.items():
            if stream is None:
                self._streams.pop(key, None)
            else:
                self._streams[key] = stream
        self._before.clear()

    def _put(self, key: Hashable, stream: Stream[TotalT]) -> None:
        self._before.setdefault(key, self._streams.get(key))
        self._streams[key] = stream  # type: ignore[assignment]

    def _make_room(self) -> bool:
        """Give up idle streams, looking for them no more often than a tenth of the time that makes one idle."""
        now_ms = self._clock()
        if now_ms - self._swept_ms < self._idle_ms // 10:
            return False
        self._swept_ms = now_ms
        idle = [key for key, stream in self._streams.items() if now_ms - stream.at_ms > self._idle_ms]
        for key in idle:
            self._before.setdefault(key, self._streams.pop(key))
        return bool(idle)


class Recall:
    """The last stored samples of metrics, each read once: a stream asks when it is first seen."""

    def __init__(self, last_samples: LastSamples | None, idle_ms: int) -> None:
        self._last_samples = last_samples
        self._idle_ms = idle_ms
        self._known: dict[str, tuple[int, Mapping[Labels, tuple[int, float]]]] = {}

    def values(self, series: tuple[tuple[str, Labels], ...], now_ms: int) -> tuple[int, NDArray[np.float64]] | None:
        """Time and values of (name, labels) pairs that were last stored together; ``None`` unless all were."""
        found = []
        for name, labels in series:
            got = self._of(name, now_ms).get(labels)
            if got is None:
                return None
            found.append(got)
        values = np.array([value for _, value in found])
        if len({at for at, _ in found}) != 1 or bool(is_stale(values).any()):
            return None
        return found[0][0], values

    def _of(self, name: str, now_ms: int) -> Mapping[Labels, tuple[int, float]]:
        """What was held of a metric when it was first asked for; nothing once that is too old to go on from."""
        if name not in self._known:
            read = self._last_samples
            self._known[name] = now_ms, read(name, now_ms - self._idle_ms) if read else {}
        read_ms, held = self._known[name]
        if held and now_ms - read_ms > self._idle_ms:
            self._known[name] = read_ms, {}
        return self._known[name][1]


def _equal(a: object, b: object) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else bool(a == b)
