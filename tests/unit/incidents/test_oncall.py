"""Who is told by whom is on call, gaps and schedules that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from aiops.core.errors import ConfigError, TransientError
from aiops.core.incident import Shift
from aiops.core.ports import PluginContext, PluginOptions, ScheduleSource
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.oncall import AHEAD_MS, OnCall
from aiops.incidents.routing import Route, routes_of
from aiops.settings import IncidentSettings, ReceiverSettings
from aiops.store.state.database import StateDatabase
from aiops.store.state.incidents import IncidentRepository
from tests.unit.incidents.signals import MINUTE, T0, alert
from tests.unit.incidents.test_lifecycle import Desk

HOUR = 3_600_000
ROTA = (Shift("Alice", T0 - HOUR, T0 + HOUR), Shift("Bob", T0 + 2 * HOUR, T0 + 4 * HOUR))
ROUTES = (
    Route("alice", schedule="shop", person="Alice"),
    Route("bob", schedule="shop", person="Bob"),
    Route("lead", schedule="shop", fallback=True),
)


class Rota(ScheduleSource[PluginOptions]):
    interval_s = 0.01

    def __init__(self, *shifts: Shift) -> None:
        super().__init__(PluginOptions(), PluginContext("shop", lambda: T0))
        self.found: Sequence[Shift] = shifts
        self.away = False
        self.reads = 0

    def shifts(self, start_ms: int, end_ms: int) -> Sequence[Shift]:
        self.reads += 1
        if self.away:
            raise TransientError("the calendar is away")
        return self.found


class Rostered(Desk):
    def restarted(self) -> IncidentService:
        self.rota = Rota(*ROTA)
        self.oncall = OnCall({"shop": self.rota}, self.clock)
        self.oncall.read()
        self.service = IncidentService(
            IncidentRepository(self.database), None, self.routes, IncidentSettings(), self.clock,
            duty=self.oncall.duty, background=False,
        )  # fmt: skip
        return self.service


@pytest.fixture
def desk(database: StateDatabase) -> Rostered:
    return Rostered(database, None, *ROUTES)


def test_the_person_on_call_is_told(desk: Rostered) -> None:
    desk.service.submit([alert("Down", service="web")])
    assert desk.told() == [("alice", "opened")]


def test_after_the_change_the_next_person_is_told_of_what_is_still_open(desk: Rostered) -> None:
    desk.clock.now = T0 + 2 * HOUR
    desk.service.submit([alert("Down", start=T0 + 2 * HOUR, service="web")])
    assert desk.told() == [("bob", "opened")]


def test_a_gap_goes_to_the_fallback_and_says_so(desk: Rostered) -> None:
    desk.clock.now = T0 + 90 * MINUTE
    desk.service.submit([alert("Down", start=desk.clock.now, service="web")])
    assert desk.told() == [("lead", "opened")]
    (told,) = (e for e in desk.only.timeline if e.event == "told")
    assert told.detail == "lead; nobody is on call by schedule 'shop'"


def test_a_schedule_never_read_goes_to_the_fallback(database: StateDatabase) -> None:
    desk = Rostered(database, None, *ROUTES)
    desk.rota.away = True
    desk.oncall = OnCall({"shop": desk.rota}, desk.clock)
    desk.oncall.read()
    assert desk.oncall.duty("shop", T0).gap == "schedule 'shop' could not be read: the calendar is away"
    assert desk.oncall.failing() == {"shop": "the calendar is away"}


def test_what_was_read_holds_while_the_source_is_away(desk: Rostered) -> None:
    desk.rota.away = True
    desk.oncall.read()
    assert desk.oncall.duty("shop", T0).people == {"Alice"}
    assert desk.oncall.duty("shop", T0 + 3 * HOUR).people == {"Bob"}
    late = desk.oncall.duty("shop", T0 + AHEAD_MS + HOUR)
    assert "for a week" in late.gap
    desk.rota.away = False
    desk.oncall.read()
    assert desk.oncall.failing() == {}


def test_two_people_at_once_and_anybody(database: StateDatabase) -> None:
    anybody = Route("team", schedule="shop")
    desk = Rostered(database, None, *ROUTES, anybody)
    desk.rota.found = (*ROTA, replace(ROTA[0], person="Bob"))
    desk.oncall.read()
    desk.service.submit([alert("Down", service="web")])
    assert {name for name, _ in desk.told()} == {"alice", "bob", "team"}


def test_reads_on_threads_until_stopped(desk: Rostered) -> None:
    desk.oncall.start()
    while desk.rota.reads < 3:
        pass
    desk.oncall.stop()
    assert not any(loop.running for loop in desk.oncall._loops)


def test_a_person_without_a_schedule_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="need a schedule"):
        routes_of({"x": ReceiverSettings(plugin="webhook", person="Alice")}, {"x": False})
