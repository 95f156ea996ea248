"""What each resource does, end to end through the app."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from aiops.api.routes import ask
from aiops.core.incident import Alert, Severity, SignalKind
from aiops.core.job import JobStatus, Schedule
from tests.unit.api.conftest import NOW, House

ALERT = {
    "status": "firing",
    "labels": {"alertname": "HighLatency", "service": "checkout", "team": "shop", "severity": "critical"},
    "annotations": {"summary": "slow\u202e \x07 checkout"},
    "startsAt": "2025-11-24T15:00:00Z",
}
BODY = {"version": "4", "groupKey": "g", "status": "firing", "alerts": [ALERT]}


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    return open_house(auth="none")


def opened(house: House) -> dict[str, Any]:
    reply = house.client.post("/api/v1/webhooks/alertmanager", json=BODY)
    assert (reply.status_code, reply.json()) == (202, {"alerts": 1, "changes": 0, "updates": 0})
    found: list[dict[str, Any]] = house.client.get("/api/v1/incidents").json()["incidents"]
    assert len(found) == 1
    return found[0]


def test_health_and_status(house: House) -> None:
    assert house.client.get("/healthz").text == "ok\n"
    ready = house.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert house.client.get("/metrics").text.endswith("up 1\n")
    status = house.client.get("/api/v1/aiops/status").json()
    assert status == house.client.get("/api/v1/status").json()
    assert status["store"]["samples"] == 0
    assert status["incidents"] == {"open": 0, "acknowledged": 0}


def test_the_reference_page_and_openapi(house: House) -> None:
    document = house.client.get("/openapi.json").json()
    assert "/api/v1/ask" in document["paths"]
    assert document["paths"]["/api/v1/ask"]["post"]["security"]
    ids = [o["operationId"] for path in document["paths"].values() for o in path.values()]
    assert len(ids) == len(set(ids))
    page = house.client.get("/docs").text
    assert "/api/v1/incidents/{incident_id}/acknowledge" in page
    assert "<script" not in page


def test_a_question_its_answer_and_chart(house: House) -> None:
    reply = house.client.post(
        "/api/v1/ask", json={"question": "which hosts are low on disk?", "conversation": "c1", "zone": "Europe/Berlin"}
    )
    assert reply.status_code == 200
    answer = reply.json()
    evidence = answer["evidence"][0]
    assert answer["zone"] == "Europe/Berlin"
    assert evidence["query"] == "node_filesystem_avail_bytes"
    assert evidence["figures"] == [{"name": "", "value": None, "unit": "By", "labels": {"host": "a b"}}]
    assert evidence["series"][0]["points"] == [[NOW - 60_000, 1.0], [NOW, None]]
    assert "\n" not in evidence["lines"][0]
    assert "\x1b" not in evidence["lines"][0]
    assert evidence["link"] == "", "no javascript: links"
    assert house.client.get(f"/api/v1/answers/{answer['id']}").json() == answer
    chart = house.client.get(evidence["chart"])
    assert (chart.status_code, chart.headers["content-type"]) == (200, "image/png")
    assert chart.content.startswith(b"\x89PNG")
    assert house.client.get(f"/api/v1/answers/{answer['id']}/charts/E9.png").status_code == 404
    conversations = house.services.conversations
    assert conversations is not None
    assert [m.text for m in conversations.messages("http:local:c1")] == ["which hosts are low on disk?", "**fine**"]


def test_a_flood_of_questions_is_told_to_wait(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "MAX_WAITING", 0)
    reply = house.client.post("/api/v1/ask", json={"question": "up?"})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "10")


def test_feedback_on_an_answer(house: House) -> None:
    answer = house.client.post("/api/v1/ask", json={"question": "up?"}).json()
    path = f"/api/v1/answers/{answer['id']}/feedback"
    assert house.client.post(path, json={"helpful": False}).status_code == 204
    assert house.client.post(path, json={"helpful": True, "note": "on second thought"}).status_code == 204
    assert house.services.conversations is not None
    assert [f.helpful for f in house.services.conversations.feedback(answer["id"])] == [True]
    assert house.client.post("/api/v1/answers/none/feedback", json={"helpful": True}).status_code == 404


@pytest.mark.parametrize("zone", ["Mars/Base", "../../etc/passwd", "Europe/"])
def test_an_unknown_zone_is_a_400(house: House, zone: str) -> None:
    assert house.client.post("/api/v1/ask", json={"question": "up?", "zone": zone}).status_code == 400


def test_a_scoped_caller_reads_only_its_own_answers(open_house: Callable[..., House]) -> None:
    house = open_house()
    ask = {"question": "up?"}
    theirs = house.client.post("/api/v1/ask", json=ask, headers=house.headers("viewer")).json()["id"]
    own = house.client.post("/api/v1/ask", json=ask, headers=house.headers("scoped")).json()["id"]
    assert house.client.get(f"/api/v1/answers/{theirs}", headers=house.headers("scoped")).status_code == 404
    assert house.client.get(f"/api/v1/answers/{own}", headers=house.headers("scoped")).status_code == 200
    assert house.client.get(f"/api/v1/answers/{own}", headers=house.headers("viewer")).status_code == 200


def test_an_alert_becomes_an_incident_and_is_worked_on(house: House) -> None:
    incident = opened(house)
    path = f"/api/v1/incidents/{incident['id']}"
    shown = house.client.get(path).json()
    assert shown["signals"][0]["alert"]["summary"] == "slow checkout"
    assert shown["signals"][0]["alert"]["labels"]["service"] == "checkout"
    assert house.client.post(f"{path}/notes", json={"text": "on it"}).status_code == 200
    assert house.client.post(f"{path}/acknowledge").json()["status"] == "acknowledged"
    assert house.client.post(f"{path}/resolve", json={"reason": "rolled back"}).json()["status"] == "resolved"
    assert house.client.post(f"{path}/resolve").status_code == 409
    assert house.client.get("/api/v1/incidents?status=open").json() == {"incidents": []}
    assert [e.action for e in house.services.audit.list()][:2] == ["incident.resolve", "incident.acknowledge"]
    assert house.client.get("/api/v1/incidents/INC-99").status_code == 404


def test_the_report_of_an_incident_in_each_form(house: House) -> None:
    path = f"/api/v1/incidents/{opened(house)['id']}/report"
    page = house.client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "slow checkout" in page.text
    marked = house.client.get(f"{path}?format=markdown")
    assert marked.headers["content-type"].startswith("text/markdown")
    assert marked.text.startswith("**INC")
    assert "slow checkout" in house.client.get(f"{path}?format=text").text
    assert house.client.get("/api/v1/incidents/INC-99/report").status_code == 404
    assert house.client.get(f"{path}?format=pdf").status_code == 422


def test_an_incident_is_assigned_and_the_timeline_says_so(house: House) -> None:
    assert house.services.incidents is not None
    labels = (("alertname", "Down"), ("service", "web"))
    house.services.incidents.submit(
        [Alert("a", SignalKind.ALERT, "Down", labels, Severity.WARNING, house.time.now, house.time.now)]
    )
    (found,) = house.client.get("/api/v1/incidents").json()["incidents"]
    path = f"/api/v1/incidents/{found['id']}/assign"
    assert house.client.post(path, json={"assignee": " ann "}).json()["assignee"] == "ann"
    entry = house.client.post(path, json={"assignee": ""}).json()["timeline"][-1]
    assert (entry["event"], entry["detail"]) == ("assigned", "to nobody")
    assert house.client.post(path, json={"assignee": "x" * 201}).status_code == 422
    assert house.client.post("/api/v1/incidents/INC-99/assign", json={"assignee": "ann"}).status_code == 404


def test_merging_two_incidents(house: House) -> None:
    assert house.services.incidents is not None
    for service in ("a", "b"):
        labels = (("alertname", service), ("service", service))
        house.time.now += 7_200_000
        house.services.incidents.submit(
            [Alert(service, SignalKind.ALERT, service, labels, Severity.WARNING, house.time.now, house.time.now)]
        )
    first, second = (i["id"] for i in house.client.get("/api/v1/incidents").json()["incidents"])
    merged = house.client.post(f"/api/v1/incidents/{first}/merge", json={"into": second})
    assert merged.status_code == 200
    assert merged.json()["id"] == second
    assert house.client.get(f"/api/v1/incidents/{first}").json()["status"] == "merged"
    assert house.client.post(f"/api/v1/incidents/{second}/merge", json={"into": second}).status_code == 400


def test_prometheus_may_take_us_for_an_alertmanager(house: House) -> None:
    alert = {"labels": ALERT["labels"], "annotations": ALERT["annotations"], "startsAt": "2025-11-24T15:00:00Z"}
    reply = house.client.post("/api/v2/alerts", json=[alert])
    assert (reply.status_code, reply.content) == (200, b"")
    assert len(house.client.get("/api/v1/incidents").json()["incidents"]) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"alerts": 3}', b"\xff\xfe", b"null"])
def test_bad_webhook_bodies_are_400(house: House, body: bytes) -> None:
    for path in ("/api/v1/webhooks/alertmanager", "/api/v2/alerts"):
        reply = house.client.post(path, content=body)
        assert reply.status_code == 400, path
        assert reply.headers["content-type"] == "application/problem+json"
    assert house.client.post("/api/v1/webhooks/unknown", content=b"{}").status_code == 404


def test_a_source_with_a_secret_needs_no_key_and_one_without_does(open_house: Callable[..., House]) -> None:
    house = open_house(inbound={"bearer_token": "s3cret"})
    post = house.client.post
    assert post("/api/v1/webhooks/alertmanager", json=BODY).status_code == 401
    assert post("/api/v1/webhooks/alertmanager", json=BODY, headers=house.headers("responder")).status_code == 401
    assert (
        post("/api/v1/webhooks/alertmanager", json=BODY, headers={"authorization": "Bearer s3cret"}).status_code == 202
    )
    house = open_house()
    assert post("/api/v1/webhooks/alertmanager", json=BODY).status_code == 401
    reply = house.client.post("/api/v1/webhooks/alertmanager", json=BODY, headers=house.headers("responder"))
    assert reply.status_code == 202


def test_a_scoped_viewer_sees_incidents_of_its_scope_only(open_house: Callable[..., House]) -> None:
    house = open_house()
    other = {**ALERT, "labels": {"alertname": "Disk", "service": "billing", "team": "money"}}
    house.client.post(
        "/api/v1/webhooks/alertmanager", json={**BODY, "alerts": [ALERT]}, headers=house.headers("responder")
    )
    house.time.now += 7_200_000
    house.client.post(
        "/api/v1/webhooks/alertmanager", json={**BODY, "alerts": [other]}, headers=house.headers("responder")
    )
    seen = house.client.get("/api/v1/incidents", headers=house.headers("scoped")).json()["incidents"]
    assert [i["service"] for i in seen] == ["checkout"]


def test_an_action_from_proposal_to_outcome(open_house: Callable[..., House]) -> None:
    house = open_house()
    responder, approver = house.headers("responder"), house.headers("approver")
    house.client.post("/api/v1/webhooks/alertmanager", json=BODY, headers=responder)
    incident = house.client.get("/api/v1/incidents", headers=responder).json()["incidents"][0]
    body = {
        "kind": "webhook",
        "target": "checkout",
        "parameters": {"executor": "recorder"},
        "incident_id": incident["id"],
        "reason": "restart",
    }
    proposed = house.client.post("/api/v1/actions", json=body, headers=responder)
    assert proposed.status_code == 201, proposed.text
    action = proposed.json()
    path = f"/api/v1/actions/{action['id']}"
    assert house.client.get("/api/v1/actions?status=proposed", headers=responder).json()["actions"] == [action]
    assert house.client.post(f"{path}/approve", json={"digest": action["digest"]}, headers=responder).status_code == 403
    assert house.client.post(f"{path}/approve", json={"digest": "f" * 64}, headers=approver).status_code == 403
    assert house.client.post(f"{path}/approve", json={"digest": "short"}, headers=approver).status_code == 422
    done = house.client.post(f"{path}/approve", json={"digest": action["digest"]}, headers=approver)
    assert done.status_code == 200, done.text
    assert (done.json()["status"], done.json()["result"]) == ("executed", "called")
    assert house.client.post(f"{path}/approve", json={"digest": action["digest"]}, headers=approver).status_code == 409
    assert house.client.post(f"{path}/reject", headers=responder).status_code == 409
    assert house.client.get("/api/v1/actions/none", headers=responder).status_code == 404
    assert house.services.audit.verify() is None


def test_an_action_without_a_measured_trigger_is_refused(house: House) -> None:
    incident = opened(house)
    body = {
        "kind": "webhook", "target": "database", "parameters": {"executor": "recorder"}, "incident_id": incident["id"],
    }  # fmt: skip
    assert house.client.post("/api/v1/actions", json=body).status_code == 403
    assert house.client.post("/api/v1/actions", json={**body, "kind": "rm -rf"}).status_code == 400


def test_costs_of_an_empty_store(house: House) -> None:
    summary = house.client.get("/api/v1/costs/summary").json()
    assert (summary["total"], summary["groups"], summary["columns"]) == (0.0, [], ["ServiceName"])
    assert house.client.get("/api/v1/costs/forecast").json()["method"] == "no costs"
    assert house.client.get("/api/v1/costs/anomalies").json() == {"anomalies": []}
    assert house.client.get("/api/v1/costs/budgets").json() == {"budgets": []}
    assert house.client.get("/api/v1/costs/summary?start_ms=5&end_ms=5").status_code == 400
    assert house.client.get("/api/v1/costs/summary?where=oops").status_code == 400
    assert house.client.get("/api/v1/costs/summary?group_by=Password").status_code == 400


def test_importing_costs(house: House) -> None:
    reply = house.client.post("/api/v1/costs/import?name=bill.csv", content=b"a,b\n")
    assert (reply.status_code, reply.json()) == (200, {"rows": 4})
    assert house.client.post("/api/v1/costs/import?name=bill.csv", content=b"").status_code == 400
    assert house.client.post("/api/v1/costs/import", content=b"a").status_code == 422
    assert house.services.audit.list()[0].action == "costs.import"


def test_the_cost_report_in_both_forms(house: House) -> None:
    page = house.client.get("/api/v1/reports/cost?days=7")
    assert page.headers["content-type"].startswith("text/html")
    assert "img-src data:" in page.headers["content-security-policy"]
    assert "script-src" not in page.headers["content-security-policy"]
    assert house.client.get("/api/v1/reports/cost?format=text").text == "costs"
    assert house.client.get("/api/v1/reports/cost?format=pdf").status_code == 422


def test_notifications(house: House) -> None:
    assert house.client.get("/api/v1/notifications").json() == {"notifications": []}
    assert house.client.post("/api/v1/notifications/test", json={"receiver": "nobody"}).status_code == 404
    assert house.client.post("/api/v1/notifications/none/resend").status_code == 404


def test_jobs_and_schedules(house: House) -> None:
    queue = house.services.jobs
    assert queue is not None
    queue.save_schedule(Schedule("weekly", "0 8 * * 1", "UTC", "report", (("name", "weekly"),), NOW))
    assert house.client.get("/api/v1/schedules").json()["schedules"][0]["name"] == "weekly"
    job = house.client.post("/api/v1/schedules/weekly/run").json()
    assert (job["kind"], job["arguments"], job["created_by"]) == ("report", {"name": "weekly"}, "local")
    assert house.client.get(f"/api/v1/jobs/{job['id']}").json() == job
    assert house.client.post(f"/api/v1/jobs/{job['id']}/cancel").json()["status"] == JobStatus.CANCELLED
    assert house.client.get("/api/v1/jobs?status=cancelled").json()["jobs"][0]["id"] == job["id"]
    assert house.client.post("/api/v1/schedules/none/run").status_code == 404
    backfill = house.client.post("/api/v1/backfills", json={"source": "host", "days": 2})
    assert (backfill.status_code, backfill.json()["arguments"]) == (202, {"source": "host", "days": "2.0"})
    assert house.client.get(f"/api/v1/backfills/{backfill.json()['id']}").json()["status"] == "queued"
    assert house.client.get(f"/api/v1/backfills/{job['id']}").status_code == 404
    assert house.client.post("/api/v1/backfills", json={"source": "nope"}).status_code == 404
    assert house.client.post("/api/v1/backfills", json={"source": "host", "days": -1}).status_code == 422


def test_the_audit_trail(house: House) -> None:
    opened(house)
    house.client.post("/api/v1/incidents/INC-1/acknowledge")
    entries = house.client.get("/api/v1/audit?action=incident.acknowledge").json()["entries"]
    assert [(e["actor"], e["subject"]) for e in entries] == [("local", "INC-1")]
    verdict = house.client.get("/api/v1/audit/verify").json()
    assert (verdict["whole"], verdict["broken"]) == (True, None)
    assert verdict["entries"] == verdict["head_sequence"] == 6


def test_models_of_an_empty_registry(open_house: Callable[..., House]) -> None:
    house = open_house(auth="none", models=True)
    assert house.client.get("/api/v1/models").json() == {"models": []}
    assert house.client.get("/api/v1/models/none").status_code == 404
    assert house.client.post("/api/v1/models/none/versions/1/promote").status_code == 404
    assert house.client.post("/api/v1/models/none/rollback").status_code in (404, 409)
    assert house.services.audit.list(action="model.promote") == ()


def test_hostile_alert_text_is_shown_harmless(house: House) -> None:
    labels = {"alertname": "<script>alert(1)</script>", "service": "x\ud800y", "note": "a\x00b\u200b"}
    alert = {"status": "firing", "labels": labels, "annotations": {"summary": "\x1b]0;x"}}
    body = json.dumps({"alerts": [alert]})
    assert house.client.post("/api/v1/webhooks/alertmanager", content=body).status_code in (202, 400)
    reply = house.client.get("/api/v1/incidents")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert "\x00" not in reply.text
    assert "\x1b" not in reply.text
