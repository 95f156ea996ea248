"""Watching the watchers: a page when a heartbeat that should always come does not, and a heartbeat of our own.

Prometheus' mixins have an alert ``Watchdog`` that fires always. While it arrives, the way from Prometheus over
Alertmanager to us works; silence means that alerts would not arrive either.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiops.core.errors import AiopsError, ConfigError, InvalidInput
from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.ports import AnomalySink, Clock, system_clock
from aiops.core.series import Labels, Matcher, labels_of
from aiops.core.untrusted import Untrusted
from aiops.incidents.matchers import hold, parse_matchers
from aiops.settings import IncidentSettings

log = logging.getLogger(__name__)

NAME = "HeartbeatMissing"


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
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

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

    def start(self, interval_s: float = 5.0) -> None:
        """Check on a thread until :meth:`stop`; does nothing where no heartbeat is expected."""
        if not self._expected:
            return
        self._thread = repeat(self.check, interval_s, self._stop, "watchdogs")

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def states(self) -> list[tuple[str, int, bool]]:
        """Name, when it was heard last (ms UTC), whether it is missing."""
        with self._lock:
            return [(e.name, self._heard[e.name], e.name in self._missing) for e in self._expected]


class Heartbeat:
    """Our own sign of life: calls ``ping`` while ``healthy`` says so, and keeps silent otherwise."""

    def __init__(self, ping: Callable[[], None], healthy: Callable[[], bool], interval_s: float) -> None:
        self._ping = ping
        self._healthy = healthy
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def start(self) -> None:
        self._thread = repeat(self.beat, self._interval_s, self._stop, "heartbeat")

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def beat(self) -> None:
        """One sign of life, if all is well."""
        if not self._healthy():
            log.warning("no heartbeat is sent: a required part is not ready")
            return
        try:
            self._ping()
        except AiopsError as error:
            if not self._failing:
                log.warning("the heartbeat cannot be sent: %s", error)
            self._failing = True
            return
        self._failing = False


def repeat(work: Callable[[], None], interval_s: float, stop: threading.Event, name: str) -> threading.Thread:
    """Run ``work`` at once and then at the interval, on a thread that is started here."""

    def loop() -> None:
        while True:
            try:
                work()
            except AiopsError as error:
                log.warning("%s: %s", name, error)
            except Exception:
                log.exception("%s failed", name)
            if stop.wait(interval_s):
                return

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    return thread


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
