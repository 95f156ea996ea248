"""The guard of cardinality, from outside: a clear refusal, known series go on, a line in the status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from aiops import wiring
from tests.e2e.senders import JSON, WRITE
from tests.unit.ingest.encode import series, snappy

ONE = 0x3FF0000000000000
QUIET = {"telemetry": {}, "inbound": {}}


def body(first: int, count: int, ts: int) -> bytes:
    return snappy(
        b"".join(series((("__name__", "m"), ("i", str(i))), [(ts, ONE)]) for i in range(first, first + count))
    )


def test_new_series_beyond_the_limit_are_refused(serve: Callable[..., wiring.Service]) -> None:
    service = serve(store={"max_series": 2000}, connectors=QUIET, telemetry={"interval_s": 3600})
    url, now = service.url, service.services.clock()
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:

        def write(first: int, count: int, ts: int) -> httpx.Response:
            return client.post("/api/v1/write", content=body(first, count, ts), headers=WRITE)

        def store() -> dict[str, Any]:
            found: list[dict[str, Any]] = client.get("/readyz").json()["components"]
            return next(one for one in found if one["name"] == "store")

        assert write(0, 1000, now - 3000).status_code == 204
        assert store()["state"] == "ready"
        over = write(500, 3000, now - 2000)
        assert over.status_code == 400
        assert "refused: of new series beyond the limit store.max_series" in over.json()["error"]
        assert write(0, 1000, now - 1000).status_code == 204, "known series go on"
        shown = store()
        assert shown["state"] == "degraded"
        assert "store.max_series is reached: 2,000 series" in shown["detail"]
        held = client.get("/api/v1/query", params={"query": "count(count_over_time(m[1m]))", "time": now / 1000}).json()
        assert 1900 <= int(held["data"]["result"][0]["value"][1]) <= 2000
        point = {"timeUnixNano": str(now * 10**6), "asDouble": 1.0}
        metric = {"name": "fresh", "gauge": {"dataPoints": [point]}}
        otlp = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
        answer = client.post("/v1/metrics", json=otlp, headers=JSON)
        assert answer.status_code == 200
        assert answer.json()["partialSuccess"]["rejectedDataPoints"] in (1, "1")
        again = write(500, 3000, now - 2000)
        assert again.status_code == 400, "a refused series is not taken for a known one"


def test_series_past_their_time_make_room(serve: Callable[..., wiring.Service]) -> None:
    service = serve(store={"max_series": 300, "retention_days": 1}, connectors=QUIET, telemetry={"interval_s": 3600})
    now = service.services.clock()
    index = service.store._index
    index.saw(
        index.number([(("__name__", "old"), ("i", str(i))) for i in range(299)]), *(2 * [index.first[:299] * 0 + 1])
    )
    index.forget_before(now - 86_400_000)
    reply = httpx.post(f"{service.url}/api/v1/write", content=body(0, 200, now), headers=WRITE, trust_env=False)
    assert reply.status_code == 204
