"""The routing tree as it reaches people: receivers, groups that are incidents, repeats."""

from __future__ import annotations

from typing import Any

import pytest

from aiops.core.errors import ConfigError
from aiops.core.principal import SYSTEM
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.route_tree import tree_of
from aiops.incidents.routing import routes_of
from aiops.settings import IncidentSettings, ReceiverSettings, RouteSettings
from aiops.store.state.database import StateDatabase
from aiops.store.state.incidents import IncidentRepository
from tests.unit.incidents.signals import MINUTE, T0, alert
from tests.unit.incidents.test_lifecycle import Desk

NAMES = ("oncall", "data", "shop")


class Routed(Desk):
    """A desk whose receivers hear by a tree."""

    def __init__(self, database: StateDatabase, route: dict[str, Any]) -> None:
        self.tree = tree_of(RouteSettings.model_validate(route), NAMES)
        entries = {name: ReceiverSettings(plugin="webhook", repeat_s=0) for name in NAMES}
        super().__init__(database, None, *routes_of(entries, dict.fromkeys(NAMES, False), self.tree))

    def restarted(self) -> IncidentService:
        self.service = IncidentService(
            IncidentRepository(self.database), None, self.routes, IncidentSettings(), self.clock,
            tree=self.tree, background=False,
        )  # fmt: skip
        return self.service

    def incidents(self) -> list[list[str]]:
        """The names of the alerts of each incident, the oldest first."""
        found = self.service.list(SYSTEM)
        return [[s.alert.name for s in i.signals] for i in sorted(found, key=lambda i: (i.opened_ms, i.id))]


BY_TEAM = {
    "receivers": ["oncall"],
    "routes": [
        {"matchers": ["team=data"], "receivers": ["data"], "group_by": ["cluster"], "repeat_s": 300},
        {"matchers": ["team=shop"], "receivers": ["shop", "oncall"]},
    ],
}


@pytest.mark.parametrize(("team", "told"), [("data", ["data"]), ("shop", ["oncall", "shop"]), ("search", ["oncall"])])
def test_a_team_hears_of_its_own(database: StateDatabase, team: str, told: list[str]) -> None:
    desk = Routed(database, BY_TEAM)
    desk.service.submit([alert("Down", service="web", team=team)])
    assert sorted(name for name, _ in desk.told()) == told


def test_a_group_is_one_incident_whatever_correlation_would_say(database: StateDatabase) -> None:
    desk = Routed(database, BY_TEAM)
    desk.service.submit([alert("Full", service="disk", team="data", cluster="eu")])
    desk.service.submit([alert("Late", T0 + 40 * MINUTE, service="loader", team="data", cluster="eu")])
    desk.service.submit([alert("Full", T0 + 1000, service="disk", team="data", cluster="us")])
    assert desk.incidents() == [["Full", "Late"], ["Full"]]
    first = next(i for i in desk.service.list(SYSTEM) if len(i.signals) == 2)
    assert first.signals[1].reason == "same group: cluster=eu"


def test_without_group_by_correlation_decides_and_keeps_out_of_the_groups(database: StateDatabase) -> None:
    desk = Routed(database, BY_TEAM)
    desk.service.submit([alert("Full", service="web", team="data", cluster="eu")])
    desk.service.submit([alert("Down", T0 + 1000, service="web", team="shop", cluster="eu")])
    desk.service.submit([alert("Slow", T0 + 2000, service="web", team="shop", cluster="eu")])
    assert desk.incidents() == [["Full"], ["Down", "Slow"]]


@pytest.mark.parametrize(("by", "groups"), [(["..."], 3), ([], 1), (["cluster", "alertname"], 2)])
def test_what_makes_a_group(database: StateDatabase, by: list[str], groups: int) -> None:
    desk = Routed(database, {"receivers": ["oncall"], "group_by": by})
    desk.service.submit(
        [alert("Full", service=s, cluster="eu") for s in ("a", "b")] + [alert("Late", service="c", cluster="eu")]
    )
    assert len(desk.incidents()) == groups


def test_a_node_says_how_often_its_receivers_are_told_again(database: StateDatabase) -> None:
    desk = Routed(database, BY_TEAM)
    desk.service.submit([alert("Full", service="disk", team="data", cluster="eu")])
    desk.service.submit([alert("Down", service="web", team="shop")])
    desk.pass_time(11 * MINUTE, 5000)
    assert desk.told().count(("data", "updated")) == 2
    assert ("shop", "updated") not in desk.told()


def test_a_group_lives_on_after_a_restart(database: StateDatabase) -> None:
    desk = Routed(database, BY_TEAM)
    desk.service.submit([alert("Full", service="disk", team="data", cluster="eu")])
    desk.restarted()
    desk.service.submit([alert("Late", T0 + MINUTE, service="loader", team="data", cluster="eu")])
    assert desk.incidents() == [["Full", "Late"]]


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ({"receivers": ["nobody"]}, "incidents.route: there is no receiver 'nobody'"),
        ({"matchers": ["a=b"]}, "takes everything"),
        ({"routes": [{"matchers": ["a=b"]}, {"matchers": ["?"]}]}, r"incidents\.route\.routes\[1\]: '\?' is not"),
    ],
)
def test_a_tree_that_cannot_be_used_stops_the_start(route: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tree_of(RouteSettings.model_validate(route), NAMES)
