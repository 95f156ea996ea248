"""Which signals unite incidents, and which only look as if they did."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aiops.core.incident import Alert, CauseCandidate, Incident, IncidentStatus
from aiops.core.principal import SYSTEM
from aiops.incidents.call_paths import CallPaths
from aiops.incidents.companions import Companions
from aiops.incidents.correlation import Correlator, Link
from aiops.store.state.database import StateDatabase
from tests.unit.incidents.signals import MINUTE, T0, alert
from tests.unit.incidents.test_correlation import open_with
from tests.unit.incidents.test_lifecycle import Causes, Desk

SHOP = CallPaths.of([("web", "cart"), ("mobile", "cart"), ("cart", "db"), ("web", "search"), ("jobs", "mail")])
SECOND = 1000


def link(signal: Alert, *incidents: Incident, learnt: list[Alert] | None = None) -> Link:
    correlator = Correlator()
    for earlier in learnt or []:
        correlator.learn(earlier)
    return correlator.link(signal, incidents, SHOP)


def test_a_host_s_alert_unites_what_fails_on_it_whatever_the_namespace() -> None:
    one = open_with(alert("Slow", T0, service="cart", node="n1", namespace="shop"), name="INC-1")
    two = open_with(alert("Slow", T0 + SECOND, service="mail", node="n1", namespace="post"), name="INC-2")
    found = link(alert("HostDown", T0 + 30 * SECOND, node="n1"), one, two)
    assert found.incident_id in ("INC-1", "INC-2")
    assert [other for other, _ in found.unites] == [({"INC-1", "INC-2"} - {found.incident_id}).pop()]
    assert "same host n1" in found.unites[0][1]


def test_two_services_that_share_a_host_prove_nothing_but_three_at_once_do() -> None:
    first = alert("Slow", T0, service="cart", node="n1")
    second = alert("Slow", T0 + 20 * SECOND, service="mail", node="n1")
    third = alert("Slow", T0 + 40 * SECOND, service="search", node="n1")
    assert link(second, open_with(first), learnt=[first]).incident_id is None
    one, two = open_with(first, name="INC-1"), open_with(second, name="INC-2")
    found = link(third, one, two, learnt=[first, second])
    assert found.incident_id == "INC-2"
    assert [other for other, _ in found.unites] == ["INC-1"]
    assert "2 other services" in found.reason


def test_a_host_with_many_services_says_less() -> None:
    crowd = [alert("Slow", T0, service=f"s{i}", node="n1") for i in range(80)]
    assert link(alert("Slow", T0 + SECOND, service="mail", node="n1"), open_with(crowd[0]), learnt=crowd).score == 0.0


def test_a_callee_unites_its_failing_callers_and_a_caller_of_both_unites_nothing() -> None:
    web, mobile = open_with(alert("Slow", service="web"), name="INC-1"), open_with(alert("Slow", service="mobile"),
                                                                                  name="INC-2")  # fmt: skip
    below = link(alert("Down", T0 + MINUTE, service="cart"), web, mobile)
    assert (below.incident_id, [other for other, _ in below.unites]) == ("INC-1", ["INC-2"])
    cart, search = open_with(alert("Down", service="cart"), name="INC-1"), open_with(alert("Down", service="search"),
                                                                                    name="INC-2")  # fmt: skip
    above = link(alert("Slow", T0 + MINUTE, service="web"), cart, search)
    assert above.incident_id == "INC-1"
    assert above.unites == ()


def test_a_later_callee_must_explain_where_the_incident_began() -> None:
    began = open_with(alert("Down", service="cart"), alert("Slow", T0 + MINUTE, service="web"))
    assert link(alert("Down", T0 + 3 * MINUTE, service="db"), began).incident_id == "INC-1"
    assert link(alert("Down", T0 + 3 * MINUTE, service="search"), began).incident_id is None
    assert link(alert("Down", T0 + MINUTE, service="search"), began).incident_id == "INC-1"


def test_a_caller_s_own_resource_is_no_late_effect() -> None:
    began = open_with(alert("Slow", service="cart"))
    assert link(alert("QueueGrowing", T0 + 9 * MINUTE, service="web"), began).incident_id == "INC-1"
    assert link(alert("HighCPU", T0 + 9 * MINUTE, service="web"), began).incident_id is None


def test_services_that_fire_together_time_and_again_are_related() -> None:
    history = [
        alert("Slow", T0 + day * 1440 * MINUTE + k * SECOND, service=service)
        for day in range(4)
        for k, service in enumerate(("search", "mail"))
    ]
    now = T0 + 5 * 1440 * MINUTE
    today = open_with(alert("Slow", now, service="search"))
    found = link(alert("Slow", now + SECOND, service="mail"), today, learnt=history)
    assert found.incident_id == "INC-1"
    assert "fired together 4 of 4 times" in found.reason
    assert link(alert("Slow", now + SECOND, service="mail"), today, learnt=history[:4]).incident_id is None


def test_what_fires_all_the_time_has_no_habits() -> None:
    companions = Companions()
    for i in range(200):
        companions.learn("noisy", (), T0 + i * 31 * MINUTE)
        companions.learn("search", (), T0 + i * 31 * MINUTE + i % 31 * MINUTE)
    assert companions.times("noisy", "search") == (0, 0)


@given(st.permutations(range(5)))
def test_the_order_of_incidents_does_not_matter(order: list[int]) -> None:
    every = [open_with(alert("Slow", T0 + i * SECOND, service=s, node="n1"), name=f"INC-{i}")
             for i, s in enumerate(("web", "mobile", "search", "jobs", "mail"))]  # fmt: skip
    signal = alert("HostDown", T0 + 20 * SECOND, node="n1")
    assert link(signal, *(every[i] for i in order)) == link(signal, *every)


def test_united_incidents_are_one_page_thread_and_say_why(database: StateDatabase) -> None:
    desk = two_callers(database)
    desk.service.submit([alert("Down", desk.clock.now, service="cart")])
    newest = {i.id: i for i in desk.service.list(SYSTEM)}
    over, left = newest["INC-2"], newest["INC-1"]
    assert (over.status, over.merged_into) == (IncidentStatus.MERGED, "INC-1")
    assert "Down explains both" in over.timeline[-1].detail
    assert {s.alert.name for s in left.signals} == {"SlowA", "SlowB", "Down"}
    assert any("Down explains both" in e.detail for e in left.timeline if e.event == "merged")
    assert ("pager", "resolved") in desk.told()
    desk.end(alert("SlowB", service="mobile"))
    assert desk.service.get("INC-1", SYSTEM).active


def two_callers(database: StateDatabase) -> Desk:
    desk = Desk(database, Causes(clear=False))
    desk.causes.edges = (("web", "cart"), ("mobile", "cart"))  # type: ignore[union-attr]
    desk.service.submit([alert("SlowA", service="web")])
    desk.service.submit([alert("SlowB", service="mobile")])
    desk.pass_time(30 * SECOND)
    assert len(desk.service.list(SYSTEM)) == 2
    return desk


def test_what_people_took_on_is_not_merged_behind_their_backs(database: StateDatabase) -> None:
    desk = two_callers(database)
    desk.service.acknowledge("INC-2", SYSTEM)
    desk.service.submit([alert("Down", desk.clock.now, service="cart")])
    assert [i.status for i in desk.service.list(SYSTEM)].count(IncidentStatus.MERGED) == 0


def test_one_clear_cause_unites_only_those_that_call_it(database: StateDatabase) -> None:
    causes = Causes(CauseCandidate("cart", 0.8, reasons=("cpu",)), clear=False)
    causes.edges = (("web", "shop"), ("shop", "cart"), ("mobile", "app"), ("app", "cart"))
    desk = Desk(database, causes)
    for name, service in (("SlowA", "web"), ("SlowB", "mobile"), ("SlowC", "mail")):
        desk.service.submit([alert(name, service=service)])
    causes.diagnosis = replace(causes.diagnosis, clear_cause=True)
    desk.pass_time(20 * SECOND)
    merged = {i.id: i.merged_into for i in desk.service.list(SYSTEM)}
    assert merged == {"INC-1": "", "INC-2": "INC-1", "INC-3": ""}
    reason = desk.service.get("INC-2", SYSTEM).timeline[-1].detail
    assert "cart is the likely cause of both" in reason


def test_a_side_effect_that_returns_is_an_incident_of_its_own(database: StateDatabase) -> None:
    desk = Desk(database, Causes(clear=False))
    lead, side = alert("Down", service="cart"), alert("Slow", T0 + SECOND, service="web")
    desk.service.submit([lead, side])
    desk.clock.now += 5 * MINUTE
    desk.end(side)
    desk.end(lead)
    desk.pass_time(3 * MINUTE)
    assert desk.only.status is IncidentStatus.RESOLVED
    again = replace(side, starts_ms=desk.clock.now, updated_ms=desk.clock.now)
    desk.service.submit([again])
    assert {i.id: i.status for i in desk.service.list(SYSTEM)} == {
        "INC-1": IncidentStatus.RESOLVED, "INC-2": IncidentStatus.OPEN,
    }  # fmt: skip
    desk.pass_time(MINUTE)
    desk.end(again)
    desk.pass_time(3 * MINUTE)
    assert desk.service.get("INC-2", SYSTEM).status is IncidentStatus.RESOLVED


def test_habits_survive_a_restart(database: StateDatabase) -> None:
    desk = Desk(database, Causes(clear=False))
    for day in range(4):
        desk.clock.now = T0 + day * 1440 * MINUTE
        pair = [alert("Slow", desk.clock.now, service=s, day=str(day)) for s in ("search", "mail")]
        desk.service.submit(pair)
        desk.clock.now += MINUTE
        for signal in pair:
            desk.end(signal)
        desk.pass_time(3 * MINUTE)
    desk.clock.now = T0 + 5 * 1440 * MINUTE
    again = desk.restarted()
    again.submit([alert("Slow", desk.clock.now, service=s, day="5") for s in ("search", "mail")])
    newest = max(again.list(SYSTEM), key=lambda i: i.opened_ms)
    assert len(newest.signals) == 2
    assert "fired together 4 of 4 times" in newest.signals[1].reason
