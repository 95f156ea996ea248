"""One incident from a real Alertmanager's webhook to the page, the approved silence, and the resolve."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.contract.peers import Peer, peer
from tests.e2e.process import Service, aiops, one_line, until
from tests.integration.servers import Server, free_port, start_alertmanager

pytestmark = pytest.mark.server("prometheus-alertmanager")
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LABELS = {"alertname": "CheckoutSlow", "service": "checkout", "severity": "critical", "instance": "web-1"}


def key(folder: Path, name: str, role: str) -> str:
    done = aiops(folder, "keys", "create", name, "--role", role, "--json", "--data-dir", str(folder / "data"))
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["key"])


class Caller:
    """Requests with one key."""

    def __init__(self, service: Service, key: str) -> None:
        self._http, self.key = service.http, key
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def __call__(self, method: str, path: str, status: int = 200, **rest: Any) -> Any:
        reply = self._http.request(method, path, headers=self._headers, **rest)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text}"
        if status >= 400:
            assert reply.headers["content-type"] == "application/problem+json"
        return reply.json()


def alert(manager: Server, ends: str = "") -> None:
    body = [{"labels": LABELS, "annotations": {"summary": "p95 is 2.1 s"}, **({"endsAt": ends} if ends else {})}]
    manager_api(manager, "POST", "alerts", json=body)


def manager_api(manager: Server, method: str, path: str, **rest: Any) -> Any:
    with httpx.Client(trust_env=False, timeout=10) as client:
        reply = client.request(method, f"{manager.url}/api/v2/{path}", **rest)
        reply.raise_for_status()
        return reply.json() if reply.content else None


def pages(pager: Peer, action: str) -> list[dict[str, Any]]:
    return [r.json for r in pager.received if r.path == "/v2/enqueue" and r.json["event_action"] == action]


def events(hook: Peer, kind: str) -> list[dict[str, Any]]:
    """CloudEvents of a type, each of them with a good signature."""
    found = []
    for request in hook.received:
        Webhook(SIGNING).verify(request.body, request.headers)
        if request.json["type"] == f"aiops.incident.{kind}":
            found.append(request.json)
    return found


def test_from_alert_to_page_to_approved_silence_to_resolve(tmp_path: Path) -> None:
    # Keys are made before there is a service; Alertmanager needs one to be let in.
    sender, viewer = key(tmp_path, "alertmanager", "responder"), key(tmp_path, "vera", "viewer")
    oncall, chief = key(tmp_path, "otto", "responder"), key(tmp_path, "anna", "approver")
    port = free_port()
    accepted = b'{"status": "success"}'
    with peer() as pager, peer() as hook:
        pager.usual.status, pager.usual.body = 202, accepted
        manager = start_alertmanager(tmp_path, f"http://127.0.0.1:{port}/api/v1/webhooks/alertmanager", sender)
        config = {
            "server": {"auth": "keys"},
            "detection": {"enabled": False},
            "incidents": {"resolve_timeout_s": 5},
            "connectors": {"executors": {"am": {"plugin": "alertmanager_silence", "url": manager.url}}},
            "receivers": {
                "pager": {"plugin": "pagerduty", "routing_key": "R0UTE", "url": pager.url, "pages": True},
                "hook": {"plugin": "webhook", "url": f"{hook.url}/in", "secret": SIGNING},
            },
        }
        service = Service(tmp_path, config, port=port)
        try:
            flow(tmp_path, service, manager, pager, hook, (viewer, oncall, chief))
            assert "Traceback" not in service.said()
            for secret in (sender, viewer, oncall, chief, "R0UTE", SIGNING.removeprefix("whsec_")):
                assert secret not in service.log.read_text()
        finally:
            service.close()
            manager.stop()


def flow(folder: Path, service: Service, manager: Server, pager: Peer, hook: Peer, keys: tuple[str, str, str]) -> None:
    viewer, oncall, chief = (Caller(service, k) for k in keys)
    nobody, forger = Caller(service, ""), Caller(service, "aiops_0000000000000000_forged")
    for stranger in (nobody, forger):
        stranger("GET", "/api/v1/incidents", 401)
        stranger("POST", "/api/v1/webhooks/alertmanager", 401, json={"alerts": []})
    viewer("POST", "/api/v1/webhooks/alertmanager", 403, json={"alerts": []})
    assert viewer("GET", "/api/v1/incidents")["incidents"] == []

    alert(manager)
    (incident,) = until(lambda: viewer("GET", "/api/v1/incidents")["incidents"])
    assert (incident["status"], incident["severity"], incident["service"]) == ("open", "critical", "checkout")
    assert incident["signals"][0]["alert"]["summary"] == "p95 is 2.1 s"

    (page,) = until(lambda: pages(pager, "trigger"))
    assert page["routing_key"] == "R0UTE"
    assert page["payload"]["severity"] == "critical"
    assert "checkout" in page["payload"]["summary"]
    (opened,) = until(lambda: events(hook, "opened"))
    assert opened["subject"] == incident["id"]
    assert opened["data"]["service"] == "checkout"
    assert until(lambda: viewer("GET", f"/api/v1/incidents/{incident['id']}")["paged"])

    silenced = propose_and_approve(incident["id"], manager, viewer, oncall, chief)

    told = aiops(folder, "audit", "verify", "--data-dir", str(service.data))
    assert told.returncode == 0, told.stderr
    assert "whole" in told.stdout
    shown = aiops(
        folder, "actions", "list", "--json", "--url", service.url, "--data-dir", str(service.data),
        env={"AIOPS_API_KEY": keys[0]},
    )  # fmt: skip
    assert [a["status"] for a in json.loads(shown.stdout)["actions"]] == ["executed"], shown.stderr
    refused = one_line(aiops(folder, "actions", "list", "--url", service.url))
    assert "--api-key or AIOPS_API_KEY" in refused

    # A silenced Alertmanager does not tell of a resolve either.
    manager_api(manager, "DELETE", f"silence/{silenced}")
    alert(manager, datetime.now(UTC).isoformat())
    (over,) = until(lambda: pages(pager, "resolve"))
    assert over["dedup_key"] == page["dedup_key"]
    (resolved,) = until(lambda: events(hook, "resolved"))
    assert resolved["subject"] == incident["id"]
    seen = viewer("GET", f"/api/v1/incidents/{incident['id']}")
    assert seen["status"] == "resolved"
    assert len(pages(pager, "trigger")) == 1, "nobody is paged twice"
    words = " ".join(f"{e['event']} {e['detail']}" for e in seen["timeline"])
    assert "silence on checkout executed" in words, words


def propose_and_approve(incident: str, manager: Server, viewer: Caller, oncall: Caller, chief: Caller) -> str:
    """The id of the silence that is then in Alertmanager."""
    matchers = {k: LABELS[k] for k in ("alertname", "service")}
    proposal = {
        "kind": "silence", "target": "checkout", "incident_id": incident, "reason": "the rollback is on its way",
        "parameters": {"executor": "am", "matchers": json.dumps(matchers), "duration_s": "1800", "comment": "rollback"},
    }  # fmt: skip
    viewer("POST", "/api/v1/actions", 403, json=proposal)
    oncall("POST", "/api/v1/actions", 403, json={**proposal, "target": "payment"})
    wide = {**proposal, "parameters": {**proposal["parameters"], "matchers": '{"severity": "critical"}'}}
    oncall("POST", "/api/v1/actions", 400, json=wide)
    made = oncall("POST", "/api/v1/actions", 201, json=proposal)
    assert made["status"] == "proposed"
    effect = 'Alertmanager would silence {alertname="CheckoutSlow", service="checkout"} for 30 min.'
    assert made["reason"] == f"the rollback is on its way. {effect}", "what it would do is part of what is approved"

    approve = f"/api/v1/actions/{made['id']}/approve"
    right, wrong = {"digest": made["digest"]}, {"digest": "0" * 64}
    viewer("POST", approve, 403, json=right)
    oncall("POST", approve, 403, json=right)
    chief("POST", approve, 403, json=wrong)
    chief("POST", approve, 422, json={"digest": "short"})
    assert manager_api(manager, "GET", "silences") == []
    done = chief("POST", approve, json=right)
    assert (done["status"], done["decided_by"]) == ("executed", f"key:{chief.key.split('_')[1]}"), done
    chief("POST", approve, 409, json=right)

    (silence,) = manager_api(manager, "GET", "silences")
    assert silence["status"]["state"] == "active"
    assert {m["name"]: m["value"] for m in silence["matchers"]} == matchers
    assert made["id"] in silence["comment"]
    muted = until(lambda: [a for a in manager_api(manager, "GET", "alerts") if a["status"]["silencedBy"]])
    assert muted[0]["labels"] == LABELS
    return str(silence["id"])
