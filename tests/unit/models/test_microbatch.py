from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from aiops.core.errors import LimitExceeded, TransientError
from aiops.models.microbatch import MicroBatcher


class Work:
    """Doubles numbers; each call waits for the gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.gate.wait(10)
        self.calls.append(list(numbers))
        if -1 in numbers:
            raise ValueError("unlucky")
        return [2 * n for n in numbers]


@contextmanager
def batcher(work: Work, **chosen: Any) -> Iterator[MicroBatcher[int, int]]:
    defaults = {
        "window_s": 0.01,
        "most_size": 100,
        "most_waiting": 100,
        "most_weight": 1000,
        "minimum": 1,
        "maximum": 1,
        "objective_s": 0.02,
        "idle_s": 0.1,
    }
    made = MicroBatcher(work, **{**defaults, **chosen})
    made.start()
    try:
        yield made
    finally:
        work.gate.set()
        made.stop()


def put(batches: MicroBatcher[int, int], number: int, key: str = "a", size: int = 1, in_s: float = 10.0) -> Future[int]:
    return batches.submit(number, key, size, size, time.monotonic() + in_s)


def until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_each_gets_its_own_result_and_only_like_works_are_joined() -> None:
    work = Work()
    with batcher(work, window_s=0.1) as batches:
        futures = [put(batches, n, "odd" if n % 2 else "even") for n in range(10)]
        assert [f.result(10) for f in futures] == [2 * n for n in range(10)]
        assert len(work.calls) == 2 and all(len({n % 2 for n in call}) == 1 for call in work.calls)
        assert batches.load().batch == 5.0


def test_a_call_is_no_larger_than_its_bound_and_a_larger_item_goes_alone() -> None:
    work = Work()
    with batcher(work, window_s=0.1, most_size=4) as batches:
        futures = [put(batches, n) for n in range(10)] + [put(batches, 100, size=9)]
        assert [f.result(10) for f in futures] == [*(2 * n for n in range(10)), 200]
        assert max(len(call) for call in work.calls) <= 4 and [100] in work.calls


def test_an_error_reaches_those_who_were_in_the_call() -> None:
    work = Work()
    with batcher(work) as batches:
        with pytest.raises(ValueError, match="unlucky"):
            put(batches, -1).result(10)
        assert put(batches, 2).result(10) == 4


def test_what_is_late_is_not_begun() -> None:
    work = Work()
    work.gate.clear()
    with batcher(work, window_s=0.0) as batches:
        first = put(batches, 1)
        until(lambda: batches.load().waiting == 0)
        late, gone = put(batches, 2, in_s=0.01), put(batches, 3)
        assert gone.cancel()
        time.sleep(0.05)
        work.gate.set()
        assert first.result(10) == 2
        with pytest.raises(TransientError, match="no time"):
            late.result(10)
        assert put(batches, 4).result(10) == 8
        assert batches.load().late == 1 and [2] not in work.calls and [3] not in work.calls


def test_a_full_queue_refuses_by_number_and_by_weight() -> None:
    work = Work()
    work.gate.clear()
    with batcher(work, window_s=0.0, most_waiting=3, most_weight=10) as batches:
        futures = [put(batches, 0)]
        until(lambda: batches.load().waiting == 0)
        futures += [put(batches, 1, size=8)]
        with pytest.raises(LimitExceeded) as heavy:
            put(batches, 2, size=8)
        assert heavy.value.kind == "rate" and (heavy.value.retry_after_s or 0) >= 1
        futures += [put(batches, 3), put(batches, 4)]
        with pytest.raises(LimitExceeded):
            put(batches, 5)
        work.gate.set()
        assert [f.result(10) for f in futures] == [0, 2, 6, 8]
        assert batches.load().shed == 2


def test_workers_grow_while_items_wait_too_long_and_shrink_when_idle() -> None:
    work = Work()
    work.gate.clear()
    with batcher(work, window_s=0.0, minimum=1, maximum=3, objective_s=0.01) as batches:
        futures = []
        for number in range(200):
            futures.append(put(batches, number, key=str(number)))
            if batches.load().workers == 3:
                break
            time.sleep(0.02)
        assert batches.load().workers == 3 and batches.load().grown == 2
        work.gate.set()
        assert [f.result(10) for f in futures] == [2 * n for n in range(len(futures))]
        until(lambda: batches.load().workers == 1)
        assert batches.load().shrunk == 2
        assert put(batches, 5).result(10) == 10


def test_a_stop_refuses_what_waits() -> None:
    work = Work()
    work.gate.clear()
    with batcher(work, window_s=0.0) as batches:
        first = put(batches, 1)
        until(lambda: batches.load().waiting == 0)
        waiting = put(batches, 2)
        batches.stop()
        with pytest.raises(TransientError, match="stopping"):
            waiting.result(10)
        with pytest.raises(TransientError, match="stopping"):
            put(batches, 3)
        work.gate.set()
        assert first.result(10) == 2
        until(lambda: batches.load().workers == 0)
