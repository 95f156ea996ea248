"""The Apprise notifier: a real Apprise posts to a loopback server."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aiops.core.errors import ConfigError, TransientError
from aiops.core.incident import NotificationEvent
from aiops.core.plugins import build
from aiops.core.ports import Notifier, PluginContext
from tests.contract.incidents import T0, notification
from tests.contract.peers import Answer, peer

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
TOKEN = "very-secret-token"


def made(*urls: str, timeout_s: float = 0.5) -> Notifier[Any]:
    options = {"urls": list(urls), "timeout_s": timeout_s}
    built = build("connectors.notifiers", "apprise", options, PluginContext("tail", lambda: T0))
    assert isinstance(built, Notifier)
    return built


def test_posts_title_text_and_kind() -> None:
    with peer() as server:
        notifier = made(f"json://{server.url.removeprefix('http://')}/{TOKEN}")
        for event in (NotificationEvent.OPENED, NotificationEvent.RESOLVED):
            notifier.notify(notification(event))
    opened, over = (received.json for received in server.received)
    assert opened["title"] == "[simulated] INC-7: checkout: latency p95 1.9 s, 7.9x normal"
    assert "cart (71%)" in opened["message"]
    assert (opened["type"], over["type"]) == ("failure", "success")


@pytest.mark.parametrize("answer", [Answer(500), Answer(404), Answer(delay_s=1.5)])
def test_any_failure_is_tried_again(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with peer() as server:
        server.then(answer)
        notifier = made(f"json://{server.url.removeprefix('http://')}/{TOKEN}")
        with pytest.raises(TransientError) as caught:
            notifier.notify(notification(NotificationEvent.OPENED))
    shown = [str(caught.value), repr(notifier.options)]
    shown += [r.getMessage() for r in caplog.records if not r.name.startswith(("urllib3", "requests"))]
    assert TOKEN not in "\n".join(shown)


def test_an_unknown_url_stops_the_start_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="URL 1") as caught:
        made(f"nosuchservice://{TOKEN}")
    assert TOKEN not in str(caught.value)
