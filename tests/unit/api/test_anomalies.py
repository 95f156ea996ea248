"""Anomalies over the API: listed, explained, drawn, marked, evaluated; within the caller's scope."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from aiops.api.app import create_app
from aiops.core.anomaly import Anomaly
from aiops.core.ports import Collected
from aiops.core.series import SampleBlock, labels_of
from aiops.incidents.anomalies import Anomalies
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.marks import MarkRepository
from tests.unit.api.conftest import NOW, House

STEP = 60_000
SERIES = labels_of({"service_name": "cart", "team": "shop"})
ONE = Anomaly(
    id="abc-1", series=SERIES, service="cart", metric="queue depth", query="depth", kind="saturation", direction="up",
    started_ms=NOW - 20 * STEP, updated_ms=NOW - 5 * STEP, ended_ms=NOW - 5 * STEP, value=90.0, expected=10.0,
    lower=5.0, upper=15.0, score=4.0, p_value=1e-6, model="anomaly-60s/1", unit="messages",
    terms=(("seasonal_residual.shift", 3.0),), threshold=2.0,
)  # fmt: skip


@pytest.fixture
def ask(house: House) -> Callable[..., httpx.Response]:
    """Requests as a named caller."""
    services = house.services
    assert services.database is not None
    repository = DetectionRepository(services.database)
    other = replace(ONE, id="abc-2", series=labels_of({"service_name": "pay", "team": "ops"}), service="pay")
    repository.save_anomalies([ONE, other])
    ts = (NOW - STEP * np.arange(400, -1, -1, dtype=np.int64)) // STEP * STEP
    values = np.where(ts >= ONE.started_ms, 90.0, 10.0)
    services.store.append(Collected(SampleBlock.build([(labels_of([("__name__", "depth"), *SERIES]), ts, values)])))
    anomalies = Anomalies(repository, MarkRepository(services.database), services.engine, house.time)
    app = create_app(dataclasses.replace(services, anomalies=anomalies))
    client = TestClient(app, base_url="http://127.0.0.1:8420")

    def send(path: str, body: dict[str, object] | None = None, who: str = "responder") -> httpx.Response:
        headers = house.headers(who)
        return client.get(path, headers=headers) if body is None else client.post(path, json=body, headers=headers)

    return send


def test_they_are_listed_explained_and_drawn(ask: Callable[..., httpx.Response]) -> None:
    listed = ask("/api/v1/anomalies").json()["anomalies"]
    assert {a["id"] for a in listed} == {"abc-1", "abc-2"}
    assert ask("/api/v1/anomalies?service=pay").json()["anomalies"][0]["id"] == "abc-2"
    found = ask("/api/v1/anomalies/abc-1").json()
    assert found["anomaly"]["reason"] == "a lasting change of level"
    assert found["anomaly"]["threshold"] == 2.0
    assert max(v for v in found["trace"]["value"] if v is not None) == 90.0
    assert len(found["trace"]["times_ms"]) == len(found["trace"]["expected"])
    picture = ask("/api/v1/anomalies/abc-1/chart.png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert ask("/api/v1/anomalies/none").status_code == 404


def test_marks_are_kept_with_who_and_when_and_evaluated(ask: Callable[..., httpx.Response]) -> None:
    first = ask("/api/v1/anomalies/abc-1/marks", {"judgement": "false", "note": "a batch job"}).json()
    assert [(m["judgement"], m["note"], m["time_ms"]) for m in first["marks"]] == [("false", "a batch job", NOW)]
    assert first["marks"][0]["principal"]
    ask("/api/v1/anomalies/abc-2/marks", {"judgement": "true"})
    body = {"metric": "queue depth", "labels": {"service_name": "cart"}, "start_ms": NOW - 10**7, "end_ms": NOW - 10**6}
    assert ask("/api/v1/missed-anomalies", body).status_code == 200
    whole = ask("/api/v1/anomaly-evaluation").json()["models"][0]
    assert (whole["precision"]["hits"], whole["precision"]["count"]) == (1, 2)
    assert (whole["recall"]["hits"], whole["recall"]["count"]) == (1, 2)
    assert 0 < whole["precision"]["lower"] < 0.5 < whole["precision"]["upper"] < 1


def test_what_was_found_was_not_missed(ask: Callable[..., httpx.Response]) -> None:
    body = {"metric": "queue depth", "labels": dict(SERIES), "start_ms": ONE.started_ms, "end_ms": NOW - 10 * STEP}
    reply = ask("/api/v1/missed-anomalies", body)
    assert reply.status_code == 409
    assert "abc-1" in reply.json()["detail"]
    assert ask("/api/v1/missed-anomalies", {**body, "end_ms": 1}).status_code in (400, 422)
    assert ask("/api/v1/anomalies/abc-1/marks", {"judgement": "missed"}).status_code == 422


def test_a_scoped_caller_sees_and_marks_its_own_alone(ask: Callable[..., httpx.Response]) -> None:
    assert [a["id"] for a in ask("/api/v1/anomalies", who="scoped").json()["anomalies"]] == ["abc-1"]
    assert ask("/api/v1/anomalies/abc-2", who="scoped").status_code == 404
    assert ask("/api/v1/anomalies/abc-2/marks", {"judgement": "true"}, who="scoped").status_code == 404
    assert ask("/api/v1/anomalies/abc-1/marks", {"judgement": "true"}, who="viewer").status_code == 403
