"""Strings that break databases, encoders and logs: every route answers without a 500."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.api.conftest import House
from tests.unit.api.test_roles import BODIES, NEEDS

SEGMENTS = ("%00", "%ff%fe", "%ed%a0%80", "..%2f..%2fetc", "%0d%0aSet-Cookie:x", "a" * 3000, "%F0%9F%92%A9", "';--")
STRINGS = ("\x00", "\ud800", "\r\nx: y", "\u202e\u200b", "{{7*7}}", "' OR 1=1 --", "a" * 1500)


@pytest.mark.parametrize("segment", SEGMENTS)
def test_hostile_paths(open_house: Callable[..., House], segment: str) -> None:
    house = open_house(auth="none")
    for operation in NEEDS:
        method, path = operation.split(" ")
        if "{" not in path:
            continue
        for name in ("answer_id", "incident_id", "action_id", "notification_id", "job_id", "name", "version", "source"):
            path = path.replace(f"{{{name}}}", segment)
        reply = house.client.request(method, path, json=BODIES.get(operation, {}))
        assert reply.status_code != 500, operation
        assert "set-cookie" not in reply.headers


@pytest.mark.parametrize("text", STRINGS)
def test_hostile_values(open_house: Callable[..., House], text: str) -> None:
    house = open_house(auth="none")
    for operation in NEEDS:
        method, path = operation.split(" ")
        for name in ("answer_id", "incident_id", "action_id", "notification_id", "job_id", "name", "version"):
            path = path.replace(f"{{{name}}}", "1")
        path = path.replace("{source}", "alertmanager")
        body = {k: text if isinstance(v, str) else v for k, v in BODIES.get(operation, {"text": text}).items()}
        query = (
            {} if "\ud800" in text else dict.fromkeys(("status", "kind", "actor", "where", "group_by", "name"), text)
        )
        reply = house.client.request(
            method, path, content=json.dumps(body), params=query, headers={"content-type": "application/json"}
        )
        assert reply.status_code != 500, operation


@pytest.mark.parametrize("value", ["\xff\xfe", "a\tb", "Bearer \xe9", "x" * 20_000])
def test_hostile_headers(open_house: Callable[..., House], value: str) -> None:
    for auth in ("none", "keys"):
        house = open_house(auth=auth)
        for name in ("authorization", "x-api-key", "idempotency-key", "content-type", "origin", "host"):
            headers = {name: value.encode("latin-1")}
            reply = house.client.post("/api/v1/webhooks/alertmanager", content=b"{}", headers=headers)  # type: ignore[arg-type]
            assert reply.status_code in (400, 401, 403), name


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_as_a_webhook(house: House, body: bytes) -> None:
    headers = house.headers("responder")
    for path in ("/api/v1/webhooks/alertmanager", "/api/v2/alerts"):
        assert house.client.post(path, content=body, headers=headers).status_code in (200, 202, 400)
