"""Changes passed on to receivers: to whom, once, and again after a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from aiops.core.errors import ConfigError
from aiops.core.job import JobStatus
from aiops.core.plugins import build
from aiops.core.ports import Notifier, PluginContext
from aiops.core.signals import ChangeEvent
from aiops.core.untrusted import Untrusted
from aiops.incidents.change_notices import KIND, ChangeNotices
from aiops.jobs.queue import JobQueue
from aiops.jobs.worker import Worker
from aiops.settings import ReceiverSettings
from aiops.store.state.database import StateDatabase
from aiops.store.state.jobs import JobRepository
from tests.contract.peers import Answer, Peer, peer
from tests.unit.incidents.signals import T0

DEPLOY = ChangeEvent(T0, "deploy", "cart", Untrusted("cart 1.4.2"), environment="prod", attributes=(("team", "shop"),))
TOKEN = "routing-key"


class Desk:
    def __init__(self, database: StateDatabase, url: str, **settings: Any) -> None:
        self.now = T0
        options = {"routing_key": TOKEN, "url": url, "timeout_s": 1}
        self.notifier: Notifier[Any] = build("connectors.notifiers", "pagerduty", options, PluginContext("oncall"))
        entry = ReceiverSettings.model_validate({"plugin": "pagerduty", "changes": True, **settings})
        rows = JobRepository(database)
        self.queue = JobQueue(rows, lambda: self.now)
        self.notices = ChangeNotices({"oncall": entry}, {"oncall": self.notifier}, self.queue)
        self.worker = Worker(rows, {KIND: self.notices.run}, lambda: self.now)

    def work(self) -> None:
        while self.worker.run_once():
            pass


Open = Callable[..., Desk]


@pytest.fixture
def desk_of(database: StateDatabase, pager: Peer) -> Iterator[Open]:
    with ExitStack() as stack:

        def make(**settings: Any) -> Desk:
            desk = Desk(database, pager.url, **settings)
            stack.callback(desk.notifier.close)
            return desk

        yield make


@pytest.fixture
def pager() -> Iterator[Peer]:
    with peer(Answer(202, b"{}")) as server:
        yield server


def test_a_change_is_shown_once_however_often_it_comes(desk_of: Open, pager: Peer) -> None:
    desk = desk_of()
    desk.notices.tell([DEPLOY, DEPLOY])
    desk.work()
    desk.notices.tell([DEPLOY])
    desk.work()
    assert [sent.json["payload"]["summary"] for sent in pager.received] == ["cart 1.4.2"]


@pytest.mark.parametrize(
    ("matchers", "told"),
    [(["service=cart"], 1), (["environment=prod", "team=shop"], 1), (["service=web"], 0), (["kind!=deploy"], 0)],
)
def test_matchers_choose_the_changes(desk_of: Open, pager: Peer, matchers: list[str], told: int) -> None:
    desk = desk_of(matchers=matchers)
    desk.notices.tell([DEPLOY])
    desk.work()
    assert len(pager.received) == told


def test_a_receiver_that_is_away_is_told_later(desk_of: Open, pager: Peer) -> None:
    desk = desk_of()
    pager.then(Answer(503, b""))
    desk.notices.tell([DEPLOY])
    desk.work()
    desk.now += 60_000
    desk.work()
    assert len(pager.received) == 2
    (job,) = desk.queue.list()
    assert (job.status, job.attempts) == (JobStatus.DONE, 2)
    assert TOKEN not in str(job)


def test_a_refusal_ends_it(desk_of: Open, pager: Peer) -> None:
    desk = desk_of()
    pager.then(Answer(400, b'{"status":"invalid event"}'))
    desk.notices.tell([DEPLOY])
    desk.work()
    (job,) = desk.queue.list()
    assert job.status is JobStatus.FAILED


def test_a_kind_that_shows_no_changes_stops_the_start(database: StateDatabase) -> None:
    notifier: Notifier[Any] = build(
        "connectors.notifiers", "webhook", {"url": "http://127.0.0.1:9"}, PluginContext("x")
    )
    entry = ReceiverSettings.model_validate({"plugin": "webhook", "changes": True})
    with pytest.raises(ConfigError, match="Receiver 'hook': a webhook receiver shows no changes"):
        ChangeNotices({"hook": entry}, {"hook": notifier}, JobQueue(JobRepository(database)))
    notifier.close()
