from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from aiops.api import edge
from aiops.api.app import create_app
from aiops.api.services import Component, ComponentState
from aiops.core.errors import TransientError
from tests.unit.api.conftest import House


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("127.0.0.1:8420", True), ("localhost", True), ("[::1]:8420", True), ("LOCALHOST:1", True),
        ("evil.example", False), ("127.0.0.1.evil.example", False), ("", False), ("[::1", False),
        ("a@127.0.0.1", False), ("aiops.example", True),
    ],
)  # fmt: skip
def test_dns_rebinding_is_refused_where_no_key_is_asked(
    open_house: Callable[..., House], host: str, served: bool
) -> None:
    house = open_house(auth="none", public_url="https://aiops.example")
    reply = house.client.get("/api/v1/incidents", headers={"host": host})
    assert reply.status_code == (200 if served else 403)


def test_with_keys_any_host_is_served(house: House) -> None:
    assert house.client.get("/healthz", headers={"host": "box.lan"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "served"),
    [("http://127.0.0.1:8420", True), ("https://evil.example", False), ("null", False), ("http://[bad", False)],
)
def test_writes_from_other_sites_are_refused(open_house: Callable[..., House], origin: str, served: bool) -> None:
    house = open_house(auth="none")
    reply = house.client.post("/api/v1/ask", json={"question": "up?"}, headers={"origin": origin})
    assert reply.status_code == (200 if served else 403)
    assert house.client.get("/healthz", headers={"origin": origin}).status_code == 200


def test_an_origin_does_not_matter_with_a_key_that_no_browser_adds(house: House) -> None:
    headers = {"origin": "https://grafana.example", **house.headers("viewer")}
    assert house.client.post("/api/v1/ask", json={"question": "up?"}, headers=headers).status_code == 200
    basic = base64.b64encode(f"x:{house.texts['viewer']}".encode()).decode()
    headers["authorization"] = f"Basic {basic}"
    assert house.client.post("/api/v1/ask", json={"question": "up?"}, headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/api/v1/ask", "/api/v1/webhooks/alertmanager", "/api/v1/costs/import?name=a.csv"])
def test_a_body_over_the_limit_is_413_declared_or_streamed(open_house: Callable[..., House], path: str) -> None:
    house = open_house(auth="none", max_body_bytes=1000)
    reply = house.client.post(path, content=b"x" * 1001)
    assert (reply.status_code, reply.headers["content-type"]) == (413, "application/problem+json")

    def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 100

    reply = house.client.post(path, content=chunks(), headers={"content-type": "application/json"})
    assert (reply.status_code, reply.headers["content-type"]) == (413, "application/problem+json")


@pytest.mark.parametrize(
    ("length", "status"), [("1000000000", 413), ("9" * 40, 413), ("-1", 400), ("ten", 400), ("1e3", 400)]
)
def test_a_declared_length_is_judged_before_anything_is_read(house: House, length: str, status: int) -> None:
    async def talk() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/api/v1/ask", "raw_path": b"/api/v1/ask", "query_string": b"", "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), (b"content-length", length.encode())],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            raise AssertionError("nothing may be read")

        async def send(message: Any) -> None:
            sent.append(message)

        await house.client.app(scope, receive, send)  # type: ignore[arg-type]
        return sent

    sent = asyncio.run(talk())
    assert sent[0]["status"] == status


def test_a_body_that_never_ends_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_TIMEOUT_S", 0.05)

    async def drip() -> AsyncIterator[bytes]:
        yield b"{"

    async def talk() -> int:
        status = 0
        first = True
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/api/v1/ask", "raw_path": b"/api/v1/ask", "query_string": b"", "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b"{", "more_body": True}
            await asyncio.sleep(30)
            raise AssertionError

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        await house.client.app(scope, receive, send)  # type: ignore[arg-type]
        return status

    assert asyncio.run(talk()) == 408


def test_security_headers_are_on_every_reply(house: House) -> None:
    for path in ("/healthz", "/nowhere", "/api/v1/incidents", "/docs"):
        headers = house.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


def test_an_unexpected_error_shows_a_number_and_no_internals(
    open_house: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> str:
        raise RuntimeError("secret detail")

    house = open_house(auth="none")
    app = create_app(replace(house.services, metrics_text=broken))
    reply = TestClient(app, base_url="http://127.0.0.1").get("/metrics")
    assert reply.status_code == 500
    assert "secret" not in reply.text
    number = reply.json()["instance"].rpartition(":")[2]
    assert number in caplog.text
    assert "secret detail" in caplog.text


def test_our_errors_keep_their_meaning(open_house: Callable[..., House]) -> None:
    def away() -> str:
        raise TransientError("The disk is away.", retry_after_s=7)

    house = open_house(auth="none")
    app = create_app(replace(house.services, metrics_text=away))
    reply = TestClient(app, base_url="http://127.0.0.1").get("/metrics")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "7")
    assert reply.json()["type"] == "urn:aiops:problem:unavailable"


def test_what_does_not_run_is_503(open_house: Callable[..., House]) -> None:
    house = open_house(auth="none")
    app = create_app(replace(house.services, assistant=None))
    reply = TestClient(app, base_url="http://127.0.0.1").post("/api/v1/ask", json={"question": "up?"})
    assert reply.status_code == 503
    assert "assistant" in reply.json()["detail"]


def test_readiness_tells_strangers_no_details(open_house: Callable[..., House]) -> None:
    parts = (
        Component("store", ComponentState.READY, required=True),
        Component("source:prod", ComponentState.DEGRADED, "connection to 10.0.0.7 refused"),
        Component("promql", ComponentState.STARTING, "soon", required=True),
    )
    for auth, shown in (("none", True), ("keys", False)):
        app = create_app(replace(open_house(auth=auth).services, components=lambda: parts))
        reply = TestClient(app, base_url="http://127.0.0.1").get("/readyz")
        assert reply.status_code == 503
        assert [c["state"] for c in reply.json()["components"]] == ["ready", "degraded", "starting"]
        assert ("10.0.0.7" in reply.text) is shown
