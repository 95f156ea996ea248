"""Work that is gathered for a few milliseconds and done in one call, by workers that grow and shrink with the wait.

The queue is bounded in items and in weight: what exceeds it is refused at once. An item has a deadline, after which
it is not begun any more. A worker takes the oldest item and every other that may be done with it. Another worker
starts where an item waited longer than the objective; one above the minimum ends when it was idle for long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from aiops.core.errors import LimitExceeded, TransientError

log = logging.getLogger(__name__)

WorkT = TypeVar("WorkT")
ResultT = TypeVar("ResultT")
COOL_S = 0.25
"""Between two starts of workers, so that one has time to help before the next is started."""
_WAITS = 1024


@dataclass(frozen=True, slots=True)
class Load:
    """How the workers are: how many run, the bounds, what waits, and what was done since the start.

    ``wait_p50_ms`` and ``wait_p99_ms`` are of the latest items; ``batch`` the mean number of items a call.
    """

    workers: int
    minimum: int
    maximum: int
    objective_ms: float
    waiting: int
    done: int
    calls: int
    shed: int
    late: int
    grown: int
    shrunk: int
    wait_p50_ms: float
    wait_p99_ms: float

    @property
    def batch(self) -> float:
        return self.done / self.calls if self.calls else 0.0


@dataclass(slots=True)
class _Item(Generic[WorkT, ResultT]):
    work: WorkT
    key: Hashable
    size: int
    weight: int
    since: float
    deadline: float
    future: Future[ResultT] = field(default_factory=Future)


class MicroBatcher(Generic[WorkT, ResultT]):
    """Thread-safe.

    Args:
        run: does works of one key together; gives a result for each, in their order.
        window_s: how long an item waits for others.
        most_size: sizes of one call together, at most; a larger item goes alone.
        most_waiting, most_weight: bounds of the queue.
        objective_s: the wait beyond which another worker starts.
    """

    def __init__(
        self,
        run: Callable[[Sequence[WorkT]], Sequence[ResultT]],
        *,
        window_s: float,
        most_size: int,
        most_waiting: int,
        most_weight: int,
        minimum: int,
        maximum: int,
        objective_s: float,
        idle_s: float,
        name: str = "scoring",
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._window_s, self._most_size = window_s, most_size
        self._most_waiting, self._most_weight = most_waiting, most_weight
        self._minimum, self._maximum = minimum, max(minimum, maximum)
        self._objective_s, self._idle_s = objective_s, idle_s
        self._name = name
        self._now = stopwatch
        self._queue: deque[_Item[WorkT, ResultT]] = deque()
        self._weight = 0
        self._ready = threading.Condition()
        self._stopping = False
        self._workers = self._idle = 0
        self._grown_at = -1e9
        self._done = self._calls = self._shed = self._late = self._grown = self._shrunk = 0
        self._waits: deque[float] = deque(maxlen=_WAITS)

    def start(self) -> None:
        """Start the minimum of workers."""
        with self._ready:
            while self._workers < self._minimum:
                self._spawn()

    def stop(self) -> None:
        """Refuse what waits and end the workers."""
        with self._ready:
            self._stopping = True
            left = list(self._queue)
            self._queue.clear()
            self._ready.notify_all()
        for item in left:
            _refuse(item, "Scoring is stopping.")

    def submit(self, work: WorkT, key: Hashable, size: int, weight: int, deadline: float) -> Future[ResultT]:
        """Queue a work; works of equal keys may be done together.

        Args:
            size: what counts against ``most_size``.
            weight: what counts against ``most_weight``.
            deadline: on the stopwatch.

        Raises:
            LimitExceeded: the queue is full (kind ``rate``), with the time after which to try again.
        """
        with self._ready:
            if self._stopping:
                raise TransientError("Scoring is stopping.", retry_after_s=1)
            full = len(self._queue) >= self._most_waiting
            if full or (self._queue and self._weight + weight > self._most_weight):
                self._shed += 1
                raise LimitExceeded(
                    f"{len(self._queue)} requests for scores wait already.",
                    hint="Try again later, or send fewer series at once.",
                    retry_after_s=max(1.0, self._p(0.5)),
                )
            item: _Item[WorkT, ResultT] = _Item(work, key, size, weight, self._now(), deadline)
            if self._queue:
                self._grow(item.since - self._queue[0].since)
            self._queue.append(item)
            self._weight += weight
            self._ready.notify()
            return item.future

    def load(self) -> Load:
        with self._ready:
            return Load(
                workers=self._workers,
                minimum=self._minimum,
                maximum=self._maximum,
                objective_ms=self._objective_s * 1000,
                waiting=len(self._queue),
                done=self._done,
                calls=self._calls,
                shed=self._shed,
                late=self._late,
                grown=self._grown,
                shrunk=self._shrunk,
                wait_p50_ms=self._p(0.5) * 1000,
                wait_p99_ms=self._p(0.99) * 1000,
            )

    # ---------------------------------------------------------------- workers

    def _p(self, share: float) -> float:
        waits = sorted(self._waits)
        return waits[min(int(share * len(waits)), len(waits) - 1)] if waits else 0.0

    def _spawn(self) -> None:
        self._workers += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            items = self._take()
            if items is None:
                return
            self._do(items)

    def _take(self) -> list[_Item[WorkT, ResultT]] | None:
        """The next call's items; ``None`` where the worker is to end."""
        with self._ready:
            self._idle += 1
            try:
                while not self._queue:
                    heard = self._ready.wait(self._idle_s)
                    if self._stopping or (not heard and not self._queue and self._workers > self._minimum):
                        self._workers -= 1
                        self._shrunk += not self._stopping
                        return None
                self._gather()
                if self._stopping:
                    self._workers -= 1
                    return None
            finally:
                self._idle -= 1
            return self._pop()

    def _gather(self) -> None:
        """Wait until the oldest item has waited for the window, or a call is full."""
        while self._queue and not self._stopping:
            first = self._queue[0]
            left = first.since + self._window_s - self._now()
            if left <= 0 or sum(i.size for i in self._queue if i.key == first.key) >= self._most_size:
                return
            self._ready.wait(left)

    def _pop(self) -> list[_Item[WorkT, ResultT]]:
        taken: list[_Item[WorkT, ResultT]] = []
        left: deque[_Item[WorkT, ResultT]] = deque()
        size = 0
        now = self._now()
        for item in self._queue:
            if item.deadline <= now:
                self._late += 1
                self._weight -= item.weight
                _refuse(item, "There was no time to score this.")
            elif not taken or (item.key == taken[0].key and size + item.size <= self._most_size):
                taken.append(item)
                size += item.size
                self._weight -= item.weight
            else:
                left.append(item)
        self._queue = left
        if taken:
            self._grow(now - taken[0].since)
            self._waits.extend(now - item.since for item in taken)
            self._done += len(taken)
            self._calls += 1
        return taken

    def _grow(self, waited: float) -> None:
        """Another worker where an item waited too long for one."""
        now = self._now()
        late = waited - self._window_s > self._objective_s
        if late and not self._idle and self._workers < self._maximum and now - self._grown_at > COOL_S:
            self._grown_at = now
            self._grown += 1
            self._spawn()

    def _do(self, items: Sequence[_Item[WorkT, ResultT]]) -> None:
        wanted = [item for item in items if item.future.set_running_or_notify_cancel()]
        if not wanted:
            return
        try:
            results = self._run([item.work for item in wanted])
        except Exception as error:  # noqa: BLE001  (handed on to whoever asked)
            for item in wanted:
                item.future.set_exception(error)
            return
        for item, result in zip(wanted, results, strict=True):
            item.future.set_result(result)


def _refuse(item: _Item[WorkT, ResultT], why: str) -> None:
    if item.future.set_running_or_notify_cancel():
        item.future.set_exception(TransientError(why, retry_after_s=1))
