"""Every route with every role."""

from __future__ import annotations

import base64
import importlib
import pkgutil
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute

from aiops.access.permissions import PERMISSIONS, Permission, allowed
from aiops.api import routes
from aiops.core.principal import LOCAL, Role
from tests.unit.api.conftest import House

TELEMETRY_MODULES = {"prometheus", "remote_write", "otlp", "loki"}
PUBLIC = {"GET /healthz", "GET /readyz", "GET /openapi.json", "GET /docs", "GET /-/healthy", "GET /-/ready"}
NEEDS = {
    "GET /metrics": Permission.READ,
    "POST /api/v1/ask": Permission.ASK,
    "GET /api/v1/answers": Permission.READ,
    "GET /api/v1/answers/{answer_id}": Permission.READ,
    "GET /api/v1/answers/{answer_id}/charts/{name}.png": Permission.READ,
    "POST /api/v1/answers/{answer_id}/feedback": Permission.ASK,
    "GET /api/v1/saved-questions": Permission.READ,
    "GET /api/v1/saved-questions/{name}": Permission.READ,
    "PUT /api/v1/saved-questions/{name}": Permission.ASK,
    "DELETE /api/v1/saved-questions/{name}": Permission.ASK,
    "GET /api/v1/incidents": Permission.READ,
    "GET /api/v1/incidents/{incident_id}": Permission.READ,
    "GET /api/v1/incidents/{incident_id}/report": Permission.READ,
    "POST /api/v1/incidents/{incident_id}/acknowledge": Permission.RESPOND,
    "POST /api/v1/incidents/{incident_id}/resolve": Permission.RESPOND,
    "POST /api/v1/incidents/{incident_id}/notes": Permission.RESPOND,
    "POST /api/v1/incidents/{incident_id}/assign": Permission.RESPOND,
    "POST /api/v1/incidents/{incident_id}/merge": Permission.RESPOND,
    "GET /api/v1/incidents/{incident_id}/similar": Permission.READ,
    "POST /api/v1/incidents/{incident_id}/split": Permission.RESPOND,
    "GET /api/v1/oncall": Permission.READ,
    "GET /api/v1/slos": Permission.READ,
    "GET /api/v1/logs/patterns": Permission.READ,
    "GET /api/v1/service-graph": Permission.READ,
    "GET /api/v1/anomalies": Permission.READ,
    "GET /api/v1/anomalies/{anomaly_id}": Permission.READ,
    "GET /api/v1/anomalies/{anomaly_id}/chart.png": Permission.READ,
    "POST /api/v1/anomalies/{anomaly_id}/marks": Permission.RESPOND,
    "POST /api/v1/missed-anomalies": Permission.RESPOND,
    "GET /api/v1/anomaly-evaluation": Permission.READ,
    "GET /api/v1/silences": Permission.READ,
    "POST /api/v1/silences": Permission.RESPOND,
    "GET /api/v1/silences/{silence_id}": Permission.READ,
    "POST /api/v1/silences/{silence_id}/end": Permission.RESPOND,
    "GET /api/v1/actions": Permission.READ,
    "POST /api/v1/actions": Permission.PROPOSE,
    "GET /api/v1/actions/{action_id}": Permission.READ,
    "POST /api/v1/actions/{action_id}/approve": Permission.APPROVE,
    "POST /api/v1/actions/{action_id}/reject": Permission.PROPOSE,
    "GET /api/v1/costs/summary": Permission.READ,
    "GET /api/v1/costs/forecast": Permission.READ,
    "GET /api/v1/costs/anomalies": Permission.READ,
    "GET /api/v1/costs/budgets": Permission.READ,
    "POST /api/v1/costs/import": Permission.WRITE_TELEMETRY,
    "GET /api/v1/reports/cost": Permission.READ,
    "POST /api/v1/webhooks/{source}": Permission.SEND_ALERTS,
    "POST /api/v2/alerts": Permission.SEND_ALERTS,
    "GET /api/v1/anomalies/{anomaly_id}/lineage": Permission.READ,
    "GET /api/v1/models/{name}/datasets": Permission.READ,
    "GET /api/v1/models/{name}/checkpoints": Permission.READ,
    "POST /api/v1/models/{name}/checkpoints/{checkpoint_id}/restore": Permission.ADMIN,
    "GET /api/v1/models": Permission.READ,
    "GET /api/v1/models/{name}": Permission.READ,
    "POST /api/v1/models/{name}/versions/{version}/promote": Permission.READ,
    "POST /api/v1/models/{name}/rollback": Permission.READ,
    "DELETE /api/v1/models/{name}/versions/{version}": Permission.READ,
    "GET /api/v1/models/{name}/versions/{version}/card": Permission.READ,
    "POST /api/v1/models/{name}/versions/{version}/export": Permission.READ,
    "GET /api/v1/models/{name}/drift": Permission.READ,
    "POST /api/v1/models/{name}/drift": Permission.READ,
    "GET /api/v1/model-comparison": Permission.READ,
    "POST /api/v1/models/{name}/score": Permission.READ,
    "GET /api/v1/models/{name}/series": Permission.READ,
    "GET /api/v1/scoring": Permission.READ,
    "POST /api/v1/models/{name}/score-batches": Permission.READ,
    "GET /api/v1/score-batches/{batch_id}": Permission.READ,
    "GET /api/v1/score-batches/{batch_id}/scores": Permission.READ,
    "GET /api/v1/deployments": Permission.READ,
    "GET /api/v1/deployments/{deployment_id}": Permission.READ,
    "POST /api/v1/models/{name}/deployments": Permission.READ,
    "POST /api/v1/deployments/{deployment_id}/promote": Permission.READ,
    "POST /api/v1/deployments/{deployment_id}/rollback": Permission.READ,
    "POST /api/v1/deployments/{deployment_id}/stop": Permission.READ,
    "POST /api/v1/models/train": Permission.READ,
    "POST /api/v1/models/{name}/train": Permission.READ,
    "GET /api/v1/trainings": Permission.READ,
    "GET /api/v1/model-costs": Permission.READ,
    "GET /api/v1/notifications": Permission.OPERATE,
    "POST /api/v1/notifications/test": Permission.OPERATE,
    "POST /api/v1/notifications/{notification_id}/resend": Permission.OPERATE,
    "GET /api/v1/jobs": Permission.OPERATE,
    "GET /api/v1/jobs/{job_id}": Permission.OPERATE,
    "POST /api/v1/jobs/{job_id}/cancel": Permission.OPERATE,
    "GET /api/v1/schedules": Permission.OPERATE,
    "POST /api/v1/schedules/{name}/run": Permission.OPERATE,
    "POST /api/v1/backfills": Permission.OPERATE,
    "GET /api/v1/backfills/{job_id}": Permission.OPERATE,
    "GET /api/v1/audit": Permission.ADMIN,
    "GET /api/v1/audit/verify": Permission.ADMIN,
    "GET /api/v1/store": Permission.OPERATE,
    "GET /api/v1/store/export": Permission.READ,
    "GET /api/v1/store/export/part": Permission.READ,
    "POST /api/v1/store/backup": Permission.ADMIN,
    "POST /api/v1/store/import": Permission.ADMIN,
    "POST /api/v1/store/retention": Permission.ADMIN,
    "GET /api/v1/aiops/status": Permission.READ,
    "GET /api/v1/status": Permission.READ,
    "GET /api/v1/rules": Permission.READ,
    "GET /api/v1/alerts": Permission.READ,
    "GET /api/v1/alertmanagers": Permission.READ,
    "GET /api/v1/status/buildinfo": Permission.READ,
    "GET /api/v1/status/runtimeinfo": Permission.READ,
    "GET /api/v1/status/flags": Permission.READ,
    "GET /api/v1/status/tsdb": Permission.READ,
    "GET /api/v1/status/walreplay": Permission.READ,
    "GET /federate": Permission.READ,
    "GET /api/v1/targets": Permission.READ,
    "GET /api/v1/status/config": Permission.READ,
    "POST /api/v1/read": Permission.READ,
    "POST /-/reload": Permission.ADMIN,
}
STREAMS = {"GET /api/v1/incident-events": Permission.READ}
"""They answer until the caller goes; ``tests/integration/test_incident_events.py`` reads them."""
BODIES: dict[str, dict[str, object]] = {
    "POST /api/v1/ask": {"question": "up?"},
    "POST /api/v1/answers/{answer_id}/feedback": {"helpful": True},
    "PUT /api/v1/saved-questions/{name}": {"question": "up?"},
    "POST /api/v1/incidents/{incident_id}/notes": {"text": "x"},
    "POST /api/v1/incidents/{incident_id}/assign": {"assignee": "ann"},
    "POST /api/v1/incidents/{incident_id}/merge": {"into": "INC-2"},
    "POST /api/v1/incidents/{incident_id}/split": {"fingerprints": ["0"]},
    "POST /api/v1/silences": {"matchers": ["service=x"], "duration_s": 60, "comment": "x"},
    "POST /api/v1/actions": {"kind": "webhook", "target": "x", "incident_id": "INC-1"},
    "POST /api/v1/actions/{action_id}/approve": {"digest": "0" * 64},
    "POST /api/v1/notifications/test": {"receiver": "none"},
    "POST /api/v1/backfills": {"source": "none"},
    "POST /api/v1/store/backup": {"folder": "relative"},
    "POST /api/v1/models/{name}/score": {"series": [{"id": "x", "values": [1.0]}], "timestamps": [0]},
    "POST /api/v1/models/{name}/score-batches": {"start_ms": 0, "end_ms": 1},
    "POST /api/v1/models/{name}/deployments": {"version": "2", "strategy": "shadow"},
}


def operations(app: FastAPI) -> Iterator[str]:
    """``METHOD /path`` of everything that is routed, in the schema or not."""
    pending: list[BaseRoute] = list(app.routes)
    while pending:
        route = pending.pop()
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if inner is not None and hasattr(inner, "routes") and not hasattr(route, "endpoint"):
            pending.extend(inner.routes)
            continue
        for method in sorted((getattr(route, "methods", None) or {"GET"}) - {"HEAD", "OPTIONS"}):
            yield f"{method} {route.path}"  # type: ignore[attr-defined]


def call(house: House, operation: str, headers: dict[str, str]) -> int:
    method, path = operation.split(" ")
    for name in (
        "answer_id",
        "incident_id",
        "action_id",
        "notification_id",
        "job_id",
        "silence_id",
        "name",
        "version",
        "checkpoint_id",
    ):
        path = path.replace(f"{{{name}}}", "1")
    path = path.replace("{source}", "alertmanager")
    query = {"name": "a.csv"} if path.endswith("/import") else {}
    return house.client.request(method, path, headers=headers, json=BODIES.get(operation, {}), params=query).status_code


def of_modules(house: House, names: set[str]) -> set[str]:
    """Operations of some of the route modules."""
    app = FastAPI()
    for name in names:
        app.include_router(importlib.import_module(f"{routes.__name__}.{name}").router(house.services))
    return set(operations(app))


def test_every_route_is_public_or_in_the_table(house: House) -> None:
    modules = {m.name for m in pkgutil.iter_modules(routes.__path__)}
    ours = of_modules(house, modules - TELEMETRY_MODULES)
    known = {"GET /docs", "GET /docs/oauth2-redirect", "GET /openapi.json", "GET /redoc"}
    assert ours - known - PUBLIC == set(NEEDS) | set(STREAMS)


def test_a_viewer_reads_telemetry_and_writes_none(house: House) -> None:
    modules = {m.name for m in pkgutil.iter_modules(routes.__path__)}
    for operation in of_modules(house, modules & (TELEMETRY_MODULES - {"prometheus"})):
        if operation.startswith("POST"):
            assert call(house, operation, house.headers("viewer")) == 403, operation
            assert call(house, operation, house.headers("scoped")) == 403, operation


def test_without_a_key_everything_but_the_public_routes_is_refused(house: House) -> None:
    for operation in operations(house.client.app):  # type: ignore[arg-type]
        if operation not in PUBLIC:
            assert call(house, operation, {}) == 401, operation


@pytest.mark.parametrize("role", list(Role))
def test_each_role_reaches_what_it_may_and_nothing_else(house: House, role: Role) -> None:
    for operation, permission in NEEDS.items():
        status = call(house, operation, house.headers(role.value))
        if permission in PERMISSIONS[role]:
            assert status not in (401, 403, 500), operation
        else:
            assert status == 403, operation


def test_a_scoped_key_may_not_do_what_a_scope_cannot_limit(house: House) -> None:
    for operation, permission in NEEDS.items():
        unlimited = permission in (
            Permission.WRITE_TELEMETRY, Permission.SEND_ALERTS, Permission.OPERATE, Permission.ADMIN,
        )  # fmt: skip
        assert (call(house, operation, house.headers("scoped")) == 403) is unlimited, operation


def test_without_auth_the_local_caller_may_all_but_approve(open_house: Callable[..., House]) -> None:
    house = open_house(auth="none")
    for operation, permission in NEEDS.items():
        assert (call(house, operation, {}) == 403) is (not allowed(LOCAL, permission)), operation
    assert not allowed(LOCAL, Permission.APPROVE)


def test_without_auth_a_key_still_counts(open_house: Callable[..., House]) -> None:
    house = open_house(auth="none")
    assert house.client.get("/api/v1/audit", headers=house.headers("viewer")).status_code == 403
    wrong = {"authorization": "Bearer aiops_00000000_" + "x" * 43}
    assert house.client.get("/api/v1/incidents", headers=wrong).status_code == 401
    assert house.client.get("/api/v1/incidents", headers={"authorization": "Bearer other"}).status_code == 200
    assert house.client.get("/api/v1/incidents", headers={"authorization": "Digest x"}).status_code == 200


def test_the_three_headers_that_carry_a_key(house: House) -> None:
    key = house.texts["viewer"]
    basic = base64.b64encode(f"anyone:{key}".encode()).decode()
    for headers in (
        {"authorization": f"Bearer {key}"},
        {"authorization": f"bearer {key}"},
        {"authorization": f"Basic {basic}"},
        {"x-api-key": key},
    ):
        assert house.client.get("/api/v1/incidents", headers=headers).status_code == 200
    assert house.client.get(f"/api/v1/incidents?api_key={key}&access_token={key}").status_code == 401


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "Basic !!!", "Basic YQ==", "Basic /w==", "Digest a", "Bearer aiops_zz", "Bearer a b"]
)
def test_malformed_credentials_are_401_with_a_challenge(house: House, value: str) -> None:
    reply = house.client.get("/api/v1/incidents", headers={"authorization": value})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert reply.headers["content-type"] == "application/problem+json"


def test_revoked_and_expired_keys_are_refused_at_once(house: House) -> None:
    keys = house.services.keys
    text, record = keys.create("short", Role.VIEWER, expires_ms=house.time.now + 1000)
    headers = {"x-api-key": text}
    assert house.client.get("/api/v1/incidents", headers=headers).status_code == 200
    house.time.now += 1000
    assert house.client.get("/api/v1/incidents", headers=headers).status_code == 401
    text, record = keys.create("gone", Role.VIEWER)
    keys.revoke(record.id)
    assert house.client.get("/api/v1/incidents", headers={"x-api-key": text}).status_code == 401


def test_senders_of_telemetry_are_not_counted(open_house: Callable[..., House]) -> None:
    house = open_house(requests_per_minute=3)
    empty = {"content-type": "application/json"}
    for _ in range(8):
        sent = house.client.post("/v1/logs", headers={**house.headers("responder"), **empty}, content=b"{}")
        assert sent.status_code == 200
        nothing = house.client.post("/api/v1/write", headers=house.headers("responder"), content=b"")
        assert nothing.status_code != 429
    assert house.client.get("/api/v1/incidents", headers=house.headers("responder")).status_code == 200


def test_too_many_requests_are_told_when_to_come_back(open_house: Callable[..., House]) -> None:
    house = open_house(requests_per_minute=3)
    replies = [house.client.get("/api/v1/incidents", headers=house.headers("viewer")) for _ in range(4)]
    assert [r.status_code for r in replies] == [200, 200, 200, 429]
    assert int(replies[3].headers["retry-after"]) >= 1
    assert house.client.get("/api/v1/incidents", headers=house.headers("admin")).status_code == 200


def test_guessing_keys_is_slowed_down(house: House) -> None:
    codes = [
        house.client.get("/api/v1/incidents", headers={"x-api-key": f"aiops_{n:08x}_" + "x" * 43}).status_code
        for n in range(70)
    ]
    assert codes[0] == 401
    assert codes[-1] == 429
