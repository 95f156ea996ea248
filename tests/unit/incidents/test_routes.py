"""Conditions of receivers: how many signals, escalation, repeats; and splitting an incident."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aiops.core.errors import InvalidInput
from aiops.core.incident import IncidentStatus, Severity
from aiops.incidents.routing import Route, routes_of
from aiops.settings import ReceiverSettings
from aiops.store.state.database import StateDatabase
from tests.unit.incidents.signals import MINUTE, alert, anomaly
from tests.unit.incidents.test_lifecycle import ALICE, Desk


def test_settings_become_routes() -> None:
    entry = ReceiverSettings(
        plugin="webhook", min_signals=3, min_kinds=2, escalate_after_s=300, repeat_s=60, matchers=("service=web",)
    )
    (route,) = routes_of({"lead": entry}, {"lead": False})
    assert (route.min_signals, route.min_kinds, route.escalate_after_ms, route.repeat_ms) == (3, 2, 300_000, 60_000)
    assert not route.pages
    assert len(route.matchers) == 1


def test_a_receiver_waits_for_several_signals_of_several_kinds(database: StateDatabase) -> None:
    desk = Desk(database, None, Route("hook"), Route("careful", min_signals=3, min_kinds=2))
    first = alert("Down", service="web")
    desk.service.submit([first])
    desk.service.submit([replace(first, fingerprint="b" * 16)])
    desk.service.submit([replace(first, fingerprint="c" * 16)])
    assert "careful" not in {name for name, _ in desk.told()}
    desk.service.submit([anomaly("web")])
    assert ("careful", "opened") in desk.told()


def test_escalates_what_nobody_takes_on(database: StateDatabase) -> None:
    desk = Desk(database, None, Route("pager", pages=True), Route("lead", pages=True, escalate_after_ms=5 * MINUTE))
    desk.service.submit([alert("Down", service="web")])
    desk.pass_time(4 * MINUTE, 5000)
    assert desk.told() == [("pager", "opened")]
    desk.pass_time(2 * MINUTE, 5000)
    assert ("lead", "opened") in desk.told()
    assert [t for t in desk.told() if t == ("lead", "opened")] == [("lead", "opened")]


def test_does_not_escalate_what_was_acknowledged(database: StateDatabase) -> None:
    desk = Desk(database, None, Route("pager", pages=True), Route("lead", pages=True, escalate_after_ms=5 * MINUTE))
    desk.service.submit([alert("Down", service="web")])
    desk.service.acknowledge(desk.only.id, ALICE)
    desk.pass_time(10 * MINUTE, 5000)
    assert "lead" not in {name for name, _ in desk.told()}


def test_repeats_until_it_is_acknowledged(database: StateDatabase) -> None:
    desk = Desk(database, None, Route("pager", pages=True, repeat_ms=5 * MINUTE), Route("hook"))
    desk.service.submit([alert("Down", service="web")])
    desk.pass_time(11 * MINUTE, 5000)
    assert desk.told().count(("pager", "updated")) == 2
    assert ("hook", "updated") not in desk.told()
    desk.service.acknowledge(desk.only.id, ALICE)
    desk.pass_time(20 * MINUTE, 5000)
    assert desk.told().count(("pager", "updated")) == 2


def test_splits_signals_into_an_incident_of_their_own(database: StateDatabase) -> None:
    desk = Desk(database, None)
    first = alert("Down", service="web")
    other = replace(first, fingerprint="b" * 16, name="Other", severity=Severity.CRITICAL)
    desk.service.submit([first])
    desk.service.submit([other])
    source = desk.only
    assert len(source.signals) == 2
    made = desk.service.split(source.id, ["b" * 16], ALICE, "another fault")
    left = desk.service.get(source.id, ALICE)
    assert [s.alert.name for s in made.signals] == ["Other"]
    assert [s.alert.fingerprint for s in left.signals] == [first.fingerprint]
    assert made.severity is Severity.CRITICAL
    assert left.severity is first.severity
    assert made.signals[0].reason == f"split from {source.id} by key:alice: another fault"
    assert desk.told().count(("pager", "opened")) == 2
    desk.end(other)
    desk.pass_time(30 * MINUTE, 5000)
    assert desk.service.get(made.id, ALICE).status is IncidentStatus.RESOLVED
    assert desk.service.get(source.id, ALICE).active


def test_splitting_none_all_or_unknown_signals_is_refused(database: StateDatabase) -> None:
    desk = Desk(database, None)
    first = alert("Down", service="web")
    desk.service.submit([first, replace(first, fingerprint="b" * 16)])
    one = desk.only
    for wanted in ([], [first.fingerprint, "b" * 16], ["c" * 16]):
        with pytest.raises(InvalidInput):
            desk.service.split(one.id, wanted, ALICE)
