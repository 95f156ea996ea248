"""Incidents that were seen before, postmortems, who depends on the cause, and the feed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aiops.core.incident import Incident, IncidentStatus
from aiops.incidents.call_paths import callers_of
from aiops.incidents.feed import Feed
from aiops.incidents.precedents import precedents
from aiops.incidents.transitions import noted, opened
from aiops.reports import postmortem
from aiops.store.state.database import StateDatabase
from tests.contract.incidents import INCIDENT
from tests.unit.incidents.signals import MINUTE, T0, alert, anomaly
from tests.unit.incidents.test_lifecycle import ALICE, Desk


def past(number: int, *, service: str = "web", name: str = "Down", cause: str = "db", ending: str = "") -> Incident:
    made = replace(opened(f"INC-{number}", alert(name, service=service), T0), cause_service=cause)
    made = replace(made, status=IncidentStatus.RESOLVED, resolved_ms=T0 + number * MINUTE)
    return noted(made, T0, "alice", "note", ending) if ending else made


NOW = replace(opened("INC-9", alert("Down", service="web"), T0), cause_service="db")


def test_the_most_alike_come_first_with_what_ended_them() -> None:
    twin, cousin, stranger = (
        past(1, ending="restarted db"),
        past(2, cause="cart"),
        past(3, service="x", name="y", cause="z"),
    )
    found = precedents(NOW, [stranger, cousin, twin])
    assert [s.incident.id for s in found] == ["INC-1", "INC-2"]
    assert found[0].score == pytest.approx(1.0)
    assert found[0].ended_by == ("note by alice: restarted db",)
    assert "service web" in found[1].common
    assert 0.35 <= found[1].score < 1


def test_open_simulated_and_its_own_are_left_out() -> None:
    assert precedents(NOW, [replace(past(1), status=IncidentStatus.OPEN), replace(past(2), simulated=True), NOW]) == []


def test_anomalies_are_alike_by_metric() -> None:
    one = opened("INC-1", anomaly("cart"), T0)
    other = replace(opened("INC-2", anomaly("cart"), T0), status=IncidentStatus.RESOLVED)
    (found,) = precedents(one, [other])
    assert "metric cart latency p95" in found.common


def test_the_service_finds_them_among_its_own(database: StateDatabase) -> None:
    desk = Desk(database, None)
    first = alert("Down", service="web")
    desk.service.submit([first])
    old = desk.only.id
    desk.service.note(old, ALICE, "rolled back")
    desk.service.resolve(old, ALICE, "rollback done")
    desk.clock.now += 3 * 3_600_000
    desk.service.submit([replace(first, fingerprint="f" * 16, starts_ms=desk.clock.now, updated_ms=desk.clock.now)])
    new = next(i for i in desk.service.list(ALICE) if i.id != old)
    (found,) = desk.service.similar(new.id, ALICE)
    assert found.incident.id == old
    assert found.ended_by == ("note by key:alice: rolled back", "resolved by key:alice: rollback done")


def test_who_depends_on_the_cause() -> None:
    edges = [("web", "cart"), ("cart", "db"), ("app", "web"), ("db", "cart"), ("db", "db")]
    assert callers_of("db", edges) == ("cart", "web", "app")
    assert callers_of("app", edges) == ()
    assert callers_of("db", edges, limit=2) == ("cart", "web")


def test_a_postmortem_draft_holds_the_record_and_asks_the_rest() -> None:
    incident = replace(INCIDENT, affected=("web", "app"), resolved_ms=T0 + 30 * MINUTE)
    incident = noted(incident, T0 + MINUTE, "key:alice", "acknowledged")
    text = postmortem.markdown(incident, "Europe/Berlin", precedents(NOW, [past(1, ending="restarted db")]))
    for part in ("# Postmortem of INC-7", "## Cause", "cart (71%)", "| 2023-11-14 23:", "acknowledged",
                 "depend on the cause: web, app", "## Seen before", "INC-1", "restarted db", "## Actions"):  # fmt: skip
        assert part in text, part
    assert "<!channel>" not in text
    assert "\u202e" not in text


def test_the_feed_tells_listeners_and_survives_a_bad_one(caplog: pytest.LogCaptureFixture) -> None:
    feed, heard = Feed(), []

    def bad(incident: Incident) -> None:
        raise ValueError("no")

    with feed.listening(bad), feed.listening(heard.append):
        feed.publish(NOW)
    feed.publish(NOW)
    assert heard == [NOW]
    assert "failed" in caplog.text
