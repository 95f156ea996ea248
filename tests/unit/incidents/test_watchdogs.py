"""Heartbeats that should come, and our own."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from aiops.api.components import watchdog_components
from aiops.api.services import Component, ComponentState
from aiops.core.errors import ConfigError, TransientError
from aiops.core.incident import IncidentStatus
from aiops.core.series import labels_of
from aiops.incidents.watchdogs import Watchdogs
from aiops.settings import HeartbeatSettings, IncidentSettings
from aiops.store.state.database import StateDatabase
from aiops.wiring.heartbeat import heartbeat, send_sign
from tests.contract.peers import Answer, peer
from tests.unit.incidents.signals import MINUTE
from tests.unit.incidents.test_lifecycle import Desk

BEAT = [labels_of({"alertname": "Watchdog", "prometheus": "a"})]
SETTINGS = {"watchdogs": {"prom-a": {"matchers": ["prometheus=a"], "timeout_s": 300}}}


def watched(desk: Desk, settings: dict[str, Any] = SETTINGS) -> Watchdogs:
    return Watchdogs(desk.service, IncidentSettings.model_validate(settings), desk.clock)


@pytest.fixture
def desk(database: StateDatabase) -> Desk:
    return Desk(database, None)


def test_silence_pages_once_and_the_return_resolves(desk: Desk) -> None:
    dogs = watched(desk)
    for _ in range(8):
        desk.clock.now += MINUTE
        dogs.beat("alertmanager", BEAT)
        dogs.check()
    assert desk.told() == []
    for _ in range(5):
        desk.clock.now += MINUTE
        dogs.check()
        desk.service.tick(desk.clock.now)
    assert desk.told().count(("pager", "opened")) == 1
    assert "prom-a" in desk.only.signals[0].alert.summary.raw
    assert dogs.states() == [("prom-a", desk.clock.now - 5 * MINUTE, True)]
    (shown,) = watchdog_components(dogs)
    assert (shown.name, shown.state, shown.required) == ("heartbeat prom-a", ComponentState.DEGRADED, False)
    dogs.beat("alertmanager", BEAT)
    dogs.check()
    assert not dogs.states()[0][2]
    assert watchdog_components(dogs)[0].state is ComponentState.READY
    desk.pass_time(30 * MINUTE, 5000)
    assert desk.only.status is IncidentStatus.RESOLVED
    assert ("pager", "resolved") in desk.told()


@pytest.mark.parametrize(("source", "labels"), [("alertmanager", {"prometheus": "b"}), ("other", {"prometheus": "a"})])
def test_only_the_expected_heartbeat_counts(desk: Desk, source: str, labels: dict[str, str]) -> None:
    dogs = watched(desk)
    desk.clock.now += 5 * MINUTE
    dogs.beat(source, [labels_of({"alertname": "Watchdog", **labels})])
    dogs.check()
    assert dogs.states()[0][2]


def test_a_store_that_is_away_is_asked_again(desk: Desk) -> None:
    class Away:
        def submit(self, alerts: Any) -> None:
            raise TransientError("away")

    dogs = Watchdogs(Away(), IncidentSettings.model_validate(SETTINGS), desk.clock)
    desk.clock.now += 5 * MINUTE
    with pytest.raises(TransientError):
        dogs.check()
    dogs.beat("alertmanager", BEAT)
    with pytest.raises(TransientError):
        dogs.check()
    assert dogs.states()[0][2]


def test_matchers_are_checked_at_the_start(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"watchdogs\.x"):
        watched(desk, {"watchdogs": {"x": {"matchers": ["a"]}}})


def test_without_expectations_no_thread_runs(desk: Desk) -> None:
    before = threading.active_count()
    watched(desk, {}).start()
    assert threading.active_count() == before


def test_our_heartbeat_is_sent_while_all_is_well() -> None:
    ready = Component("store", ComponentState.READY, required=True)
    with peer(Answer(200)) as server:
        settings = HeartbeatSettings.model_validate({"url": f"{server.url}/ping/secret", "interval_s": 1})
        send_sign(settings, lambda: (ready, Component("source", ComponentState.DOWN)))
        assert [r.path for r in server.received] == ["/ping/secret"]
        with pytest.raises(TransientError, match="store is not ready"):
            send_sign(settings, lambda: (replace(ready, state=ComponentState.DOWN),))
        assert len(server.received) == 1
        server.then(Answer(500))
        with pytest.raises(TransientError):
            send_sign(settings, lambda: (ready,))
        loop = heartbeat(settings, lambda: (ready,))
        assert loop is not None
        loop.start()
        while len(server.received) < 3:
            time.sleep(0.01)
        loop.stop()
        assert not loop.running
    assert heartbeat(HeartbeatSettings(), lambda: ()) is None


def test_a_failing_heartbeat_is_logged_once_and_without_its_address(caplog: pytest.LogCaptureFixture) -> None:
    sign = heartbeat(HeartbeatSettings.model_validate({"url": "http://127.0.0.1:9/secret"}), lambda: ())
    assert sign is not None
    sign._turn()
    sign._turn()
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("aiops")]
    assert len(ours) == 1
    assert "secret" not in ours[0]
