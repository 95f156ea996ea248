from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from aiops.core.errors import InvalidInput, TransientError
from aiops.jobs.compute import Compute, Held, InThread
from aiops.jobs.processes import THREAD_VARIABLES, Processes


@dataclass(frozen=True)
class Numbers:
    count: int

    def load(self) -> list[int]:
        return list(range(self.count))


def add(data: list[int], item: int) -> int:
    return sum(data) + item


def describe(data: list[int], item: int) -> tuple[int, int, str]:
    return os.getpid(), os.nice(0), os.environ[THREAD_VARIABLES[0]]


def wait(data: list[int], item: float) -> int:
    time.sleep(item)
    return os.getpid()


def refuse(data: list[int], item: int) -> int:
    raise InvalidInput("no such thing")


def die(data: list[int], item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def never() -> None:
    return


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    found = Processes(niceness=5)
    yield found
    found.close()


@pytest.fixture(params=["thread", "process"])
def compute(request: pytest.FixtureRequest, processes: Processes) -> Compute:
    return InThread() if request.param == "thread" else processes


def test_the_results_are_those_of_the_items(compute: Compute) -> None:
    found = {one.number: one.value for one in compute.run(add, Numbers(4), [10, 20, 30], never)}
    assert found == {0: 16, 1: 26, 2: 36}


def test_an_error_of_the_work_comes_through(compute: Compute) -> None:
    with pytest.raises(InvalidInput, match="no such thing"):
        list(compute.run(refuse, Numbers(1), [1], never))


def test_a_worker_is_another_process_of_low_priority_with_few_threads(processes: Processes) -> None:
    [one], [other] = (processes.run(describe, Numbers(1), [0], never) for _ in range(2))
    first, second = one.value, other.value
    assert first == second
    assert first[0] != os.getpid()
    assert first[1] == os.nice(0) + 5
    assert first[2] == "1"


def test_a_killed_worker_is_a_failure_that_may_pass(processes: Processes) -> None:
    with pytest.raises(TransientError, match="ended before its work was done"):
        list(processes.run(die, Held(()), [1], never))
    assert [one.value for one in processes.run(add, Numbers(2), [1], never)] == [2]


def test_what_the_check_raises_ends_the_work_and_its_process(processes: Processes) -> None:
    [first] = processes.run(wait, Held(()), [0.0], never)
    pid = first.value
    asked: list[int] = []

    def stop() -> None:
        asked.append(1)
        if len(asked) > 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(processes.run(wait, Held(()), [3600.0], stop))
    eventually(lambda: pid not in psutil.pids() or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to hold")
