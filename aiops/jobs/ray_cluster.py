"""Work as tasks of a Ray cluster; its nodes need this package and its plug-ins installed."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from aiops.core.errors import AiopsError, ConfigError, TransientError
from aiops.jobs.compute import D, Data, Done, I, R

POLL_S = 0.25
AHEAD = 2
"""Items sent ahead for each processor of the cluster."""
TASK_RETRIES = 2
"""Times that Ray does a task again whose node died."""


class RayCluster:
    """Connects on first use, and stays connected.

    Args:
        address: of the head, as ``ray.init`` takes it; empty finds a cluster on this machine, or starts one.

    Raises:
        ConfigError: the extra ``ray`` is not installed.
    """

    name = "ray"
    shares_disk = False

    def __init__(self, address: str = "") -> None:
        if find_spec("ray") is None:
            raise ConfigError(
                "models.training.executor is 'ray', which is not installed.", hint="Install aiops-assistant[ray]."
            )
        self._address = address
        self._lock = threading.Lock()
        self._ray: Any = None

    def run(
        self, work: Callable[[D, I], R], data: Data[D], items: Sequence[I], check: Callable[[], None]
    ) -> Iterator[Done]:
        ray = self._connected()
        pending: dict[Any, int] = {}
        try:
            task = ray.remote(num_cpus=1, max_retries=TASK_RETRIES)(_work)
            held = ray.put(data.load())
            left = iter(enumerate(items))
            while True:
                check()
                most = AHEAD * max(int(ray.cluster_resources().get("CPU", 1)), 1)
                for number, item in itertools.islice(left, max(most - len(pending), 0)):
                    pending[task.remote(work, held, item)] = number
                if not pending:
                    break
                ready, _ = ray.wait(list(pending), timeout=POLL_S)
                for one in ready:
                    value, cpu_s = ray.get(one)
                    yield Done(pending.pop(one), value, cpu_s)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AiopsError):
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            raise TransientError(f"The Ray cluster failed: {type(error).__name__}.") from error
        finally:
            for one in pending:
                ray.cancel(one, force=True)

    def close(self) -> None:
        with self._lock:
            if self._ray is not None:
                self._ray.shutdown()
                self._ray = None

    def _connected(self) -> Any:
        with self._lock:
            if self._ray is None:
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                import ray

                try:
                    ray.init(
                        self._address or None, ignore_reinit_error=True, include_dashboard=False, log_to_driver=False
                    )
                except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                    raise TransientError(f"No Ray cluster answers at {self._address or 'this machine'}.") from error
                self._ray = ray
            return self._ray


def _work(work: Callable[[Any, Any], Any], data: Any, item: Any) -> tuple[Any, float]:
    began = time.process_time()
    value = work(data, item)
    return value, time.process_time() - began
