"""Every notifier, found by discovery, against a loopback server that speaks its provider's protocol.

A notifier from outside that this file does not know is still built with no options and asked for its port's
basics; ours are exercised in full.
"""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aiops.core.errors import PermanentError, TransientError
from aiops.core.incident import IncidentStatus, NotificationEvent
from aiops.core.plugins import build, discover, load
from aiops.core.ports import Notifier, PluginContext
from aiops.core.signals import ChangeEvent
from aiops.core.untrusted import Untrusted
from tests.contract.incidents import T0, notification
from tests.contract.peers import Answer, Peer, peer

SECRET = base64.b64encode(b"a very secret signing key").decode()
TOKEN = "xoxb-very-secret-token"


@dataclass(frozen=True)
class Provider:
    """How to reach a notifier's provider on loopback, and what it answers when all is well."""

    options: Callable[[str], dict[str, Any]]
    usual: Answer
    secret: str


PROVIDERS = {
    "webhook": Provider(lambda url: {"url": f"{url}/hook/{SECRET}", "secret": SECRET}, Answer(204, b""), SECRET),
    "slack": Provider(
        lambda url: {"token": TOKEN, "channel": "C1", "api_url": f"{url}/api/"},
        Answer(200, json.dumps({"ok": True, "ts": "1700.001"}).encode()),
        TOKEN,
    ),
    "pagerduty": Provider(
        lambda url: {"routing_key": TOKEN, "url": url, "public_url": "https://aiops.example.org"},
        Answer(202, b'{"status":"success","message":"Event processed","dedup_key":"INC-7"}'),
        TOKEN,
    ),
}
PROVIDERS |= {
    "alertmanager": Provider(lambda url: {"url": url, "bearer_token": TOKEN}, Answer(200, b""), TOKEN),
    "jira_service_management": Provider(
        lambda url: {"url": url, "api_key": TOKEN, "responders": ["shop"]},
        Answer(202, b'{"result":"Request will be processed","took":0.1,"requestId":"1"}'),
        TOKEN,
    ),
    "teams": Provider(lambda url: {"url": f"{url}/workflows/{TOKEN}"}, Answer(202, b""), TOKEN),
}
ELSEWHERE = {"email", "apprise"}
"""They do not speak HTTP, or not by our client: ``test_email.py``, ``test_apprise.py``."""
EVENTS = [
    NotificationEvent.OPENED,
    NotificationEvent.UPDATED,
    NotificationEvent.ACKNOWLEDGED,
    NotificationEvent.RESOLVED,
]


@pytest.fixture(params=sorted(set(discover("connectors.notifiers")) - ELSEWHERE))
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Notifier[Any], Peer, Provider]]:
    name = request.param
    if name not in PROVIDERS:
        pytest.fail(f"the notifier '{name}' has no loopback provider in this contract")
    provider = PROVIDERS[name]
    with peer(provider.usual) as server:
        yield made(name, provider.options(server.url)), server, provider


def made(name: str, options: dict[str, Any], timeout_s: float = 0.5) -> Notifier[Any]:
    built = build("connectors.notifiers", name, {**options, "timeout_s": timeout_s}, PluginContext("it", lambda: T0))
    assert isinstance(built, Notifier)
    return built


def test_delivers_every_event(case: tuple[Notifier[Any], Peer, Provider]) -> None:
    notifier, server, _ = case
    thread = ""
    for number, event in enumerate([*EVENTS, NotificationEvent.TEST]):
        before = len(server.received)
        thread = notifier.notify(notification(event, thread, number)) or thread
        assert len(server.received) > before
    notifier.close()


@pytest.mark.parametrize("status", [500, 502, 503, 408])
def test_server_trouble_is_transient_and_not_retried_here(
    case: tuple[Notifier[Any], Peer, Provider], status: int
) -> None:
    notifier, server, _ = case
    server.then(Answer(status, b"<html>oops</html>", {"content-type": "text/html"}))
    with pytest.raises(TransientError) as caught:
        notifier.notify(notification(NotificationEvent.OPENED))
    assert len(server.received) == 1
    assert "<html>" not in str(caught.value)
    notifier.close()


def test_a_hanging_server_is_transient(case: tuple[Notifier[Any], Peer, Provider]) -> None:
    notifier, server, _ = case
    server.then(Answer(delay_s=1.5))
    with pytest.raises(TransientError):
        notifier.notify(notification(NotificationEvent.OPENED))
    notifier.close()


def test_no_server_is_transient(case: tuple[Notifier[Any], Peer, Provider]) -> None:
    notifier, _, provider = case
    notifier.close()
    name = type(notifier).__module__.rpartition(".")[2]
    lonely = made(name, provider.options("http://127.0.0.1:9"))
    with pytest.raises(TransientError):
        lonely.notify(notification(NotificationEvent.OPENED))
    lonely.close()


def test_too_many_requests_honours_retry_after(case: tuple[Notifier[Any], Peer, Provider]) -> None:
    notifier, server, _ = case
    server.then(Answer(429, headers={"retry-after": "17"}))
    with pytest.raises(TransientError) as caught:
        notifier.notify(notification(NotificationEvent.OPENED))
    assert caught.value.retry_after_s == 17
    notifier.close()


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_permanent(case: tuple[Notifier[Any], Peer, Provider], status: int) -> None:
    notifier, server, _ = case
    server.then(Answer(status, b'{"message":"no"}'))
    with pytest.raises(PermanentError):
        notifier.notify(notification(NotificationEvent.OPENED))
    notifier.close()


def test_redirects_are_not_followed(case: tuple[Notifier[Any], Peer, Provider]) -> None:
    notifier, server, _ = case
    server.then(Answer(307, headers={"location": "http://127.0.0.1:9/elsewhere"}))
    with pytest.raises(PermanentError, match="redirect"):
        notifier.notify(notification(NotificationEvent.OPENED))
    notifier.close()


def test_no_secret_in_repr_log_or_error(
    case: tuple[Notifier[Any], Peer, Provider], caplog: pytest.LogCaptureFixture
) -> None:
    notifier, server, provider = case
    caplog.set_level(logging.DEBUG)
    shown = [repr(notifier), repr(notifier.options), str(notifier.options)]
    for answer in (Answer(500), Answer(400), Answer(302, headers={"location": "/x"}), Answer(delay_s=1.2)):
        server.then(answer)
        with pytest.raises((TransientError, PermanentError)) as caught:
            notifier.notify(notification(NotificationEvent.OPENED))
        shown.append("".join(traceback.format_exception_only(caught.value)))
    # httpx itself logs request URLs at INFO; wiring silences that logger, so only ours are looked at.
    shown += [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert provider.secret not in "\n".join(shown)
    notifier.close()


def test_is_documented_and_strict_about_options() -> None:
    for name in discover("connectors.notifiers"):
        cls = load("connectors.notifiers", name)
        assert len((cls.__doc__ or "").split()) > 15
        assert cls.Options.model_config.get("extra") == "forbid"


# ------------------------------------------------------------------ what each provider is to see


def delivered(name: str, event: NotificationEvent, thread: str = "", **more: Any) -> list[Any]:
    provider = PROVIDERS[name]
    with peer(provider.usual) as server:
        notifier = made(name, {**provider.options(server.url), **more})
        notifier.notify(notification(event, thread))
        notifier.close()
        return server.received


def test_webhook_is_a_signed_cloudevent(monkeypatch: pytest.MonkeyPatch) -> None:
    from standardwebhooks import webhooks

    (sent,) = delivered("webhook", NotificationEvent.OPENED, public_url="https://aiops.example.org")

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Then:
            return cls.fromtimestamp(T0 / 1000, tz)

    monkeypatch.setattr(webhooks, "datetime", Then)
    body = webhooks.Webhook(SECRET).verify(sent.body, sent.headers)
    assert sent.headers["content-type"].startswith("application/cloudevents+json")
    assert (body["specversion"], body["type"], body["subject"]) == ("1.0", "aiops.incident.opened", "INC-7")
    assert body["id"] == sent.headers["webhook-id"]
    data = body["data"]
    assert data["candidates"][0]["service"] == "cart"
    assert data["candidates"][0]["factor"] == pytest.approx(4.75)
    assert data["candidates"][1]["before"] is None
    assert data["signals"][0]["linked_because"] == "opened the incident"
    assert data["links"]["incident"] == "https://aiops.example.org/api/v1/incidents/INC-7"
    assert data["simulated"] is True
    assert "\u202e" not in sent.body.decode()


def test_webhook_in_alertmanager_shape() -> None:
    (sent,) = delivered("webhook", NotificationEvent.RESOLVED, format="alertmanager")
    body = sent.json
    assert (body["version"], body["status"]) == ("4", "resolved")
    (alert,) = body["alerts"]
    assert alert["labels"]["service"] == "checkout"
    assert alert["endsAt"] == "2023-11-14T22:14:20Z"
    assert "cart (71%)" in alert["annotations"]["cause"]


def test_slack_posts_once_then_updates_and_replies_in_the_thread() -> None:
    (first,) = delivered("slack", NotificationEvent.OPENED)
    assert first.path == "/api/chat.postMessage"
    assert first.headers["authorization"] == f"Bearer {TOKEN}"
    update, reply = delivered("slack", NotificationEvent.RESOLVED, thread="1700.001")
    assert (update.path, update.json["ts"]) == ("/api/chat.update", "1700.001")
    assert (reply.path, reply.json["thread_ts"]) == ("/api/chat.postMessage", "1700.001")
    assert "Resolved" in json.dumps(reply.json)


def test_slack_asks_whether_an_anomaly_was_true_where_it_may() -> None:
    (first,) = delivered("slack", NotificationEvent.OPENED, marks=True)
    (row,) = [b for b in first.json["blocks"] if b["type"] == "actions"]
    values = [(e["text"]["text"], e["value"]) for e in row["elements"]]
    assert values == [
        ("True: checkout latency p95", "mark:true:a1"),
        ("False alarm: checkout latency p95", "mark:false:a1"),
    ]
    assert len({e["action_id"] for e in row["elements"]}) == 2
    (without,) = delivered("slack", NotificationEvent.OPENED)
    assert not any(b["type"] == "actions" for b in without.json["blocks"])


def test_slack_escapes_outside_text() -> None:
    (first,) = delivered("slack", NotificationEvent.OPENED)
    text = first.body.decode()
    assert "<!channel>" not in text
    assert "<http://evil" not in text
    assert "&lt;!channel&gt;" in text
    blocks = first.json["blocks"]
    assert len(blocks) <= 50
    assert all(len(b["text"]["text"]) <= 3000 for b in blocks if "text" in b)
    assert "Likely cause" in text
    assert "cart → checkout" in first.json["blocks"][2]["text"]["text"]


@pytest.mark.parametrize(("word", "error"), [("ratelimited", TransientError), ("channel_not_found", PermanentError)])
def test_slack_errors_are_sorted(word: str, error: type[Exception]) -> None:
    provider = PROVIDERS["slack"]
    with peer(Answer(200, json.dumps({"ok": False, "error": word}).encode())) as server:
        notifier = made("slack", provider.options(server.url))
        with pytest.raises(error, match=word):
            notifier.notify(notification(NotificationEvent.OPENED))
        notifier.close()


@pytest.mark.parametrize(
    ("event", "action"),
    [
        (NotificationEvent.OPENED, "trigger"),
        (NotificationEvent.UPDATED, "trigger"),
        (NotificationEvent.ACKNOWLEDGED, "acknowledge"),
        (NotificationEvent.RESOLVED, "resolve"),
    ],
)
def test_pagerduty_keeps_one_dedup_key(event: NotificationEvent, action: str) -> None:
    (sent,) = delivered("pagerduty", event)
    assert sent.path == "/v2/enqueue"
    body = sent.json
    assert (body["event_action"], body["dedup_key"], body["routing_key"]) == (action, "INC-7", TOKEN)
    if action == "trigger":
        assert body["payload"]["severity"] == "critical"
        assert body["payload"]["custom_details"]["causes"][0]["service"] == "cart"
        assert body["links"][0]["href"].endswith("/INC-7")


CHANGE = ChangeEvent(
    T0, "deploy", "cart", Untrusted("cart 1.4.2\u202e"), "ann", "https://ci.example.org/7", "prod", (("team", "shop"),)
)


def test_pagerduty_shows_a_change_and_does_not_page() -> None:
    with peer(PROVIDERS["pagerduty"].usual) as server:
        notifier = made("pagerduty", PROVIDERS["pagerduty"].options(server.url))
        notifier.changed(CHANGE)
        notifier.changed(replace(CHANGE, link="javascript:alert(1)"))
        notifier.close()
        told, unlinked = server.received
    assert told.path == "/v2/change/enqueue"
    assert told.json == {
        "routing_key": TOKEN,
        "payload": {
            "summary": "cart 1.4.2",
            "source": "cart",
            "timestamp": datetime.fromtimestamp(T0 / 1000, UTC).isoformat(),
            "custom_details": {"team": "shop", "kind": "deploy", "author": "ann", "environment": "prod"},
        },
        "links": [{"href": "https://ci.example.org/7", "text": "The change"}],
    }
    assert "links" not in unlinked.json


def test_only_pagerduty_shows_changes(case: tuple[Notifier[Any], Peer, Provider]) -> None:
    notifier, server, provider = case
    shows = provider is PROVIDERS["pagerduty"]
    assert type(notifier).shows_changes is shows
    if not shows:
        with pytest.raises(PermanentError, match="shows no changes"):
            notifier.changed(CHANGE)
        assert not server.received


def test_what_pages_by_default() -> None:
    assert {n: load("connectors.notifiers", n).pages for n in PROVIDERS} == {  # type: ignore[attr-defined]
        "webhook": False,
        "slack": False,
        "pagerduty": True,
        "alertmanager": True,
        "jira_service_management": True,
        "teams": False,
    }
    assert not any(load("connectors.notifiers", n).pages for n in ELSEWHERE)  # type: ignore[attr-defined]


def test_alertmanager_is_told_with_an_end_ahead_and_again() -> None:
    opened, over = (
        delivered("alertmanager", e)[0].json[0] for e in (NotificationEvent.OPENED, NotificationEvent.RESOLVED)
    )
    assert opened["labels"] == over["labels"]
    assert opened["labels"] | {"alertname": "AiopsIncident", "incident": "INC-7"} == opened["labels"]
    assert datetime.fromisoformat(opened["endsAt"]).timestamp() * 1000 == T0 + 240_000
    assert datetime.fromisoformat(over["endsAt"]).timestamp() * 1000 <= T0 + 1000
    with peer(Answer(200, b"")) as server:
        notifier = made("alertmanager", {"url": server.url})
        incident = notification(NotificationEvent.OPENED).incident
        notifier.refresh([incident, replace(incident, id="INC-8", status=IncidentStatus.RESOLVED, resolved_ms=T0 + 1)])
        notifier.close()
    (sent,) = server.received
    assert [a["labels"]["incident"] for a in sent.json] == ["INC-7", "INC-8"]
    assert [a["endsAt"] > "2023-11-14T22:14" for a in sent.json] == [True, False]


def test_jira_service_management_uses_the_incident_as_alias() -> None:
    opened = delivered("jira_service_management", NotificationEvent.OPENED)[0]
    assert (opened.method, opened.path, opened.headers["authorization"]) == ("POST", "/v2/alerts", f"GenieKey {TOKEN}")
    assert opened.json["alias"] == "INC-7"
    assert opened.json["priority"] == "P1"
    assert len(opened.json["message"]) <= 130
    assert opened.json["responders"] == [{"type": "team", "name": "shop"}]
    for event, action in (
        (NotificationEvent.UPDATED, "notes"),
        (NotificationEvent.ACKNOWLEDGED, "acknowledge"),
        (NotificationEvent.RESOLVED, "close"),
    ):
        (sent,) = delivered("jira_service_management", event)
        assert sent.path == f"/v2/alerts/INC-7/{action}?identifierType=alias"
    test = delivered("jira_service_management", NotificationEvent.TEST)
    assert [s.path.partition("?")[0] for s in test] == ["/v2/alerts", "/v2/alerts/INC-7/close"]


def test_teams_gets_a_card_without_live_markdown() -> None:
    (sent,) = delivered("teams", NotificationEvent.OPENED, public_url="https://aiops.example.org")
    (attachment,) = sent.json["attachments"]
    card = attachment["content"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["type"] == "AdaptiveCard"
    assert card["actions"][0]["url"] == "https://aiops.example.org/api/v1/incidents/INC-7"
    texts = json.dumps(card["body"])
    assert "checkout" in texts
    assert "<!channel>" not in texts
    assert "\u202e" not in texts
    assert "\\\\<http://evil\\\\|click\\\\>" in texts
