"""Where the heavy part of a job runs: in its own thread, in worker processes, or on a Ray cluster.

The work is a module-level function of some data and an item, so that it can be sent by name. The job's own thread
takes the results in the order in which they come, and is asked meanwhile whether to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

D = TypeVar("D")
I = TypeVar("I")  # noqa: E741 - item
R = TypeVar("R")
D_co = TypeVar("D_co", covariant=True)


class Data(Protocol[D_co]):
    """What all items share, by where to find it. Hashable; it travels to other processes in place of its content."""

    def load(self) -> D_co: ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Held:
    """Data that are at hand, for work in the same process."""

    value: Any

    def load(self) -> Any:
        return self.value


@dataclass(frozen=True, slots=True)
class Done:
    """The result of the item ``number``, and the processor seconds that it took."""

    number: int
    value: Any
    cpu_s: float


class Compute(Protocol):
    """Attributes:
    name: as ``models.training.executor`` names it.
    shares_disk: whether the work can read the files of this machine.
    """

    name: str
    shares_disk: bool

    def run(
        self, work: Callable[[D, I], R], data: Data[D], items: Sequence[I], check: Callable[[], None]
    ) -> Iterator[Done]:
        """Do ``work(data.load(), item)`` for each item; results come as they are ready.

        Args:
            check: called now and then; what it raises ends the work at once.

        Raises:
            TransientError: a worker died, or the cluster is away.
        """
        ...

    def close(self) -> None:
        """End idle workers."""
        ...


class InThread:
    """One item after the other, in the thread that asks."""

    name = "thread"
    shares_disk = True

    def run(
        self, work: Callable[[D, I], R], data: Data[D], items: Sequence[I], check: Callable[[], None]
    ) -> Iterator[Done]:
        loaded = data.load()
        for number, item in enumerate(items):
            check()
            began = time.thread_time()
            value = work(loaded, item)
            yield Done(number, value, time.thread_time() - began)

    def close(self) -> None:
        return
