"""Changes of incidents over a real HTTP server, as they happen and after a break."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from aiops import wiring
from tests.unit.incidents.signals import alert

PATH = "/api/v1/incident-events"


def events(reply: httpx.Response) -> Iterator[dict[str, Any]]:
    held: dict[str, Any] = {}
    for line in reply.iter_lines():
        if line.startswith(":"):
            continue
        if not line and held:
            yield {**held, "data": json.loads(held["data"])}
            held = {}
        elif line:
            name, _, value = line.partition(": ")
            held[name] = value


def test_tells_of_changes_and_of_what_was_missed(serve: Callable[..., wiring.Service]) -> None:
    service = serve(detection={"enabled": False})
    with httpx.Client(base_url=service.url, trust_env=False, timeout=20) as client:
        with client.stream("GET", PATH) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            timer = threading.Timer(0.3, lambda: service.incidents.submit([alert("Down", service="web")]))
            timer.start()
            opened = next(events(reply))
            timer.join()
        assert (opened["event"], opened["data"]["service"]) == ("open", "web")
        incident = opened["data"]["id"]
        client.post(f"/api/v1/incidents/{incident}/notes", json={"text": "on it"}).raise_for_status()
        client.post(f"/api/v1/incidents/{incident}/resolve", json={}).raise_for_status()
        with client.stream("GET", PATH, headers={"last-event-id": opened["id"]}) as reply:
            missed = next(events(reply))
        assert missed["event"] == "resolved"
        assert [e["event"] for e in missed["data"]["timeline"]][-1] == "resolved"
    deadline = time.monotonic() + 30
    while service.incidents.feed._listeners and time.monotonic() < deadline:
        time.sleep(0.05)
    assert service.incidents.feed._listeners == []
