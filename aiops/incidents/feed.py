"""Changes of incidents as they happen, to whoever listens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiops.core.incident import Incident

log = logging.getLogger(__name__)


class Feed:
    """Thread-safe. A listener is called on the thread that made the change and must return at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Incident], None]] = []

    def publish(self, incident: Incident) -> None:
        """Tell all listeners of an incident as it stands now."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener(incident)
            except Exception:
                log.exception("a listener to incidents failed")

    @contextmanager
    def listening(self, listener: Callable[[Incident], None]) -> Iterator[None]:
        """``listener`` is told of every change until the block ends."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)
