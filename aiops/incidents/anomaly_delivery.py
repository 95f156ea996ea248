"""Anomalies on their way to the one door of incidents: saved, then submitted, and kept until that was possible."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

from aiops.core.anomaly import Anomaly
from aiops.core.errors import TransientError
from aiops.core.incident import Alert
from aiops.core.ports import AnomalySink
from aiops.incidents.episodes import alert_of

log = logging.getLogger(__name__)


class Episodes(Protocol):
    """Keeps episodes by their id."""

    def save_anomalies(self, anomalies: Sequence[Anomaly]) -> None: ...


class AnomalyDelivery:
    """Thread-safe. What cannot be delivered now is delivered with the next call, in its latest form."""

    def __init__(self, episodes: Episodes, sink: AnomalySink) -> None:
        self._episodes, self._sink = episodes, sink
        self._waiting: dict[str, Alert] = {}
        self._lock = threading.Lock()

    def deliver(self, changed: Iterable[Anomaly]) -> None:
        """Save and submit these and what waits from before."""
        with self._lock:
            self._waiting |= {anomaly.id: alert_of(anomaly) for anomaly in changed}
            if not self._waiting:
                return
            alerts = list(self._waiting.values())
            try:
                self._episodes.save_anomalies([a.anomaly for a in alerts if a.anomaly is not None])
                self._sink.submit(alerts)
            except TransientError as error:
                log.warning("%d anomalies wait to be delivered: %s", len(alerts), error)
                return
            self._waiting.clear()
