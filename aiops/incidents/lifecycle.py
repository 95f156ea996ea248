"""The life of an incident: opened by a signal, joined by others, explained, told, resolved, perhaps reopened.

Every change and the notifications that tell of it are saved in one transaction. A new incident is announced
when its first ranking of causes is ready or after :data:`~aiops.incidents.telling.ANNOUNCE_MS`, whichever comes
first, so that the page says why. Submitting never waits for a ranking.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from aiops.core.incident import Alert, Incident, IncidentStatus
from aiops.core.ports import Clock, system_clock
from aiops.core.principal import SYSTEM
from aiops.core.untrusted import Untrusted
from aiops.incidents import transitions
from aiops.incidents.audience import Audience
from aiops.incidents.call_paths import CallPaths
from aiops.incidents.correlation import Correlator, Link, is_simulated, service_of
from aiops.incidents.diagnosis import Analyser, Diagnoser, Diagnosis
from aiops.incidents.handling import Handling
from aiops.incidents.muting import Mutes
from aiops.incidents.oncall import Duty
from aiops.incidents.register import Register
from aiops.incidents.route_tree import NO_TREE, RouteTree
from aiops.incidents.routing import Route
from aiops.incidents.telling import Teller
from aiops.settings import IncidentSettings
from aiops.store.state.incidents import IncidentRepository

log = logging.getLogger(__name__)

TAUGHT = 100
"""Past incidents whose signals teach correlation at the start which services fire together."""
SAME_CAUSE_MS = 600_000
"""Incidents that opened further apart are not united because one cause is named for both."""


class IncidentService(Handling):
    """The one door of incidents (:class:`~aiops.core.ports.AnomalySink`) and what people do with them.

    Thread-safe.

    Args:
        analyser: ranks causes; without one incidents are announced at once, without a cause.
        receivers: who may be told.
        mutes: silences, maintenance and inhibition in force at a time.
        duty: who is on call by a schedule at a time.
        tree: its groups, where it makes some, decide in correlation's stead what belongs together.
        background: rank on a thread; false ranks inside ``submit`` and ``tick`` (tests, one-shot commands).
    """

    def __init__(
        self,
        repository: IncidentRepository,
        analyser: Analyser | None,
        receivers: Sequence[Route],
        settings: IncidentSettings,
        clock: Clock = system_clock,
        *,
        mutes: Callable[[int], Mutes] = lambda _: Mutes(),
        duty: Callable[[str, int], Duty] = lambda _schedule, _now: Duty(),
        tree: RouteTree = NO_TREE,
        background: bool = True,
    ) -> None:
        self._settings = settings
        self._tree = tree
        self._clock = clock
        self._register = Register(repository, clock() - self._reopen_ms)
        self._teller = Teller(self._register, Audience(receivers, mutes, lambda: self._register, duty))
        self._diagnoser = Diagnoser(self._register, analyser, clock, self._apply, background)
        self._correlator = Correlator(life_cap_ms=self._life_cap_ms)
        past = (s.alert for i in repository.list(limit=TAUGHT) for s in i.signals)
        for alert in sorted(past, key=lambda a: (a.starts_ms, a.fingerprint)):
            self._correlator.learn(alert)
        self.feed = self._register.feed
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    @property
    def _reopen_ms(self) -> int:
        return int(self._settings.reopen_s * 1000)

    @property
    def _life_cap_ms(self) -> int:
        return int(self._settings.life_cap_s * 1000)

    # ---------------------------------------------------------------- running

    def start(self, interval_s: float = 1.0) -> None:
        """Tick on a thread until :meth:`stop`."""

        def loop() -> None:
            while not self._stop.wait(interval_s):
                try:
                    self.tick(self._clock())
                except Exception:
                    log.exception("the tick of incidents failed")

        self._ticker = threading.Thread(target=loop, name="incident-tick", daemon=True)
        self._ticker.start()

    def stop(self) -> None:
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join(5)
        self._diagnoser.stop()

    # ---------------------------------------------------------------- signals

    def submit(self, alerts: Sequence[Alert]) -> None:
        """Take alerts and anomalies, new, repeated or ended. A return means that they are saved.

        Raises:
            TransientError: the state store is away; submit again, repeats do no harm.
        """
        now = self._clock()
        paths = self._diagnoser.call_paths(now)
        with self._register.lock:
            pending: dict[str, Incident] = {}
            unions: list[tuple[str, str, str]] = []
            for alert in sorted(alerts, key=lambda a: (a.starts_ms, a.fingerprint)):
                changed = self._take(alert, pending, paths, now, unions)
                if changed is not None:
                    pending[changed.id] = changed
            for incident in pending.values():
                self._keep(incident, now)
            for one, other, reason in unions:
                self._unite(one, other, reason, now)

    def tick(self, now_ms: int) -> None:
        """End silent signals, resolve what is over, announce and update, rank again while evidence grows."""
        with self._register.lock:
            for incident in self._register:
                if incident.active:
                    self._tick_one(incident, now_ms)
                elif now_ms - (incident.resolved_ms or incident.updated_ms) > self._reopen_ms:
                    self._register.drop(incident)

    def _tick_one(self, incident: Incident, now: int) -> None:
        current = transitions.expired(incident, now, 6 * self._life_cap_ms)
        since = transitions.quiet_since(current)
        if since is not None and now - since >= self._hold_ms(current, now):
            self._end(current, now, SYSTEM.name, "all signals ended")
            return
        current, hearing = self._teller.hearing(current, now)
        if current is not incident:
            self._register.save(current)
        self._teller.due(current, hearing, now)
        self._diagnoser.rank_if_due(current, now)

    def _take(
        self,
        alert: Alert,
        pending: dict[str, Incident],
        paths: CallPaths,
        now: int,
        unions: list[tuple[str, str, str]],
    ) -> Incident | None:
        view = {i.id: i for i in self._register} | pending
        fresh = next((i for i in pending.values() if _holds(i, alert.fingerprint)), None)
        holder = fresh or view.get(self._register.holder(alert.fingerprint))
        if holder is not None and holder.active:
            changed = transitions.refreshed(holder, alert, now)
            return None if changed is holder else changed
        if not alert.firing:
            return None
        if holder is not None:
            held = transitions.held_signal(holder, alert.fingerprint).alert
            if held.firing and alert.starts_ms <= (holder.resolved_ms or 0):
                return None  # resolved by hand while it fires: its repeats open nothing
            if not transitions.starts_anew(alert, held):
                return None
            mine = service_of(alert)
            if not mine or mine in transitions.services_of(holder):
                return transitions.reopened(holder, alert, "the same signal fires again", now)
        group = self._tree.group(alert)
        if self._tree is not NO_TREE:
            view = {i.id: i for i in view.values() if self._tree.group_of(i) == group}
        active = [i for i in view.values() if i.active]
        link = self._same_group(alert, group, active)
        if link is None:
            link = self._correlator.link(alert, active, paths)
        self._correlator.learn(alert)
        if link.incident_id is not None:
            unions += [(link.incident_id, other, f"{alert.name} explains both: {why}") for other, why in link.unites]
            return transitions.joined(view[link.incident_id], alert, link.reason, now)
        service = service_of(alert)
        past = [
            i for i in view.values() if i.status is IncidentStatus.RESOLVED and service in transitions.services_of(i)
        ]
        for old in sorted(past, key=lambda i: (-(i.resolved_ms or 0), i.id)):
            if old.simulated == is_simulated(alert.labels) and now - (old.resolved_ms or 0) <= self._reopen_ms:
                return transitions.reopened(old, alert, f"{service} again soon after its resolve", now)
        return transitions.opened(self._register.repository.next_id(), alert, now)

    def _same_group(self, alert: Alert, group: str | None, active: Sequence[Incident]) -> Link | None:
        """The open incident of the alert's group, or a new one; ``None`` where correlation decides."""
        if group is None:
            return None
        simulated = is_simulated(alert.labels)
        fitting = (
            i.id
            for i in sorted(active, key=lambda i: (i.opened_ms, i.id))
            if i.simulated == simulated and alert.starts_ms - i.opened_ms <= self._life_cap_ms
        )
        found = next(fitting, None)
        return Link(found, f"same group: {Untrusted(group).display(200)}" if found else "the first of its group")

    def _keep(self, incident: Incident, now: int) -> None:
        before = self._register.get(incident.id)
        if before is None or len(before.signals) != len(incident.signals):
            self._diagnoser.has_changed(incident.id)
            self._teller.has_news(incident)
        incident, hearing = self._teller.hearing(incident, now)
        missing = bool(hearing.names - set(incident.told))
        grown = before is not None and transitions.worse(incident.severity, before.severity) and not hearing.muted
        if (not self._diagnoser.able and not incident.told) or (incident.told and (missing or grown)):
            self._teller.announce(incident, now, hearing)
        else:
            self._register.save(incident)
        if not incident.told:
            self._diagnoser.rank(incident.id)

    def _hold_ms(self, incident: Incident, now: int) -> int:
        """Hysteresis before a resolve, doubled with each reopening in the last hour, 30 min at most."""
        base = int(self._settings.resolve_timeout_s * 200)
        return min(base << min(transitions.flaps(incident, now - 3_600_000), 6), max(base, 1_800_000))

    def _apply(self, incident_id: str, diagnosis: Diagnosis | None) -> None:
        before = self._register.get(incident_id)
        if before is None or not before.active:
            return
        now, incident, newly_clear = self._clock(), before, False
        if diagnosis is not None:
            incident = transitions.explained(incident, diagnosis.candidates, diagnosis.clear_cause, now, SYSTEM.name)
            if diagnosis.clear_cause:
                incident = replace(incident, affected=diagnosis.affected)
            differs = transitions.verdict(incident) != transitions.verdict(before)
            newly_clear = differs and incident.clear_cause
            if differs:
                self._teller.has_news(incident)
        incident, hearing = self._teller.hearing(incident, now)
        if not incident.told or (newly_clear and not hearing.muted):
            self._teller.announce(incident, now, hearing)
        elif diagnosis is not None:
            self._register.save(incident)
        if incident.clear_cause:
            self._unite_by_cause(incident, now)

    def _unite_by_cause(self, incident: Incident, now: int) -> None:
        """Merge incidents of about the same time that have one clear cause, which services of both call or are."""
        cause, paths = incident.cause_service, self._diagnoser.call_paths(now)

        def leads_to_cause(one: Incident) -> bool:
            services = {service_of(s.alert) for s in one.signals}
            return cause in services or any(cause in paths.below(s) for s in services)

        for other in self._register:
            alike = other.active and other.clear_cause and other.cause_service == cause and other.id != incident.id
            near = abs(other.opened_ms - incident.opened_ms) <= SAME_CAUSE_MS
            if alike and near and leads_to_cause(incident) and leads_to_cause(other):
                self._unite(incident.id, other.id, f"{cause} is the likely cause of both", now)


def _holds(incident: Incident, fingerprint: str) -> bool:
    return any(s.alert.fingerprint == fingerprint for s in incident.signals)
