from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aiops.core.errors import NotFound, PermanentError, TransientError
from aiops.core.incident import DeliveryStatus, Notification, NotificationEvent
from aiops.core.ports import Notifier, PluginContext, PluginOptions
from aiops.incidents.notify import DeliveryPolicy, Dispatcher
from aiops.incidents.transitions import opened
from aiops.store.state.database import StateDatabase
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.outbox import OutboxRepository
from tests.unit.incidents.signals import T0, anomaly


class Mailbox(Notifier[PluginOptions]):
    """A receiver that fails as scripted."""

    def __init__(self) -> None:
        super().__init__(PluginOptions(), PluginContext("box"))
        self.script: list[Exception] = []
        self.got: list[Notification] = []
        self.gate = threading.Event()
        self.gate.set()

    def notify(self, notification: Notification) -> str:
        self.gate.wait(20)
        if self.script:
            raise self.script.pop(0)
        self.got.append(notification)
        return notification.thread or f"thread-{notification.dedup_key}"

    @property
    def events(self) -> list[str]:
        return [n.event.value for n in self.got]


class Post:
    def __init__(self, database: StateDatabase, policy: DeliveryPolicy | None = None) -> None:
        self.now = T0
        self.incidents = IncidentRepository(database)
        self.outbox = OutboxRepository(database)
        self.boxes = {"a": Mailbox(), "b": Mailbox()}
        self.dispatcher = Dispatcher(self.outbox, self.boxes, lambda: self.now, policy or DeliveryPolicy(min_age_ms=0))
        self.count = 0

    def send(
        self, receiver: str = "a", event: NotificationEvent = NotificationEvent.OPENED, name: str = "INC-1"
    ) -> str:
        incident = opened(name, anomaly("web"), T0)
        self.count += 1
        notification = Notification(f"n{self.count}", receiver, event, incident, self.now, name)
        self.incidents.save(incident, [notification])
        return notification.id


@pytest.fixture
def post(database: StateDatabase) -> Iterator[Post]:
    made = Post(database)
    yield made
    made.dispatcher.stop()


def test_delivers_in_order_and_in_one_thread(post: Post) -> None:
    post.send()
    post.send(event=NotificationEvent.UPDATED)
    post.send(event=NotificationEvent.RESOLVED)
    for _ in range(3):
        post.dispatcher.run_once()
    assert post.boxes["a"].events == ["opened", "updated", "resolved"]
    assert [n.thread for n in post.boxes["a"].got] == ["", "thread-INC-1", "thread-INC-1"]
    assert post.dispatcher.run_once() == 0


def test_failures_are_retried_later_and_keep_the_order(post: Post) -> None:
    post.boxes["a"].script = [TransientError("down"), TransientError("down")]
    post.send()
    post.send(event=NotificationEvent.RESOLVED)
    post.dispatcher.run_once()
    assert post.dispatcher.run_once() == 0
    for _ in range(6):
        post.now += 10_000
        post.dispatcher.run_once()
    assert post.boxes["a"].events == ["opened", "resolved"]


def test_one_failing_receiver_does_not_hold_up_another(post: Post) -> None:
    post.boxes["a"].script = [TransientError("down")]
    post.send("a")
    post.send("b")
    assert post.dispatcher.run_once() == 1
    assert post.boxes["b"].events == ["opened"]


def test_a_hanging_receiver_does_not_hold_up_another(post: Post) -> None:
    post.boxes["a"].gate.clear()
    post.send("a")
    post.dispatcher.start(interval_s=0.02)
    post.send("b", name="INC-2")
    deadline = time.monotonic() + 20
    while not post.boxes["b"].got and time.monotonic() < deadline:
        time.sleep(0.02)
    assert post.boxes["b"].events == ["opened"]
    post.boxes["a"].gate.set()


def test_retry_after_pauses_the_whole_receiver(post: Post) -> None:
    post.boxes["a"].script = [TransientError("slow down", retry_after_s=60)]
    post.send(name="INC-1")
    post.dispatcher.run_once()
    post.send(name="INC-2")
    post.now += 30_000
    assert post.dispatcher.run_once() == 0
    post.now += 31_000
    assert post.dispatcher.run_once() == 2


def test_a_refusal_is_a_dead_letter_that_can_be_sent_again(post: Post) -> None:
    post.boxes["a"].script = [PermanentError("no such channel")]
    name = post.send()
    post.dispatcher.run_once()
    (letter,) = post.outbox.list(DeliveryStatus.DEAD)
    assert (letter.status, letter.last_error) == (DeliveryStatus.DEAD, "no such channel")
    post.dispatcher.resend(name)
    assert post.dispatcher.run_once() == 1
    assert post.outbox.list(DeliveryStatus.DEAD) == ()


def test_gives_up_after_the_last_attempt(database: StateDatabase) -> None:
    post = Post(database, DeliveryPolicy(max_attempts=3, min_age_ms=0))
    post.boxes["a"].script = [TransientError("down")] * 9
    post.send()
    for _ in range(5):
        post.dispatcher.run_once()
        post.now += 600_000
    (letter,) = post.outbox.list(DeliveryStatus.DEAD)
    assert letter.attempts == 3
    assert "Gave up after 3 attempts" in letter.last_error
    post.dispatcher.stop()


def test_a_young_notification_is_not_given_up(database: StateDatabase) -> None:
    post = Post(database, DeliveryPolicy(max_attempts=1, min_age_ms=3_600_000))
    post.boxes["a"].script = [TransientError("down")] * 3
    post.send()
    for _ in range(5):
        post.dispatcher.run_once()
        post.now += 10_000
    assert post.boxes["a"].events == ["opened"]
    post.dispatcher.stop()


def test_a_plug_in_that_breaks_is_a_dead_letter(post: Post) -> None:
    post.boxes["a"].script = [ZeroDivisionError("secret text")]
    post.send()
    post.dispatcher.run_once()
    assert post.outbox.list(DeliveryStatus.DEAD)[0].last_error == "The plug-in failed: ZeroDivisionError."


def test_a_receiver_that_is_gone_is_a_dead_letter(post: Post) -> None:
    post.send("gone")
    post.dispatcher.run_once()
    assert "no receiver 'gone'" in post.outbox.list(DeliveryStatus.DEAD)[0].last_error


def test_the_rate_is_limited_per_receiver(database: StateDatabase) -> None:
    post = Post(database, DeliveryPolicy(per_minute=5))
    for i in range(12):
        post.send(name=f"INC-{i}")
    rounds = []
    for _ in range(4):
        rounds.append(post.dispatcher.run_once())
        post.now += 61_000
    assert rounds[:3] == [5, 5, 2]
    assert {d.attempts for d in post.outbox.list()} == {1}, "waiting for a turn is no attempt"
    post.dispatcher.stop()


def test_what_a_killed_service_had_claimed_is_delivered_by_the_next(post: Post, database: StateDatabase) -> None:
    post.send()
    post.outbox.due(post.now)
    assert post.dispatcher.run_once() == 0
    heir = Post(database)
    heir.boxes["a"] = post.boxes["a"]
    heir.dispatcher = Dispatcher(heir.outbox, heir.boxes, lambda: heir.now)
    heir.dispatcher.start(interval_s=0.02)
    deadline = time.monotonic() + 20
    while not post.boxes["a"].got and time.monotonic() < deadline:
        time.sleep(0.02)
    heir.dispatcher.stop()
    assert post.boxes["a"].events == ["opened"]


def test_everything_arrives_from_receivers_that_fail_half_the_time(database: StateDatabase) -> None:
    import random

    rng = random.Random(7)
    post = Post(database, DeliveryPolicy(per_minute=10_000))

    class Moody(Mailbox):
        def notify(self, notification: Notification) -> str:
            if rng.random() < 0.5:
                raise TransientError("no")
            return super().notify(notification)

    box: Any = Moody()
    post.dispatcher = Dispatcher(post.outbox, {"a": box}, lambda: post.now, DeliveryPolicy(per_minute=10_000))
    sent = {post.send(name=f"INC-{i}") for i in range(100)}
    for _ in range(60):
        post.dispatcher.run_once()
        post.now += 60_000
    assert {n.id for n in box.got} == sent
    assert len(box.got) == 100
    post.dispatcher.stop()


def test_test_message_goes_past_the_outbox(post: Post) -> None:
    assert post.dispatcher.test("a").startswith("thread-TEST-")
    assert post.boxes["a"].events == ["test"]
    assert post.outbox.list() == ()
    with pytest.raises(NotFound, match="'c'"):
        post.dispatcher.test("c")
    post.boxes["a"].script = [PermanentError("wrong token")]
    with pytest.raises(PermanentError):
        post.dispatcher.test("a")
