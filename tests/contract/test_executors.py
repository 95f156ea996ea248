"""Every executor, found by discovery, against a loopback server that speaks its provider's protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from aiops.core.action import Action
from aiops.core.errors import PermanentError, TransientError
from aiops.core.plugins import build, discover, load
from aiops.core.ports import Executor, PluginContext
from tests.contract.peers import Answer, Peer, peer

NOW = 1_700_000_000_000
SECRET = base64.b64encode(b"another very secret key").decode()


@dataclass(frozen=True)
class Provider:
    options: Callable[[str], dict[str, Any]]
    action: Action
    usual: Answer
    secret: str = SECRET


PROVIDERS = {
    "webhook": Provider(
        lambda url: {"url": f"{url}/run/{SECRET}", "secret": SECRET, "description": "restarts the service"},
        Action("webhook", "checkout", (("executor", "it"), ("note", "x"))),
        Answer(200, b"{}"),
    ),
    "alertmanager_silence": Provider(
        lambda url: {"url": url, "bearer_token": SECRET},
        Action(
            "silence",
            "checkout",
            (("duration_s", "3600"), ("executor", "it"), ("matchers", '{"alertname":"Slow","service":"checkout"}')),
        ),
        Answer(200, b'{"silenceID":"s-1"}'),
    ),
}


@pytest.fixture(params=sorted(discover("connectors.executors")))
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Executor[Any], Peer, Provider]]:
    if request.param not in PROVIDERS:
        pytest.fail(f"the executor '{request.param}' has no loopback provider in this contract")
    provider = PROVIDERS[request.param]
    with peer(provider.usual) as server:
        executor = build(
            "connectors.executors",
            request.param,
            {**provider.options(server.url), "timeout_s": 0.5},
            PluginContext("it", lambda: NOW),
        )
        assert isinstance(executor, Executor)
        yield executor, server, provider
        executor.close()


def writes(server: Peer) -> int:
    return sum(r.method == "POST" for r in server.received)


def test_dry_run_says_what_would_happen_and_does_nothing(case: tuple[Executor[Any], Peer, Provider]) -> None:
    executor, server, provider = case
    words = executor.dry_run(provider.action)
    assert len(words.split()) > 3
    assert provider.secret not in words
    assert writes(server) == 0


def test_executes_and_reports(case: tuple[Executor[Any], Peer, Provider]) -> None:
    executor, server, provider = case
    result = executor.execute(provider.action, "ACT-1")
    assert result.ok
    assert result.detail
    assert writes(server) == 1
    assert "ACT-1" in server.received[-1].body.decode()


def test_unknown_kinds_are_refused(case: tuple[Executor[Any], Peer, Provider]) -> None:
    executor, server, _ = case
    with pytest.raises(PermanentError):
        executor.execute(Action("format_disk", "checkout"), "ACT-1")
    assert writes(server) == 0


def test_refusal_is_permanent_and_silence_is_transient(case: tuple[Executor[Any], Peer, Provider]) -> None:
    executor, server, provider = case
    server.usual = Answer(403, b"no")
    with pytest.raises(PermanentError) as refused:
        executor.execute(provider.action, "ACT-1")
    server.usual = Answer(delay_s=0.8)
    with pytest.raises(TransientError) as hung:
        executor.execute(provider.action, "ACT-1")
    assert provider.secret not in f"{refused.value}{hung.value}{executor.options!r}"


def test_documented() -> None:
    for name in discover("connectors.executors"):
        cls = load("connectors.executors", name)
        assert len((cls.__doc__ or "").split()) > 15
        assert cls.action_kinds  # type: ignore[attr-defined]


def test_webhook_is_signed_and_never_tried_twice() -> None:
    provider = PROVIDERS["webhook"]
    with peer(Answer(503)) as server:
        executor = build(
            "connectors.executors", "webhook", provider.options(server.url), PluginContext("it", lambda: NOW)
        )
        assert isinstance(executor, Executor)
        with pytest.raises(TransientError):
            executor.execute(provider.action, "ACT-9")
        executor.close()
    (sent,) = server.received
    assert sent.headers["webhook-id"] == "ACT-9"
    assert sent.headers["webhook-signature"].startswith("v1,")
    assert sent.json["target"] == "checkout"


def test_a_silence_is_exact_bounded_and_made_once() -> None:
    provider = PROVIDERS["alertmanager_silence"]
    with peer() as server:
        executor = build(
            "connectors.executors",
            "alertmanager_silence",
            provider.options(server.url),
            PluginContext("it", lambda: NOW),
        )
        assert isinstance(executor, Executor)
        server.then(Answer(body=b"[]"), Answer(body=b'{"silenceID":"s-1"}'))
        assert "s-1" in executor.execute(provider.action, "ACT-2").detail
        made = server.received[-1].json
        assert made["matchers"][0] == {"name": "alertname", "value": "Slow", "isRegex": False, "isEqual": True}
        assert (made["startsAt"], made["endsAt"]) == ("2023-11-14T22:13:20Z", "2023-11-14T23:13:20Z")
        server.then(Answer(body=json.dumps([{"id": "s-1", "comment": made["comment"]}]).encode()))
        assert "exists already" in executor.execute(provider.action, "ACT-2").detail
        for wrong in ({"duration_s": "14401"}, {"matchers": "{}"}, {"matchers": '{"a":""}'}, {"duration_s": "x"}):
            action = Action("silence", "checkout", tuple(sorted({**dict(provider.action.parameters), **wrong}.items())))
            with pytest.raises(PermanentError):
                executor.dry_run(action)
        executor.close()
