"""Work in processes of low priority, so that it takes neither the interpreter nor the processor from the service."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from aiops.core.errors import TransientError
from aiops.jobs.compute import D, Data, Done, I, R

POLL_S = 0.25
AHEAD = 2
"""Items sent ahead for each process; the others are not made before, so that large ones need not all be held."""
IDLE_S = 60.0
"""A pool that nobody used for so long is ended, and with it the memory of its libraries."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Processes:
    """Spawned workers. Each run has a pool to itself, so that one that is cancelled can be killed at once; a pool that
    finished its run waits for the next, since starting one takes seconds.

    Args:
        count: processes of one run.
        threads: of the numerical libraries in each.
        niceness: 0 to 19.
    """

    name = "process"
    shares_disk = True

    def __init__(self, count: int = 1, threads: int = 1, niceness: int = 15) -> None:
        self._count, self._threads, self._niceness = count, threads, niceness
        self._idle: list[_Pool] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def run(
        self, work: Callable[[D, I], R], data: Data[D], items: Sequence[I], check: Callable[[], None]
    ) -> Iterator[Done]:
        pool, whole = self._take(), False
        try:
            numbers: dict[Future[Any], int] = {}
            left = iter(enumerate(items))
            while True:
                check()
                for number, item in itertools.islice(left, AHEAD * self._count - len(numbers)):
                    numbers[pool.executor.submit(_work, work, data, item)] = number
                if not numbers:
                    break
                done, _ = wait(numbers, timeout=POLL_S, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda one: one.exception() is not None):  # keep what was done
                    value, cpu_s = future.result()
                    yield Done(numbers.pop(future), value, cpu_s)
            whole = True
        except BrokenProcessPool as error:
            raise TransientError(
                "A worker process ended before its work was done.", hint="It was killed, or the memory ran out."
            ) from error
        finally:
            if whole:
                self._keep(pool)
            else:
                pool.kill()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            if self._timer is not None:
                self._timer.cancel()
        for pool in idle:
            pool.kill()

    def _take(self) -> _Pool:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Pool(self._count, self._threads, self._niceness)

    def _keep(self, pool: _Pool) -> None:
        with self._lock:
            self._idle.append(pool)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(IDLE_S, self.close)
            self._timer.daemon = True
            self._timer.start()


class _Pool:
    """A pool that can be killed."""

    def __init__(self, count: int, threads: int, niceness: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pids = context.SimpleQueue()
        self.executor = ProcessPoolExecutor(count, context, _prepare, (self._pids, threads, niceness, os.getpid()))

    def kill(self) -> None:
        """End the workers at once, with what they do."""
        self.executor.shutdown(wait=False, cancel_futures=True)
        while not self._pids.empty():
            try:
                os.kill(self._pids.get(), signal.SIGKILL)
            except ProcessLookupError:
                continue


def _prepare(pids: Any, threads: int, niceness: int, parent: int) -> None:
    """In a new worker, before any numerical library is loaded."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    os.nice(niceness)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service is told, and ends its workers
    pids.put(os.getpid())
    threading.Thread(target=_follow, args=(parent,), name="parent-watch", daemon=True).start()


def _follow(parent: int) -> None:
    """A worker does not outlive a service that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


@functools.lru_cache(maxsize=1)
def _loaded(data: Data[Any]) -> Any:
    return data.load()


_told_s = 0.0


def _work(work: Callable[[Any, Any], Any], data: Data[Any], item: Any) -> tuple[Any, float]:
    """The result, and what this process has used since the last one: its start and its imports count, too."""
    global _told_s
    value = work(_loaded(data), item)
    before, _told_s = _told_s, time.process_time()
    return value, _told_s - before
