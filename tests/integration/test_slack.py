"""The Slack surface against a loopback Slack, through real HTTP with signed requests, and by Socket Mode."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from slack_sdk.signature import SignatureVerifier
from starlette.routing import Route

from aiops.chat.handler import Conversation, Marking
from aiops.chat.people import principal_mapping
from aiops.core.action import Action, ActionProposal, ProposalStatus
from aiops.core.anomaly import Judgement
from aiops.core.errors import ConfigError, Conflict, PermanentError
from aiops.core.evidence import Answer, Evidence, EvidenceState
from aiops.core.incident import NotificationEvent
from aiops.core.plugins import build
from aiops.core.ports import ChatSurface, MetricQuerier, Notifier, PluginContext
from aiops.core.principal import Principal
from aiops.core.query import Question
from aiops.core.series import SampleBlock
from aiops.incidents.anomalies import Anomalies
from aiops.incidents.feedback import latest
from aiops.settings import PluginSettings
from aiops.store.state.audit import AuditLog
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.marks import MarkRepository
from aiops.wiring.chat import anomaly_marking
from tests.contract.incidents import INCIDENT, notification
from tests.integration.slack_server import SlackServer

SECRET = "signing-secret-of-the-test"
PROPOSAL = ActionProposal(
    "ACT-1", Action("webhook", "checkout"), "INC-1", "checkout is slow", ("s1",), "system:assistant",
    1, 2**50, "nonce",
)  # fmt: skip


class Assistant:
    """Answers every question with a chart and a proposal; waits where told to."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.gate = threading.Event()
        self.gate.set()

    def ask(self, question: Question, progress: Any = None) -> Answer:
        self.questions.append(question)
        assert self.gate.wait(30)
        ts = np.arange(0, 3_600_000, 60_000, dtype=np.int64)
        block = SampleBlock.build([((("instance", "a"),), ts, np.linspace(0, 1, 60))])
        evidence = Evidence(
            "E1", "metric", "Disk free", "store", "up", 0, 3_600_000, EvidenceState.OK, series=block, unit="ratio"
        )
        text = f"**2 hosts** are low on `disk` <!channel> & co: {question.text}"
        proposals = ("ACT-1",) if "fix" in question.text else ()
        return Answer("A1", question.text, text, (evidence,), 0.9, True, "offline", 1, proposals=proposals)


class Actions:
    def __init__(self) -> None:
        self.approved: list[tuple[str, str, Principal]] = []

    def get(self, proposal_id: str, principal: Principal) -> ActionProposal:
        return PROPOSAL

    def approve(self, proposal_id: str, digest: str, principal: Principal) -> ActionProposal:
        if self.approved:
            raise Conflict(f"The action {proposal_id} is executed.")
        self.approved.append((proposal_id, digest, principal))
        return ActionProposal(
            PROPOSAL.id, PROPOSAL.action, "INC-1", "", ("s1",), "system:assistant", 1, 2**50, "nonce",
            status=ProposalStatus.EXECUTED, decided_by=principal.name, result="The webhook answered 200.",
        )  # fmt: skip

    def reject(self, proposal_id: str, principal: Principal, reason: str = "") -> ActionProposal:
        return PROPOSAL


class Client:
    """Sends what Slack would send."""

    def __init__(self, url: str, slack: SlackServer, assistant: Assistant, actions: Actions) -> None:
        self.url, self.slack, self.assistant, self.actions = url, slack, assistant, actions

    def post(
        self, body: str, kind: str, *, secret: str = SECRET, at: int | None = None, **headers: str
    ) -> httpx.Response:
        stamp = str(int(time.time()) if at is None else at)
        signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body)
        assert signature is not None
        signed = {"x-slack-request-timestamp": stamp, "x-slack-signature": signature, "content-type": kind, **headers}
        return httpx.post(f"{self.url}/slack/events", content=body.encode(), headers=signed, timeout=20)

    def event(self, event: dict[str, Any], event_id: str = "Ev1", **rest: Any) -> httpx.Response:
        return self.post(json.dumps(envelope(event, event_id)), "application/json", **rest)

    def form(self, **fields: str) -> httpx.Response:
        return self.post(urllib.parse.urlencode(fields), "application/x-www-form-urlencoded")


def envelope(event: dict[str, Any], event_id: str) -> dict[str, Any]:
    return {
        "type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event_id": event_id, "event_time": 1,
        "event": event, "authorizations": [{"team_id": "T1", "user_id": "UBOT", "is_bot": True}],
    }  # fmt: skip


def mention(text: str, user: str = "U1", ts: str = "1699.1", channel: str = "C1", **more: Any) -> dict[str, Any]:
    return {"type": "app_mention", "user": user, "text": text, "ts": ts, "channel": channel, "event_ts": ts, **more}


def surface(slack: SlackServer, **options: Any) -> ChatSurface[Any]:
    values = {
        "bot_token": SlackServer.TOKEN,
        "api_url": f"{slack.url}/api/",
        "users": {"UADMIN": "approver"},
        **options,
    }
    built = build("connectors.chat", "slack", values, PluginContext("slack"))
    assert isinstance(built, ChatSurface)
    return built


def conversation(assistant: Assistant, actions: Actions, marking: Marking | None = None) -> Conversation:
    mapping = principal_mapping({"slack": PluginSettings(plugin="slack", users={"UADMIN": "approver"})})
    return Conversation(assistant, actions, mapping, marking=marking)


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    server = SlackServer()
    yield server
    server.close()


@contextmanager
def service(slack: SlackServer, marking: Marking | None = None, **options: Any) -> Iterator[Client]:
    assistant, actions = Assistant(), Actions()
    built = surface(slack, signing_secret=SECRET, **options)
    built.start(conversation(assistant, actions, marking))
    place = built.asgi()
    assert place is not None
    app = FastAPI()
    app.router.routes.append(Route(place[0], endpoint=place[1], methods=["POST"]))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Client(f"http://127.0.0.1:{port}", slack, assistant, actions)
    finally:
        assistant.gate.set()
        server.should_exit = True
        thread.join()
        built.close()


@pytest.fixture
def client(slack: SlackServer) -> Iterator[Client]:
    with service(slack) as running:
        yield running


def test_a_mention_is_answered_in_its_thread_by_editing_one_message_with_a_chart(client: Client) -> None:
    assert client.event(mention("<@UBOT> which hosts are low on disk &amp; why?")).status_code == 200
    (done,) = client.slack.wait("files.completeUploadExternal")
    (posted,) = client.slack.of("chat.postMessage")
    assert (posted["channel"], posted["thread_ts"]) == ("C1", "1699.1")
    (edited,) = client.slack.of("chat.update")
    assert edited["ts"].startswith("1700000000.")
    shown = edited["blocks"][0]["text"]["text"]
    assert shown.startswith("*2 hosts* are low on `disk` &lt;!channel&gt; &amp; co")
    assert client.assistant.questions[0].text == "which hosts are low on disk & why?"
    assert client.assistant.questions[0].principal.name == "slack:U1"
    assert (done["channel_id"], done["thread_ts"]) == ("C1", "1699.1")
    (picture,) = client.slack.files.values()
    assert picture.startswith(b"\x89PNG")


def test_a_wrong_signature_or_an_old_request_is_refused(client: Client) -> None:
    event = mention("<@UBOT> hello")
    assert client.event(event, secret="another").status_code == 401
    assert client.event(event, at=int(time.time()) - 3600).status_code == 401
    unsigned = httpx.post(f"{client.url}/slack/events", content=json.dumps(envelope(event, "Ev1")))
    assert unsigned.status_code == 401
    for stamp, signature in (("abc", "v0=1"), ("١٢", "v0=é"), ("", ""), (str(int(time.time())), "v0=é")):
        headers = {"x-slack-request-timestamp": stamp.encode(), "x-slack-signature": signature.encode()}
        assert httpx.post(f"{client.url}/slack/events", content=b"{}", headers=headers).status_code == 401
    assert client.assistant.questions == []


def test_a_retried_event_is_answered_once(client: Client) -> None:
    event = mention("<@UBOT> disk?")
    for retry in ({}, {"x-slack-retry-num": "1", "x-slack-retry-reason": "http_timeout"}, {"x-slack-retry-num": "2"}):
        assert client.event(event, **retry).status_code == 200
    client.slack.wait("chat.update")
    assert client.event(mention("<@UBOT> again?", ts="1699.2"), "Ev2").status_code == 200
    client.slack.wait("chat.update", 2)
    assert [q.text for q in client.assistant.questions] == ["disk?", "again?"]


def test_url_verification_is_answered(client: Client) -> None:
    answer = client.post(json.dumps({"type": "url_verification", "challenge": "c-1"}), "application/json")
    assert answer.status_code == 200
    assert answer.json() == {"challenge": "c-1"}


def test_direct_messages_are_answered_and_bots_and_edits_are_not(client: Client) -> None:
    direct = {"type": "message", "channel_type": "im", "user": "U1", "text": "disk?", "channel": "D1"}
    client.event({**direct, "ts": "1.1", "bot_id": "BBOT"}, "Ev1")
    client.event({**direct, "ts": "1.2", "subtype": "message_changed"}, "Ev2")
    client.event({**direct, "ts": "1.3", "channel_type": "channel", "channel": "C1"}, "Ev3")
    client.event(mention("<@UBOT> secret?", ts="1.5", user_team="TELSEWHERE"), "Ev5")
    client.event({**direct, "ts": "1.4"}, "Ev4")
    client.slack.wait("chat.update")
    assert [q.conversation for q in client.assistant.questions] == ["slack:D1:1.4"]


def test_a_slash_command_is_acknowledged_and_answered_below_the_question(client: Client) -> None:
    answer = client.form(
        command="/aiops", text="what did we spend?", channel_id="C1", user_id="U1", trigger_id="t1", team_id="T1",
        response_url=f"{client.slack.url}/respond",
    )  # fmt: skip
    assert (answer.status_code, answer.text) == (200, "")
    client.slack.wait("files.completeUploadExternal")
    asked, placeholder = client.slack.of("chat.postMessage")
    assert asked["text"] == "<@U1> asked: what did we spend?"
    assert placeholder["thread_ts"].startswith("1700000000.")


def test_a_slash_command_works_where_the_bot_is_not_a_member(client: Client) -> None:
    client.slack.errors["chat.postMessage"] = [("not_in_channel", 200)]
    client.form(
        command="/aiops", text="disk?", channel_id="C9", user_id="U1", trigger_id="t2", team_id="T1",
        response_url=f"{client.slack.url}/respond",
    )  # fmt: skip
    (said,) = client.slack.wait("/respond")
    assert said["response_type"] == "ephemeral"
    assert "2 hosts" in said["text"]


def _press(client: Client, user: str, value: str, trigger: str) -> httpx.Response:
    payload = {
        "type": "block_actions", "team": {"id": "T1"}, "user": {"id": user}, "channel": {"id": "C1"},
        "trigger_id": trigger, "message": {"ts": "1700.1", "thread_ts": "1699.1"},
        "actions": [{"type": "button", "action_id": "aiops_decide_0", "block_id": "b", "value": value,
                     "action_ts": trigger}],
    }  # fmt: skip
    return client.form(payload=json.dumps(payload))


def test_a_button_approves_as_the_mapped_person_only(client: Client) -> None:
    client.event(mention("<@UBOT> fix checkout"))
    client.slack.wait("files.completeUploadExternal")
    buttons = client.slack.of("chat.update")[0]["blocks"][-1]["elements"]
    assert [b["text"]["text"] for b in buttons] == ["Approve webhook checkout", "Reject webhook checkout"]
    assert "confirm" in buttons[0]
    value = buttons[0]["value"]
    assert value == f"approve:ACT-1:{PROPOSAL.digest}"

    assert _press(client, "U1", value, "t1").status_code == 200
    refusal = client.slack.wait("chat.postMessage", 2)[-1]
    assert "may not approve" in refusal["text"]
    assert client.actions.approved == []

    _press(client, "UADMIN", value, "t2")
    _press(client, "UADMIN", value, "t2")
    outcome = client.slack.wait("chat.postMessage", 3)[-1]
    assert outcome["thread_ts"] == "1699.1"
    assert "approved by slack:UADMIN: executed" in outcome["text"]
    ((proposal, digest, who),) = client.actions.approved
    assert (proposal, digest, who.name, who.role) == ("ACT-1", PROPOSAL.digest, "slack:UADMIN", "approver")


def test_a_button_of_an_incident_s_message_marks_its_anomaly(slack: SlackServer, tmp_path: Path) -> None:
    database = StateDatabase(sqlite_url(tmp_path))
    database.upgrade()
    episodes, marks, audit = DetectionRepository(database), MarkRepository(database), AuditLog(database)
    found = next(s.alert.anomaly for s in INCIDENT.signals if s.alert.anomaly is not None)
    episodes.save_anomalies([found])
    anomalies = Anomalies(episodes, marks, cast(MetricQuerier, None), lambda: found.started_ms + 1)
    options = {"token": SlackServer.TOKEN, "channel": "C1", "api_url": f"{slack.url}/api/", "marks": True}
    notifier = cast(Notifier[Any], build("connectors.notifiers", "slack", options, PluginContext("channel")))
    notifier.notify(notification(NotificationEvent.OPENED))
    notifier.close()
    (posted,) = slack.of("chat.postMessage")
    (row,) = [block for block in posted["blocks"] if block["type"] == "actions"]
    true, false = (element["value"] for element in row["elements"])
    with service(slack, anomaly_marking(anomalies, audit)) as client:
        _press(client, "U1", false, "t1")
        assert "does not include" in slack.wait("chat.postMessage", 2)[-1]["text"]
        assert marks.since(0) == ()
        _press(client, "UADMIN", false, "t2")
        assert "was marked a false alarm by slack:UADMIN" in slack.wait("chat.postMessage", 3)[-1]["text"]
        _press(client, "UADMIN", true, "t3")
        slack.wait("chat.postMessage", 4)
    kept = latest(marks.since(0))
    assert [(m.judgement, m.principal, m.metric) for m in kept] == [(Judgement.TRUE, "slack:UADMIN", found.metric)]
    assert anomalies.quality()[0].precision.hits == 1


def test_slow_answers_do_not_keep_slack_waiting(slack: SlackServer) -> None:
    with service(slack, workers=1, queue=1) as client:
        client.assistant.gate.clear()
        for i in range(8):
            # Every request returns although no answer can be finished before the gate opens.
            assert client.event(mention(f"<@UBOT> q{i}", ts=f"1.{i}"), f"Ev{i}").status_code == 200
        assert client.form(command="/aiops", text="x", channel_id="C1", user_id="U1", trigger_id="t").status_code == 200
        assert slack.of("chat.update") == []
        client.assistant.gate.set()
        slack.wait("chat.update", 2)
        slack.wait("chat.postMessage", 9)
        busy = [c for c in slack.of("chat.postMessage") if "busy" in c["text"]]
        assert len(busy) == 7
        assert len(client.assistant.questions) == 2


def test_the_placeholder_is_edited_although_slack_limits_the_rate(client: Client) -> None:
    client.slack.errors["chat.update"] = [("ratelimited", 429)]
    client.event(mention("<@UBOT> disk?"))
    assert len(client.slack.wait("chat.update", 2)) == 2


def test_an_answer_stands_when_its_chart_is_refused(client: Client) -> None:
    client.slack.errors["files.getUploadURLExternal"] = [("missing_scope", 200)]
    client.event(mention("<@UBOT> disk?"))
    last = client.slack.wait("chat.postMessage", 2)[-1]
    assert last["text"] == "The chart could not be uploaded."
    assert len(client.slack.of("chat.update")) == 1


def test_only_listed_channels_are_answered(slack: SlackServer) -> None:
    with service(slack, channels=["C2"]) as client:
        client.event(mention("<@UBOT> a?", channel="C1", ts="1.1"), "Ev1")
        answer = client.form(command="/aiops", text="x", channel_id="C1", user_id="U1", trigger_id="t")
        assert "do not answer" in answer.text
        client.event(mention("<@UBOT> b?", channel="C2", ts="1.2"), "Ev2")
        slack.wait("chat.update")
        assert [q.text for q in client.assistant.questions] == ["b?"]


def test_bad_bodies_are_refused(client: Client) -> None:
    for body in ("{", "[]", '"x"', "[" * 100_000):
        assert client.post(body, "application/json").status_code == 400
    assert client.post("payload=%7B", "application/x-www-form-urlencoded").status_code == 400
    assert client.post("{}", "application/json").status_code == 404
    assert httpx.post(f"{client.url}/slack/events", content=b"\xff\xfe").status_code == 400
    assert httpx.post(f"{client.url}/slack/events", content=b"x" * (1024 * 1024 + 1)).status_code == 413
    assert httpx.get(f"{client.url}/slack/events").status_code == 405


def test_no_secret_is_logged_or_shown(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client.slack.errors["files.completeUploadExternal"] = [("invalid_auth", 200)]
    client.event(mention("<@UBOT> disk?"))
    client.slack.wait("chat.postMessage", 2)
    assert SlackServer.TOKEN not in caplog.text
    assert SECRET not in caplog.text
    assert SlackServer.TOKEN not in repr(surface(client.slack, signing_secret=SECRET).options)


def test_a_report_is_uploaded_to_a_channel(slack: SlackServer) -> None:
    built: Any = surface(slack, signing_secret=SECRET)
    built.upload("C7", "Cost report", [("cost.png", "costs", b"png"), ("cost.html", "report", b"<p>")], "Total: *5*")
    (posted,) = slack.of("chat.postMessage")
    (done,) = slack.of("files.completeUploadExternal")
    assert (posted["channel"], done["channel_id"]) == ("C7", "C7")
    assert sorted(slack.files.values()) == [b"<p>", b"png"]
    slack.errors["chat.postMessage"] = [("channel_not_found", 200)]
    with pytest.raises(PermanentError, match="channel_not_found"):
        built.upload("C8", "Cost report", [], "x")
    built.close()


def test_a_surface_without_a_way_in_is_a_configuration_error(slack: SlackServer) -> None:
    with pytest.raises(ConfigError, match="neither app_token nor signing_secret"):
        surface(slack)
    with pytest.raises(ConfigError, match="did you mean 'app_token'"):
        surface(slack, app_tokn="x")


def test_socket_mode_needs_no_public_url(slack: SlackServer) -> None:
    sync_server = pytest.importorskip("websockets.sync.server")
    acknowledged: list[dict[str, Any]] = []
    arrived = threading.Event()

    def talk(connection: Any) -> None:
        connection.send(json.dumps({"type": "hello", "num_connections": 1}))
        payload = envelope(mention("<@UBOT> disk?"), "Ev1")
        for attempt in (0, 1):
            frame = {"type": "events_api", "envelope_id": f"e{attempt}", "payload": payload, "retry_attempt": attempt}
            connection.send(json.dumps({**frame, "accepts_response_payload": False}))
        for text in connection:
            acknowledged.append(json.loads(text))
            arrived.set()

    slack.errors["apps.connections.open"] = [("internal_error", 200)]
    with sync_server.serve(talk, "127.0.0.1", 0) as websocket:
        thread = threading.Thread(target=websocket.serve_forever, daemon=True)
        thread.start()
        slack.websocket_url = f"ws://127.0.0.1:{websocket.socket.getsockname()[1]}/link"
        assistant = Assistant()
        built = surface(slack, app_token="xapp-secret")
        built.start(conversation(assistant, Actions()))
        try:
            assert built.asgi() is None
            slack.wait("files.completeUploadExternal")
            assert arrived.wait(10)
            assert acknowledged[0]["envelope_id"] in ("e0", "e1")
            assert [q.text for q in assistant.questions] == ["disk?"]
        finally:
            built.close()
            websocket.shutdown()
            thread.join()
