"""Watching the watchers: a page when a heartbeat that should always come does not.

Prometheus' mixins have an alert ``Watchdog`` that fires always. While it arrives, the way from Prometheus over
Alertmanager to us works; silence means that alerts would not arrive either.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from aiops.core.errors import ConfigError, InvalidInput
from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.ports import AnomalySink, Clock, system_clock
from aiops.core.series import Labels, Matcher, labels_of
from aiops.core.untrusted import Untrusted
from aiops.incidents.matchers import hold, parse_matchers
from aiops.jobs.repeating import Repeating
from aiops.settings import IncidentSettings

NAME = "HeartbeatMissing"
CHECK_S = 5.0


@dataclass(frozen=True, slots=True)
class Expected:
    """A heartbeat from the inbound ``source``, at least every ``timeout_ms``."""

    name: str
    source: str
    matchers: tuple[Matcher, ...]
    timeout_ms: int


class Watchdogs:
    """Thread-safe. Every expected heartbeat counts as just heard when the service starts.

    Args:
        sink: takes the alert of a missing heartbeat, which pages, and its end.

    Raises:
        ConfigError: a matcher cannot be read.
    """

    def __init__(self, sink: AnomalySink, settings: IncidentSettings, clock: Clock = system_clock) -> None:
        self._sink = sink
        self._clock = clock
        self._expected = expected_of(settings)
        self._lock = threading.Lock()
        self._heard = {e.name: clock() for e in self._expected}
        self._missing: dict[str, int] = {}
        self._loop = Repeating(self.check, CHECK_S, "watchdogs")

    def beat(self, source: str, heartbeats: Sequence[Labels]) -> None:
        """A heartbeat came in."""
        now = self._clock()
        for labels in map(dict, heartbeats):
            for expected in self._expected:
                if expected.source == source and hold(expected.matchers, labels):
                    with self._lock:
                        self._heard[expected.name] = now

    def check(self) -> None:
        """Tell of heartbeats that are missing, and of those that came back. Raises ``TransientError``."""
        now = self._clock()
        alerts = []
        with self._lock:
            for expected in self._expected:
                heard = self._heard[expected.name]
                silent = now - heard >= expected.timeout_ms
                if silent or expected.name in self._missing:
                    alerts.append(_alert(expected, heard, now, firing=silent))
                if silent:
                    self._missing.setdefault(expected.name, now)
        if alerts:
            self._sink.submit(alerts)
        with self._lock:
            for alert in alerts:
                if not alert.firing:
                    self._missing.pop(dict(alert.labels)["heartbeat"], None)

    def start(self) -> None:
        """Check on a thread until :meth:`stop`; does nothing where no heartbeat is expected."""
        if self._expected:
            self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def states(self) -> list[tuple[str, int, bool]]:
        """Name, when it was heard last (ms UTC), whether it is missing."""
        with self._lock:
            return [(e.name, self._heard[e.name], e.name in self._missing) for e in self._expected]


def expected_of(settings: IncidentSettings) -> tuple[Expected, ...]:
    """Raises ``ConfigError`` for a matcher that cannot be read."""
    found = []
    for name, entry in settings.watchdogs.items():
        try:
            matchers = parse_matchers(entry.matchers)
        except InvalidInput as error:
            raise ConfigError(f"incidents.watchdogs.{name}: {error.message}", hint=error.hint) from error
        found.append(Expected(name, entry.source, matchers, int(entry.timeout_s * 1000)))
    return tuple(found)


def _alert(expected: Expected, heard_ms: int, now_ms: int, *, firing: bool) -> Alert:
    labels = labels_of(
        {"alertname": NAME, "heartbeat": expected.name, "source": expected.source, "service": "monitoring"}
    )
    minutes = (now_ms - heard_ms) / 60_000
    words = f"No heartbeat '{expected.name}' from {expected.source} for {minutes:.0f} min: its alerts may not arrive."
    return Alert(
        fingerprint=fingerprint(labels),
        kind=SignalKind.RULE,
        name=NAME,
        labels=labels,
        severity=Severity.CRITICAL,
        starts_ms=min(heard_ms + expected.timeout_ms, now_ms) if firing else heard_ms,
        updated_ms=now_ms,
        ends_ms=None if firing else now_ms,
        summary=Untrusted(words if firing else f"The heartbeat '{expected.name}' came back."),
        source="aiops watchdog",
    )
