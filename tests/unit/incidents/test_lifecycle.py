from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from aiops.core.cost import Budget, BudgetState, CostForecast
from aiops.core.errors import Conflict, NotFound, TransientError
from aiops.core.incident import (
    Alert,
    CauseCandidate,
    Incident,
    IncidentStatus,
    NotificationEvent,
    Severity,
    SignalKind,
)
from aiops.core.principal import SYSTEM, Principal, Role
from aiops.core.series import Matcher, MatchOp
from aiops.core.signals import ServiceGraph
from aiops.cost.budgets import budget_alert
from aiops.incidents.diagnosis import RERANK_MS, Diagnosis
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.routing import Route, route_of
from aiops.incidents.telling import ANNOUNCE_MS, UPDATE_GAP_MS
from aiops.settings import IncidentSettings
from aiops.store.state.database import StateDatabase
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.outbox import OutboxRepository
from tests.unit.incidents.signals import MINUTE, T0, alert, anomaly

ALICE = Principal("key:alice", Role.RESPONDER)
HOLD = 60_000


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> int:
        return self.now


class Causes:
    """An analyser that says what it is told to."""

    def __init__(self, *candidates: CauseCandidate, clear: bool = True) -> None:
        self.diagnosis = Diagnosis(candidates, clear)
        self.edges: tuple[tuple[str, str], ...] = (("web", "cart"), ("cart", "db"))
        self.error: Exception | None = None

    def analyse(self, incident: Incident, now_ms: int) -> Diagnosis:
        if self.error:
            raise self.error
        return self.diagnosis

    def graph(self, now_ms: int) -> ServiceGraph:
        return ServiceGraph(edges=self.edges)


class Desk:
    """A service with its outbox and clock."""

    def __init__(self, database: StateDatabase, causes: Causes | None, *routes: Route) -> None:
        self.clock = Clock()
        self.database = database
        self.causes = causes
        self.routes = routes or (Route("hook"), Route("pager", pages=True))
        self.outbox = OutboxRepository(database)
        self.service = self.restarted()

    def restarted(self) -> IncidentService:
        self.service = IncidentService(
            IncidentRepository(self.database),
            self.causes,
            self.routes,
            IncidentSettings(),
            self.clock,
            background=False,
        )
        return self.service

    def told(self) -> list[tuple[str, str]]:
        return [(d.notification.receiver, d.notification.event.value) for d in reversed(self.outbox.list())]

    def pass_time(self, ms: int, step: int = 1000) -> None:
        end = self.clock.now + ms
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + step, end)
            self.service.tick(self.clock.now)

    def end(self, signal: Alert) -> None:
        self.service.submit([replace(signal, ends_ms=self.clock.now, updated_ms=self.clock.now)])

    @property
    def only(self) -> Incident:
        (found,) = self.service.list(SYSTEM)
        return found


@pytest.fixture
def desk(database: StateDatabase) -> Desk:
    return Desk(database, Causes(CauseCandidate("cart", 0.7, "cpu", 0.2, 0.95, reasons=("cpu 20 % → 95 %",))))


def test_anomaly_opens_is_explained_and_tells_all_but_the_pager(desk: Desk) -> None:
    desk.service.submit([anomaly("checkout")])
    incident = desk.only
    assert incident.clear_cause
    assert incident.candidates[0].service == "cart"
    assert desk.told() == [("hook", "opened")]
    assert desk.outbox.list()[0].notification.incident.candidates[0].service == "cart"
    assert not incident.paged


def test_title_and_service_are_those_of_the_clear_cause(desk: Desk) -> None:
    desk.service.submit([anomaly("checkout")])
    page = desk.outbox.list()[0].notification.incident
    assert (page.service, page.title) == ("cart", "cart: cpu 20 % → 95 %")
    assert ("attributed", "to cart: cart: cpu 20 % → 95 %") in [(e.event, e.detail) for e in page.timeline]
    desk.service.submit([anomaly("cart")])
    assert (desk.only.service, desk.only.title) == ("cart", "cart: latency p95 1.9 s, 7.9x normal")
    assert desk.only.signals[1].reason.startswith("cart is the likely cause")


def test_title_and_service_stay_while_later_rankings_are_weak(desk: Desk) -> None:
    desk.service.submit([anomaly("checkout")])
    assert desk.causes is not None
    desk.causes.diagnosis = replace(desk.causes.diagnosis, clear_cause=False)
    desk.pass_time(RERANK_MS + 2000)
    desk.service.submit([anomaly("checkout", "error ratio")])
    assert not desk.only.clear_cause
    assert (desk.only.service, desk.only.title) == ("cart", "cart: cpu 20 % → 95 %")


def test_without_a_clear_cause_the_symptom_gives_title_and_service(database: StateDatabase) -> None:
    desk = Desk(database, Causes(CauseCandidate("cart", 0.2), clear=False))
    desk.service.submit([anomaly("checkout")])
    assert (desk.only.service, desk.only.title) == ("checkout", "checkout: latency p95 1.9 s, 7.9x normal")


@pytest.mark.parametrize("service", ["cart", "checkout"])
def test_cause_and_symptom_both_reopen_an_attributed_incident(desk: Desk, service: str) -> None:
    resolved(desk, anomaly("checkout"))
    assert desk.only.status is IncidentStatus.RESOLVED
    desk.service.submit([anomaly(service, "error ratio", desk.clock.now)])
    assert desk.only.active


def test_the_page_goes_out_when_an_alert_joins(desk: Desk) -> None:
    desk.service.submit([anomaly("checkout")])
    desk.service.submit([alert("CheckoutSlow", service="checkout")])
    assert desk.told() == [("hook", "opened"), ("pager", "opened"), ("hook", "updated")]
    assert desk.only.paged
    assert desk.only.severity is Severity.CRITICAL
    assert [s.reason.split(";")[0] for s in desk.only.signals] == ["opened the incident", "same service checkout"]


def test_a_cost_overrun_wakes_nobody(desk: Desk) -> None:
    desk.service.submit([replace(alert("Overrun", service="web"), kind=SignalKind.COST)])
    assert desk.told() == [("hook", "opened")]


def test_repeats_change_nothing(desk: Desk) -> None:
    signal = alert("CheckoutSlow", service="checkout")
    for _ in range(3):
        desk.service.submit([signal, signal])
    assert len(desk.only.signals) == 1
    assert desk.told() == [("hook", "opened"), ("pager", "opened")]


def test_signals_of_one_batch_become_one_incident(desk: Desk) -> None:
    desk.service.submit([anomaly("web"), anomaly("cart"), anomaly("db")])
    assert len(desk.only.signals) == 3


def test_unrelated_signals_become_two_incidents(desk: Desk) -> None:
    desk.service.submit([anomaly("web"), anomaly("mail")])
    assert len(desk.service.list(SYSTEM)) == 2


def test_resolves_after_hysteresis_and_tells_everyone_told(desk: Desk) -> None:
    signal = alert("CheckoutSlow", service="checkout")
    desk.service.submit([signal])
    desk.clock.now += MINUTE
    desk.end(signal)
    desk.pass_time(HOLD - 2000)
    assert desk.only.active
    desk.pass_time(3000)
    assert desk.only.status is IncidentStatus.RESOLVED
    assert sorted(desk.told())[-2:] == [("pager", "opened"), ("pager", "resolved")]
    assert ("hook", "resolved") in desk.told()


def test_resolve_of_something_never_seen_opens_nothing(desk: Desk) -> None:
    desk.service.submit([replace(alert("Slow", service="web"), ends_ms=T0)])
    assert desk.service.list(SYSTEM) == []


def test_fires_again_during_hysteresis_stays_open(desk: Desk) -> None:
    signal = anomaly("checkout")
    desk.service.submit([signal])
    desk.clock.now += MINUTE
    desk.end(signal)
    desk.pass_time(30_000)
    again = replace(signal, starts_ms=desk.clock.now, updated_ms=desk.clock.now)
    desk.service.submit([again])
    desk.pass_time(2 * HOLD)
    assert desk.only.active


def test_late_echo_of_a_second_sender_does_not_reopen(desk: Desk) -> None:
    signal = alert("Slow", service="checkout")
    desk.service.submit([signal])
    desk.clock.now += MINUTE
    desk.end(signal)
    desk.service.submit([replace(signal, updated_ms=desk.clock.now + 5_000)])
    desk.pass_time(HOLD + 2000)
    assert desk.only.status is IncidentStatus.RESOLVED


def resolved(desk: Desk, signal: Alert) -> None:
    desk.service.submit([signal])
    desk.clock.now += MINUTE
    desk.end(signal)
    desk.pass_time(HOLD + 2000)


def test_reopens_within_fifteen_minutes_and_tells_anew(desk: Desk) -> None:
    signal = alert("Slow", service="checkout")
    resolved(desk, signal)
    desk.clock.now += 5 * MINUTE
    desk.service.submit([replace(signal, starts_ms=desk.clock.now, updated_ms=desk.clock.now)])
    assert desk.only.status is IncidentStatus.OPEN
    assert desk.told()[-2:] == [("hook", "opened"), ("pager", "opened")]


def test_another_signal_of_the_service_reopens_too_but_not_later(desk: Desk) -> None:
    resolved(desk, alert("Slow", service="checkout"))
    desk.service.submit([alert("Errors", desk.clock.now, service="checkout")])
    assert desk.only.active
    first = desk.only.id
    desk.end(alert("Errors", service="checkout"))
    desk.pass_time(10 * MINUTE)
    desk.pass_time(20 * MINUTE, step=MINUTE)
    desk.service.submit([alert("Errors", desk.clock.now, service="checkout")])
    assert {i.id for i in desk.service.list(SYSTEM)} > {first}


def test_flapping_lengthens_the_hysteresis(desk: Desk) -> None:
    signal = alert("Slow", service="checkout")
    resolved(desk, signal)
    again = replace(signal, starts_ms=desk.clock.now, updated_ms=desk.clock.now)
    desk.service.submit([again])
    desk.clock.now += MINUTE
    desk.end(again)
    desk.pass_time(HOLD + 2000)
    assert desk.only.active
    desk.pass_time(HOLD)
    assert desk.only.status is IncidentStatus.RESOLVED


def test_promised_repeats_that_stop_end_the_signal(desk: Desk) -> None:
    desk.service.submit([replace(alert("Slow", service="web"), expires_ms=T0 + 5 * MINUTE)])
    desk.pass_time(5 * MINUTE + HOLD + 2000, step=5000)
    assert desk.only.status is IncidentStatus.RESOLVED


def test_hourly_cost_alerts_stay_until_no_check_repeats_them(desk: Desk) -> None:
    hour = 60 * MINUTE
    budget = Budget("all", 100.0, "USD")

    def check() -> None:
        forecast = CostForecast(T0, 120.0, 150.0, 140.0, 160.0, "USD", "trend")
        found = budget_alert(BudgetState(budget, forecast, "exceeded"), desk.clock.now)
        assert found is not None
        desk.service.submit([found])

    for _ in range(3):
        check()
        desk.pass_time(hour, step=MINUTE)
    assert desk.only.active
    desk.pass_time(27 * hour, step=5 * MINUTE)
    assert desk.only.status is IncidentStatus.RESOLVED


def test_a_webhook_alert_does_not_end_by_itself(desk: Desk) -> None:
    desk.service.submit([alert("Slow", service="web")])
    desk.pass_time(3 * 60 * MINUTE, step=MINUTE)
    assert desk.only.active


def test_updates_are_told_at_most_every_half_minute(desk: Desk) -> None:
    desk.service.submit([anomaly("web")])
    desk.clock.now += ANNOUNCE_MS
    for metric in ("a", "b", "c"):
        desk.service.submit([anomaly("web", metric, desk.clock.now)])
    assert desk.told() == [("hook", "opened")]
    desk.pass_time(UPDATE_GAP_MS)
    assert desk.told() == [("hook", "opened"), ("hook", "updated")]


def test_without_a_cause_the_incident_is_told_all_the_same(desk: Desk) -> None:
    assert desk.causes is not None
    desk.causes.error = TransientError("the source is down")
    desk.service.submit([anomaly("web")])
    assert desk.told() == [("hook", "opened")]


def test_a_slow_ranking_does_not_hold_up_submit_or_the_announcement(database: StateDatabase) -> None:
    release = threading.Event()

    class Slow(Causes):
        def analyse(self, incident: Incident, now_ms: int) -> Diagnosis:
            release.wait(20)
            return super().analyse(incident, now_ms)

    clock = Clock()
    service = IncidentService(
        IncidentRepository(database), Slow(CauseCandidate("db", 0.6)), [Route("hook")], IncidentSettings(), clock
    )
    service.submit([anomaly("web")])
    assert OutboxRepository(database).list() == ()
    clock.now += ANNOUNCE_MS
    service.tick(clock.now)
    assert [d.notification.event for d in OutboxRepository(database).list()] == [NotificationEvent.OPENED]
    release.set()
    deadline = time.monotonic() + 20
    while len(OutboxRepository(database).list()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    service.stop()
    assert OutboxRepository(database).list()[0].notification.incident.candidates[0].service == "db"


def test_a_crash_before_the_announcement_is_made_good(desk: Desk) -> None:
    desk.causes = None
    incident = replace(desk_incident(), told=())
    IncidentRepository(desk.database).save(incident)
    desk.restarted()
    desk.pass_time(ANNOUNCE_MS + 1000)
    assert desk.told() == [("hook", "opened")]


def desk_incident() -> Incident:
    from aiops.incidents.transitions import opened

    return opened("INC-77", anomaly("web"), T0)


def test_state_survives_a_restart(desk: Desk) -> None:
    signal = alert("Slow", service="checkout")
    desk.service.submit([signal])
    desk.restarted()
    desk.service.submit([signal])
    desk.clock.now += MINUTE
    desk.end(signal)
    desk.pass_time(HOLD + 2000)
    assert desk.only.status is IncidentStatus.RESOLVED
    assert desk.told().count(("pager", "opened")) == 1


def test_acknowledge_note_and_resolve_carry_the_actor(desk: Desk) -> None:
    desk.service.submit([alert("Slow", service="checkout")])
    name = desk.only.id
    desk.service.acknowledge(name, ALICE)
    desk.service.acknowledge(name, ALICE)
    desk.service.note(name, ALICE, "restarted the pod")
    done = desk.service.resolve(name, ALICE, "fixed")
    assert done.assignee == "key:alice"
    assert [(e.actor, e.event, e.detail) for e in done.timeline][-3:] == [
        ("key:alice", "acknowledged", ""),
        ("key:alice", "note", "restarted the pod"),
        ("key:alice", "resolved", "fixed"),
    ]
    assert desk.told()[2:] == [
        ("hook", "acknowledged"),
        ("pager", "acknowledged"),
        ("hook", "resolved"),
        ("pager", "resolved"),
    ]
    with pytest.raises(Conflict):
        desk.service.acknowledge(name, ALICE)


def test_repeats_of_what_a_person_resolved_open_nothing(desk: Desk) -> None:
    signal = alert("Slow", service="checkout")
    desk.service.submit([signal])
    desk.service.resolve(desk.only.id, ALICE)
    desk.clock.now += MINUTE
    desk.service.submit([replace(signal, updated_ms=desk.clock.now)])
    assert desk.only.status is IncidentStatus.RESOLVED


def test_merge_moves_signals_and_resolves_the_source(desk: Desk) -> None:
    desk.service.submit([alert("A", service="web"), alert("B", service="mail")])
    newer, older = sorted(desk.service.list(SYSTEM), key=lambda i: i.id, reverse=True)
    merged = desk.service.merge(newer.id, older.id, ALICE)
    assert len(merged.signals) == 2
    gone = desk.service.get(newer.id, SYSTEM)
    assert (gone.status, gone.merged_into) == (IncidentStatus.MERGED, older.id)
    assert desk.told().count(("pager", "resolved")) == 1
    desk.service.submit([replace(alert("B", service="mail"), updated_ms=T0 + 1, severity=Severity.WARNING)])
    assert len(desk.service.list(SYSTEM, IncidentStatus.OPEN)) == 1


def test_matchers_limit_what_a_receiver_is_told(database: StateDatabase) -> None:
    desk = Desk(
        database,
        None,
        route_of("critical", False, ['severity="critical"']),
        route_of("team", False, ['service=~"pay.*"', 'namespace!="test"']),
    )
    desk.service.submit([alert("A", severity=Severity.WARNING, service="payment", namespace="prod")])
    desk.service.submit([alert("B", service="web", namespace="prod")])
    desk.service.submit([alert("C", severity=Severity.WARNING, service="payments", namespace="test")])
    assert sorted(desk.told()) == [("critical", "opened"), ("team", "opened")]


def test_the_teams_of_symptom_and_cause_are_both_told(database: StateDatabase) -> None:
    routes = [route_of(name, False, [f'service="{name}"']) for name in ("checkout", "cart", "web")]
    desk = Desk(database, Causes(CauseCandidate("cart", 0.7)), *routes)
    desk.service.submit([anomaly("checkout")])
    assert desk.only.service == "cart"
    assert sorted(desk.told()) == [("cart", "opened"), ("checkout", "opened")]


def test_scope_hides_incidents(database: StateDatabase) -> None:
    desk = Desk(database, None)
    desk.service.submit([alert("A", service="web", namespace="shop"), alert("B", service="mail", namespace="office")])
    shop = Principal("key:shop", Role.VIEWER, (Matcher("namespace", MatchOp.EQUAL, "shop"),))
    assert [i.service for i in desk.service.list(shop)] == ["web"]
    hidden = next(i.id for i in desk.service.list(SYSTEM) if i.service == "mail")
    with pytest.raises(NotFound):
        desk.service.get(hidden, shop)


def test_simulated_is_carried(desk: Desk) -> None:
    desk.service.submit([anomaly("web", simulated="true")])
    assert desk.only.simulated


def test_a_storm_is_one_incident_and_few_messages(desk: Desk) -> None:
    desk.service.submit([alert(f"Rule{i}", T0 + i, service="web", pod=f"web-{i}") for i in range(500)])
    assert len(desk.service.list(SYSTEM)) == 1
    assert len(desk.told()) == 2


def test_hostile_text_is_one_safe_line(desk: Desk) -> None:
    desk.service.submit([alert("X", service="web", summary="a\n\u202eb\x00<script>" + "z" * 10_000)])
    desk.service.submit([alert("Y\n\u202e" + "n" * 5000, service="web"), alert("Z", service="a\nb\x00" + "c" * 5000)])
    for incident in desk.service.list(SYSTEM):
        words = [incident.title, *(e.detail for e in incident.timeline), *(s.reason for s in incident.signals)]
        assert not any(c in text for text in words for c in "\n\u202e\x00")
        assert max(map(len, words)) < 700
