"""Templates of log lines and the service graph over HTTP."""

from __future__ import annotations

from collections.abc import Callable

from aiops.core.ports import Collected
from aiops.core.signals import LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.ingest.log_templates.miner import TemplateMiner
from tests.unit.api.conftest import NOW, House

HOUR = 3_600_000


def line(body: str, at: int, team: str = "shop", severity: int = 9) -> LogRecord:
    return LogRecord(at * 1_000_000, Untrusted(body), severity, resource=(("service.name", "api"), ("team", team)))


def filled(house: House) -> House:
    store = house.services.store
    store.mine_logs_with(TemplateMiner())
    old = [line(f"served {i} in 5 ms", NOW - 2 * HOUR + i) for i in range(3)]
    now = [line(f"served {i} in 7 ms", NOW - 1000 + i) for i in range(5)]
    bad = [line("order 7 of \x1b[31mmallory\u202e failed", NOW - 500, "b", 17)]
    store.append(Collected(logs=(*old, *now, *bad)))
    start = (NOW - 1000) * 1_000_000
    resource = (("service.name", "web"),)
    client = Span("t" * 32, "c" * 16, "", Untrusted("GET"), "client", start, start + 30_000_000, "unset", resource)
    resource = (("service.name", "api"),)
    server = Span(
        "t" * 32, "d" * 16, "c" * 16, Untrusted("GET"), "server", start, start + 20_000_000, "error", resource
    )
    store.append(Collected(spans=(client, server)))
    return house


def test_patterns_of_the_last_hour(open_house: Callable[..., House]) -> None:
    house = filled(open_house(auth="none"))
    found = house.client.get("/api/v1/logs/patterns").json()
    first, second = found["patterns"]
    assert (first["pattern"], first["count"], first["severity"]) == ("served <*> in <*> ms", 5, 9)
    assert (second["count"], second["severity"]) == (1, 17)
    assert second["pattern"].startswith("order <*> of ") and second["pattern"].endswith(" failed")
    assert found["patterns"][0]["known_ms"] == NOW - 2 * HOUR
    assert "\x1b" not in str(found) and "\u202e" not in str(found)
    assert (found["start_ms"], found["end_ms"], found["more"]) == (NOW - HOUR, NOW, False)


def test_patterns_can_be_narrowed(open_house: Callable[..., House]) -> None:
    client = filled(open_house(auth="none")).client
    path = "/api/v1/logs/patterns"
    assert len(client.get(path, params={"min_severity": 17}).json()["patterns"]) == 1
    assert client.get(path, params={"service": "none"}).json()["patterns"] == []
    (new,) = client.get(path, params={"new": "true"}).json()["patterns"]
    assert new["severity"] == 17
    cut = client.get(path, params={"limit": 1}).json()
    assert len(cut["patterns"]) == 1 and cut["more"]
    for bad in ({"start_ms": 5, "end_ms": 5}, {"start_ms": 0, "end_ms": NOW}, {"limit": 0}):
        assert client.get(path, params=bad).status_code in (400, 422)


def test_a_scope_sees_only_its_lines(open_house: Callable[..., House]) -> None:
    house = filled(open_house(auth="keys"))
    reply = house.client.get("/api/v1/logs/patterns", headers=house.headers("scoped"))
    assert [p["count"] for p in reply.json()["patterns"]] == [5]
    assert "mallory" not in reply.text


def test_the_service_graph(open_house: Callable[..., House]) -> None:
    found = filled(open_house(auth="none")).client.get("/api/v1/service-graph").json()
    (edge,) = found["edges"]
    assert found["services"] == ["api", "web"]
    assert (edge["caller"], edge["callee"], edge["count"], edge["errors"]) == ("web", "api", 1, 1)
    assert (edge["p50_ms"], edge["wire_p50_ms"], edge["first_ms"]) == (30.0, 10.0, NOW - 1000)
