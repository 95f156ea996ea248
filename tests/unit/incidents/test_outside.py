"""What people do in PagerDuty is done here; what we did ourselves and hear again is not done twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiops.core.incident import IncidentStatus
from aiops.core.plugins import build
from aiops.core.ports import InboundParser, PluginContext
from aiops.incidents.outside import synchronise
from aiops.incidents.routing import Route
from aiops.store.state.database import StateDatabase
from tests.unit.incidents.signals import MINUTE, alert
from tests.unit.incidents.test_lifecycle import ALICE, Desk


@pytest.fixture
def desk(database: StateDatabase) -> Desk:
    desk = Desk(database, None, Route("pagerduty", pages=True), Route("slack"))
    desk.service.submit([alert("Down", service="web")])
    return desk


def event(kind: str, key: str, **data: Any) -> bytes:
    body = {"event_type": f"incident.{kind}", "agent": {"summary": "Bob"}, "data": {"incident_key": key, **data}}
    return json.dumps({"event": body}).encode()


def heard(desk: Desk, body: bytes) -> int:
    parser = build("connectors.inbound", "pagerduty", {}, PluginContext("pagerduty", desk.clock))
    assert isinstance(parser, InboundParser)
    found = parser.parse(body)
    assert found.alerts == ()
    return synchronise(desk.service, found.updates, "pagerduty")


def test_acknowledge_reassign_note_and_resolve(desk: Desk) -> None:
    key = desk.only.id
    assert heard(desk, event("acknowledged", key)) == 1
    assert desk.only.status is IncidentStatus.ACKNOWLEDGED
    assert desk.only.assignee == "pagerduty:Bob"
    assert heard(desk, event("reassigned", key, assignees=[{"summary": "Carol"}])) == 1
    assert desk.only.assignee == "Carol"
    note = json.dumps(
        {"event": {"event_type": "incident.annotated", "agent": {"summary": "Bob"},
                   "data": {"incident": {"incident_key": key}, "content": "restarting\u202e it"}}}
    )  # fmt: skip
    assert heard(desk, note.encode()) == 1
    assert desk.only.timeline[-1].detail == "restarting it"
    assert heard(desk, event("resolved", key)) == 1
    assert desk.only.status is IncidentStatus.RESOLVED
    told = desk.told()
    assert ("slack", "acknowledged") in told
    assert ("slack", "resolved") in told
    assert {e for name, e in told if name == "pagerduty"} == {"opened"}


def test_the_echo_of_what_we_did_changes_nothing(desk: Desk) -> None:
    key = desk.only.id
    desk.service.acknowledge(key, ALICE)
    before = desk.only
    assert heard(desk, event("acknowledged", key)) == 0
    assert desk.only == before
    desk.service.resolve(key, ALICE)
    count = len(desk.told())
    assert heard(desk, event("resolved", key)) == 0
    assert heard(desk, event("acknowledged", key)) == 0
    desk.pass_time(20 * MINUTE, 5000)
    assert len(desk.told()) == count


def test_repeats_change_nothing(desk: Desk) -> None:
    key = desk.only.id
    assert [heard(desk, event("acknowledged", key)) for _ in range(3)] == [1, 0, 0]
    carol = event("reassigned", key, assignees=[{"summary": "Carol"}])
    assert [heard(desk, carol) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("kind", ["triggered", "escalated", "priority_updated", "unacknowledged"])
def test_other_events_and_other_incidents_are_left_alone(desk: Desk, kind: str) -> None:
    before = desk.only
    assert heard(desk, event(kind, before.id)) == 0
    assert heard(desk, event("resolved", "somebody-else-s")) == 0
    assert heard(desk, event("resolved", "")) == 0
    assert desk.only == before
