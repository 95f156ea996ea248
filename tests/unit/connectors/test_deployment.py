from __future__ import annotations

import json

import pytest

from aiops.core.errors import InvalidInput
from aiops.core.ports import PluginContext
from aiops.core.signals import ChangeEvent
from connectors.inbound.deployment import Deployment, DeploymentOptions

NOW = 1_700_000_000_000


def parse(body: object) -> tuple[ChangeEvent, ...]:
    return Deployment(DeploymentOptions(), PluginContext("ci", lambda: NOW)).parse(json.dumps(body).encode()).changes


def test_reads_a_deploy() -> None:
    (change,) = parse(
        {"service": "web", "version": "1.2", "environment": "prod", "author": "alice", "link": "https://ci/1", "x": 1}
    )
    assert (change.time_ms, change.kind, change.service, change.title.raw) == (NOW, "deploy", "web", "deploy 1.2")
    assert ("version", "1.2") in change.attributes


def test_its_own_time_is_kept_but_never_the_future() -> None:
    (change,) = parse({"service": "web", "time": "2023-11-14T22:10:00Z"})
    assert change.time_ms == 1_699_999_800_000
    assert parse({"service": "web", "time": "2093-01-01T00:00:00Z"})[0].time_ms == NOW


def test_a_list_of_changes() -> None:
    assert [c.kind for c in parse([{"service": "a", "kind": "flag"}, {"service": "b", "kind": "config"}])] == [
        "flag",
        "config",
    ]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "service"),
        ({"service": "a", "link": "javascript:x"}, "link"),
        ({"service": "a", "time": "x"}, "time"),
    ],
)
def test_what_is_wrong_is_named(body: object, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse(body)
