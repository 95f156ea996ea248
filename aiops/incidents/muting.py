"""Why an alert is to wake nobody: a silence, a maintenance window, or another alert that inhibits it.

A muted alert opens and joins incidents like any other; it only has no voice in who is told. Inhibition is
Alertmanager's (https://prometheus.io/docs/alerting/latest/configuration/#inhibition-related-settings).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from aiops.core.errors import ConfigError, InvalidInput
from aiops.core.incident import Alert, Incident, Silence
from aiops.core.series import Matcher
from aiops.incidents.matchers import hold, labels_of_alert, parse_matchers
from aiops.jobs.clock import next_run
from aiops.settings import IncidentSettings

WINDOWS_MS = 5_000


Busy = Callable[[str, int], bool]
"""Whether a calendar, by its name, has an event at a time (ms UTC)."""


def _no_calendar(_name: str, _now_ms: int) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window that comes back: from each time its cron line fires, for ``duration_ms``, or during the
    events of ``calendar``."""

    name: str
    matchers: tuple[Matcher, ...]
    cron: str
    zone: str
    duration_ms: int
    calendar: str = ""

    def covers(self, now_ms: int, busy: Busy = _no_calendar) -> bool:
        if self.calendar:
            return busy(self.calendar, now_ms)
        begin = next_run(self.cron, self.zone, now_ms - self.duration_ms)
        return begin is not None and begin <= now_ms


@dataclass(frozen=True, slots=True)
class Inhibition:
    """A firing alert that ``source`` holds for mutes those that ``target`` holds for, where ``equal`` labels agree."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Firing:
    """All alerts that fire, with the labels that matchers see; taken once and asked often."""

    alerts: tuple[tuple[Alert, dict[str, str]], ...]

    @classmethod
    def of(cls, incidents: Iterable[Incident]) -> Firing:
        found = (s.alert for i in incidents if i.active for s in i.signals if s.alert.firing)
        return cls(tuple((alert, labels_of_alert(alert)) for alert in found))


@dataclass(frozen=True, slots=True)
class Mutes:
    """Everything that mutes at one moment.

    Attributes:
        silences: those in force.
        windows: those open.
    """

    silences: tuple[Silence, ...] = ()
    windows: tuple[Window, ...] = ()
    inhibitions: tuple[Inhibition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.silences or self.windows or self.inhibitions)

    def reason(self, alert: Alert, firing: Firing) -> str:
        """Why the alert is muted; empty where it is not."""
        labels = labels_of_alert(alert)
        for silence in self.silences:
            if hold(silence.matchers, labels):
                return f"silenced by {silence.author} ({silence.id}): {silence.comment}"
        for window in self.windows:
            if hold(window.matchers, labels):
                return f"in maintenance: {window.name}"
        for rule in self.inhibitions:
            if not hold(rule.target, labels):
                continue
            both = hold(rule.source, labels)
            for other, theirs in firing.alerts:
                if other.fingerprint == alert.fingerprint or not hold(rule.source, theirs):
                    continue
                if both and hold(rule.target, theirs):
                    continue
                if all(labels.get(name, "") == theirs.get(name, "") for name in rule.equal):
                    return f"inhibited by {other.name} on {other.service or 'an unknown service'}"
        return ""

    def audible(self, incident: Incident, firing: Firing) -> tuple[Incident, str]:
        """The incident with the signals that are heard, and why the first muted one is not, if any."""
        if not self:
            return incident, ""
        why = {s.alert.fingerprint: self.reason(s.alert, firing) for s in incident.signals}
        kept = tuple(s for s in incident.signals if not why[s.alert.fingerprint])
        first = next((reason for reason in why.values() if reason), "")
        return (incident if len(kept) == len(incident.signals) else replace(incident, signals=kept)), first


def windows_of(settings: IncidentSettings) -> tuple[Window, ...]:
    """Raises ``ConfigError`` for a cron line, zone or matcher that cannot be read."""
    found = []
    for name, entry in settings.maintenance.items():
        try:
            if entry.cron:
                next_run(entry.cron, entry.zone, 0)
            matchers = parse_matchers(entry.matchers)
        except InvalidInput as error:
            raise ConfigError(f"incidents.maintenance.{name}: {error.message}", hint=error.hint) from error
        found.append(Window(name, matchers, entry.cron, entry.zone, int(entry.duration_s * 1000), entry.calendar))
    return tuple(found)


def inhibitions_of(settings: IncidentSettings) -> tuple[Inhibition, ...]:
    """Raises ``ConfigError`` for a matcher that cannot be read."""
    found = []
    for number, rule in enumerate(settings.inhibit_rules, 1):
        try:
            source, target = parse_matchers(rule.source_matchers), parse_matchers(rule.target_matchers)
        except InvalidInput as error:
            raise ConfigError(f"incidents.inhibit_rules, rule {number}: {error.message}", hint=error.hint) from error
        found.append(Inhibition(source, target, rule.equal))
    return tuple(found)


class Muting:
    """What mutes at a time; the windows are looked at again every few seconds only.

    Args:
        silences: those in force at a time (ms UTC), such as :meth:`Silences.active`.
        busy: what the calendars of maintenance windows say, such as :meth:`OnCall.busy`. One that cannot be read
            mutes nothing.

    Raises:
        ConfigError: a matcher, cron line or zone of the settings cannot be read.
    """

    def __init__(
        self, silences: Callable[[int], Sequence[Silence]], settings: IncidentSettings, busy: Busy = _no_calendar
    ) -> None:
        self._silences = silences
        self._busy = busy
        self._windows = windows_of(settings)
        self._inhibitions = inhibitions_of(settings)
        self._open: tuple[int, tuple[Window, ...]] = (-WINDOWS_MS, ())

    def __call__(self, now_ms: int) -> Mutes:
        at, windows = self._open
        if not 0 <= now_ms - at < WINDOWS_MS:
            windows = tuple(w for w in self._windows if w.covers(now_ms, self._busy))
            self._open = (now_ms, windows)
        return Mutes(tuple(self._silences(now_ms)), windows, self._inhibitions)
