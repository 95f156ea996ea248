"""A question through the whole service: planned by an LLM that speaks chat completions, and asked in Slack."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from slack_sdk.signature import SignatureVerifier

from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.model_uses import ModelUseRepository
from tests.contract.chat_completions import Reply, Server, tool_call
from tests.contract.peers import Peer, peer
from tests.e2e.process import Service, aiops, until
from tests.e2e.test_bad_input import WRITE, bits
from tests.integration.slack_server import SlackServer
from tests.integration.test_slack import envelope, mention
from tests.unit.ingest.encode import metadata, series, snappy

SIGNING_SECRET = "signing-secret-of-the-test"
AVAIL, SIZE = "node_filesystem_avail_bytes", "node_filesystem_size_bytes"
QUESTION = "which hosts are low on disk?"


def fill(service: Service) -> None:
    """Two hosts as node_exporter tells of them, one of them at 4 % of its root disk."""
    now = int(time.time() * 1000)
    body = metadata(2, AVAIL, "Filesystem space available.", "bytes") + metadata(2, SIZE, "Filesystem size.", "bytes")
    for host, free in (("web-1", 4e9), ("web-2", 60e9)):
        for name, value in ((AVAIL, free), (SIZE, 100e9)):
            labels = {"__name__": name, "device": "/dev/sda1", "fstype": "ext4", "instance": host, "job": "node",
                      "mountpoint": "/"}  # fmt: skip
            body += series(list(labels.items()), [(now - 15_000 * k, bits(value)) for k in range(40, -1, -1)])
    assert service.http.post("/api/v1/write", content=snappy(body), headers=WRITE).status_code == 204


def test_an_llm_plans_over_the_store(tmp_path: Path) -> None:
    promql = f'{AVAIL}{{instance=~"web-.*"}} / {SIZE}{{instance=~"web-.*"}}'
    plan = {
        "steps": [{
            "kind": "metric", "title": "free disk space", "shape": "threshold", "unit": "ratio", "bad": "low",
            "promql": promql, "threshold": {"op": "<", "value": 0.1},
        }],
        "confidence": 0.9,
    }  # fmt: skip

    def script(number: int, body: dict[str, Any]) -> Reply:
        if number == 0:
            return tool_call("find_metrics", {"words": "free disk space"})
        return tool_call("Plan", plan, f"call_{number}")

    with Server(script).running() as llm:
        # As a user has it: nothing but the environment.
        keys = {"OPENAI_API_KEY": "sk-very-secret", "OPENAI_BASE_URL": llm.url}
        service = Service(tmp_path, {"detection": {"enabled": False}}, keys)
        try:
            fill(service)
            done = aiops(tmp_path, "ask", QUESTION, "--json", "--data-dir", str(service.data))
            assert done.returncode == 0, done.stderr
            answer = json.loads(done.stdout)
            assert answer["planner"] == "openai:gpt-5-mini", answer["limits"]
            assert answer["sure"]
            (evidence,) = answer["evidence"]
            assert (evidence["source"], evidence["state"], evidence["unit"]) == ("store", "ok", "ratio")
            assert evidence["query"] == f"({promql}) < 0.1"
            first = evidence["figures"][0]
            assert (first["labels"]["instance"], first["value"]) == ("web-1", pytest.approx(0.04))
            assert "web-1" in answer["text"]
            assert "web-2" not in answer["text"]
            chart = service.http.get(evidence["chart"])
            assert chart.content.startswith(b"\x89PNG")

            assert {k for r in llm.requests for k in r} >= {"messages", "tools"}
            assert AVAIL in json.dumps(llm.requests[1]["messages"]), "the tool's answer reached the model"
            assert llm.keys == ["Bearer sk-very-secret"] * 2
            assert "sk-very-secret" not in done.stdout + service.log.read_text()
            assert spent(service) == (2 * 1100, pytest.approx(2 * 0.00045))

            shown = aiops(tmp_path, "ask", QUESTION, "--data-dir", str(service.data))
            assert "openai:gpt-5-mini" in shown.stdout, shown.stdout + shown.stderr
            assert AVAIL in shown.stdout
            assert "Traceback" not in service.said()
        finally:
            service.close()


def spent(service: Service) -> tuple[float, float]:
    """Tokens and USD of the language model in the service's own ledger."""
    state = StateDatabase(sqlite_url(service.data))
    try:
        uses = ModelUseRepository(state).list(0, 2**62, "openai:gpt-5-mini")
        return sum(use.quantity for use in uses), sum(use.cost for use in uses)
    finally:
        state.close()


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    server = SlackServer()
    yield server
    server.close()


def test_a_mention_in_slack_is_answered_in_its_thread_with_a_chart(slack: SlackServer, tmp_path: Path) -> None:
    tokens = {"SLACK_BOT_TOKEN": SlackServer.TOKEN, "SLACK_SIGNING_SECRET": SIGNING_SECRET}
    chat = {"slack": {"plugin": "slack", "api_url": f"{slack.url}/api/"}}
    # No host metrics of this machine: the answer must be the same on every machine.
    config = {"detection": {"enabled": False}, "connectors": {"chat": chat, "telemetry": {}}}
    service = Service(tmp_path, config, tokens)
    try:
        fill(service)
        until(lambda: signed(service, "{}", secret="wrong").status_code != 404)
        body = json.dumps(envelope(mention(f"<@UBOT> {QUESTION}"), "Ev1"))
        assert signed(service, body, secret="wrong").status_code == 401
        assert signed(service, body, at=int(time.time()) - 3600).status_code == 401, "an old request is a replay"
        assert slack.of("chat.postMessage") == []
        for retry in ({}, {"x-slack-retry-num": "1", "x-slack-retry-reason": "http_timeout"}):
            assert signed(service, body, **retry).status_code == 200
        (done,) = slack.wait("files.completeUploadExternal")
        (posted,) = slack.of("chat.postMessage")
        assert (posted["channel"], posted["thread_ts"]) == ("C1", "1699.1")
        edited = slack.of("chat.update")[-1]
        text = json.dumps(edited["blocks"], ensure_ascii=False)
        assert "web-1" in text
        assert "4 %" in text
        assert "web-2" not in text
        assert AVAIL in text, "the query is shown"
        assert (done["channel_id"], done["thread_ts"]) == ("C1", "1699.1")
        (chart,) = slack.files.values()
        assert b"\x89PNG\r\n" in chart

        # A follow-up in the same thread knows what it is about.
        more = mention("<@UBOT> and over the last 6 hours?", ts="1700.5", thread_ts="1699.1")
        assert signed(service, json.dumps(envelope(more, "Ev2"))).status_code == 200
        posts = slack.wait("chat.postMessage", 2)
        assert posts[1]["thread_ts"] == "1699.1"
        until(lambda: AVAIL in json.dumps(slack.of("chat.update")[-1]["blocks"]) and len(slack.of("chat.update")) > 1)
        log = service.log.read_text()
        assert SlackServer.TOKEN not in log
        assert SIGNING_SECRET not in log
        assert "Traceback" not in log
    finally:
        service.close()


def test_a_silence_is_proposed_and_approved_in_slack(slack: SlackServer, tmp_path: Path) -> None:
    with peer() as manager:
        manager.usual.body = b'{"silenceID": "sil-1"}'
        tokens = {"SLACK_BOT_TOKEN": SlackServer.TOKEN, "SLACK_SIGNING_SECRET": SIGNING_SECRET}
        chat = {"slack": {"plugin": "slack", "api_url": f"{slack.url}/api/", "users": {"UANNA": "approver"}}}
        executors = {"am": {"plugin": "alertmanager_silence", "url": manager.url}}
        connectors = {"chat": chat, "telemetry": {}, "executors": executors}
        service = Service(tmp_path, {"detection": {"enabled": False}, "connectors": connectors}, tokens)
        try:
            until(lambda: signed(service, "{}", secret="wrong").status_code != 404)
            alert = {"status": "firing", "labels": {"alertname": "CheckoutSlow", "service": "checkout"}}
            sent = service.http.post("/api/v1/webhooks/alertmanager", json={"version": "4", "alerts": [alert]})
            assert sent.status_code == 202

            ask = mention("<@UBOT> please silence the alert of checkout", user="UANNA")
            assert signed(service, json.dumps(envelope(ask, "Ev1"))).status_code == 200
            (edited,) = slack.wait("chat.update")
            approve, reject = edited["blocks"][-1]["elements"]
            assert approve["text"]["text"] == "Approve silence checkout"
            assert reject["text"]["text"] == "Reject silence checkout"
            effect = 'Alertmanager would silence {alertname="CheckoutSlow", service="checkout"} for 60 min.'
            assert effect in edited["blocks"][0]["text"]["text"], "one sees what one approves"

            assert press(service, "USTRANGER", approve["value"], "t1").status_code == 200
            refusal = slack.wait("chat.postMessage", 2)[-1]
            assert "may not" in refusal["text"] or "Approving needs" in refusal["text"], refusal
            assert silences(manager) == []
            for trigger in ("t2", "t2", "t3"):
                press(service, "UANNA", approve["value"], trigger)
            outcomes = slack.wait("chat.postMessage", 4)[2:]
            assert all(o["thread_ts"] == "1699.1" for o in outcomes)
            words = " ".join(o["text"] for o in outcomes)
            assert "approved by slack:UANNA: executed" in words, words
            assert f"The action {approve['value'].split(':')[1]} is " in words, (
                "the second press says that it is decided"
            )
            (made,) = silences(manager)
            assert {m["name"]: m["value"] for m in made["matchers"]} == alert["labels"]
            assert "Traceback" not in service.log.read_text()
        finally:
            service.close()


def silences(manager: Peer) -> list[dict[str, Any]]:
    return [r.json for r in manager.received if r.method == "POST" and r.path == "/api/v2/silences"]


def press(service: Service, user: str, value: str, trigger: str) -> httpx.Response:
    button = {"type": "button", "action_id": "aiops_decide_0", "block_id": "b", "value": value, "action_ts": trigger}
    payload = {
        "type": "block_actions", "team": {"id": "T1"}, "user": {"id": user}, "channel": {"id": "C1"},
        "trigger_id": trigger, "message": {"ts": "1700.1", "thread_ts": "1699.1"}, "actions": [button],
    }  # fmt: skip
    body = urllib.parse.urlencode({"payload": json.dumps(payload)})
    return signed(service, body, **{"content-type": "application/x-www-form-urlencoded"})


def signed(
    service: Service, body: str, *, secret: str = SIGNING_SECRET, at: int | None = None, **headers: str
) -> httpx.Response:
    stamp = str(int(time.time()) if at is None else at)
    signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body)
    assert signature is not None
    sent = {"content-type": "application/json", "x-slack-request-timestamp": stamp, "x-slack-signature": signature}
    return service.http.post("/slack/events", content=body.encode(), headers={**sent, **headers})
