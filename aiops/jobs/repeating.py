"""Work that is done again and again on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from aiops.core.errors import AiopsError

log = logging.getLogger(__name__)


class Repeating:
    """Runs ``work`` every ``interval_s``; a failure is logged, the same one once, and the next turn comes all the same.

    Args:
        at_once: do it first when started, not only after the first interval.
    """

    def __init__(self, work: Callable[[], object], interval_s: float, name: str, *, at_once: bool = True) -> None:
        self._work = work
        self._interval_s = interval_s
        self._name = name
        self._at_once = at_once
        self._said = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End after the turn under way; safe to call without a start."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        if self._at_once:
            self._turn()
        while not self._stop.wait(self._interval_s):
            self._turn()

    def _turn(self) -> None:
        try:
            self._work()
            self._said = ""
        except AiopsError as error:
            if str(error) != self._said:
                log.warning("%s: %s", self._name, error)
            self._said = str(error)
        except Exception:
            log.exception("%s failed", self._name)
