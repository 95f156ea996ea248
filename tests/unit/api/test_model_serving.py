"""Scoring and trials over HTTP, on a real registry."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from aiops.access.models import ModelAccess
from aiops.api.app import create_app
from aiops.core.anomaly import State
from aiops.core.principal import Role
from aiops.models.batch_scoring import ScoreBatches
from aiops.models.score_log import ScoreLog
from aiops.settings import ModelAccessSettings
from tests.unit.api.conftest import House as Building
from tests.unit.models import serving_house
from tests.unit.models.serving_house import IDS, START, STEP, STEPS, Ground, House, values

LIVE = START + STEPS * STEP
TEAM_IDS = tuple(json.dumps(["latency", [["team", "shop" if n % 2 else "bank"], ["n", str(n)]]]) for n in range(4))


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture
def models(ground: Ground) -> Iterator[House]:
    made = House(ground)
    made.champion()
    yield made
    made.close()


@pytest.fixture
def house(open_house: Callable[..., Building], models: House, tmp_path: Any) -> Building:
    built = open_house()
    services = dataclasses.replace(
        built.services,
        models=models.registry,
        scoring=models.service,
        deployments=models.deployments,
        score_log=ScoreLog(lambda *entry: built.services.audit.append(*entry), built.time),
        score_batches=ScoreBatches(models.models, lambda *_: values(LIVE, 10), tmp_path),
        model_access=ModelAccess(
            (ModelAccessSettings(models=f"{models.name}*", promote=Role.APPROVER, use=Role.VIEWER),)
        ),
    )
    client = TestClient(create_app(services), base_url="http://127.0.0.1:8420")
    return dataclasses.replace(built, services=services, client=client)


def body(ids: tuple[str, ...] = IDS[:2], steps: int = 20, **more: Any) -> dict[str, Any]:
    batch = values(LIVE, steps, len(ids))
    found = [{"id": key, "values": row.tolist()} for key, row in zip(ids, batch.values, strict=True)]
    return {"timestamps": batch.timestamps.tolist(), "series": found, **more}


def test_scores_with_gaps_terms_and_the_latest_alone(house: Building, models: House) -> None:
    sent = body(terms=True, latest=3)
    sent["series"][0]["values"][-1] = None
    sent["series"].append({"id": "stranger", "values": [1.0], "timestamps": [LIVE]})
    reply = house.client.post(f"/api/v1/models/{models.name}/score", json=sent, headers=house.headers("viewer"))
    assert reply.status_code == 200, reply.text
    found = reply.json()
    assert found["step_ms"] == STEP and found["timestamps"] == [LIVE + STEP * k for k in (17, 18, 19)]
    first, second, stranger = found["series"]
    assert first["score"][-1] is None and first["score"][0] is not None and first["anomalous"][-1] is False
    assert second["served_by"] == "stable" and second["version"] == f"{models.name}/1"
    assert second["lower"][0] <= second["expected"][0] <= second["upper"][0]
    assert second["threshold"] == serving_house.THRESHOLD and all(len(t) == 3 for t in second["terms"].values())
    assert stranger["served_by"] == "" and stranger["score"] == [None] * 3 and stranger["threshold"] is None
    assert sum(entry.action == "model.score" for entry in house.services.audit.list()) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"timestamps": [LIVE, LIVE + STEP + 1]}, 400),
        ({"timestamps": [LIVE]}, 400),
        ({"timestamps": []}, 400),
        ({"timestamps": [0, 10**14]}, 413),
        ({"timestamps": [10**30, 1]}, 422),
        ({"series": []}, 422),
        ({"series": [{"id": "a", "values": [1.0, 2.0]}] * 2}, 400),
        ({"version": "77"}, 404),
        ({"deadline_ms": 0.000001}, 503),
    ],
)
def test_requests_that_cannot_be_scored(house: Building, models: House, change: dict[str, Any], status: int) -> None:
    reply = house.client.post(
        f"/api/v1/models/{models.name}/score", json={**body(steps=2), **change}, headers=house.headers("viewer")
    )
    assert reply.status_code == status, reply.text
    assert (
        house.client.post("/api/v1/models/none/score", json=body(), headers=house.headers("viewer")).status_code == 404
    )


def test_a_caller_with_a_scope_has_its_own_series_scored(
    house: Building, models: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = serving_house.state().select(IDS[:4])
    renamed = State(TEAM_IDS, known.step_ms, known.arrays, known.shared)
    monkeypatch.setattr(serving_house, "state", lambda: renamed)
    models.champion()
    models.service.follow()
    path, scoped = f"/api/v1/models/{models.name}", house.headers("scoped")
    listed = house.client.get(f"{path}/series", headers=scoped).json()["series"]
    assert listed == [key for key in TEAM_IDS if "shop" in key]
    found = house.client.post(f"{path}/score", json=body(TEAM_IDS), headers=scoped).json()["series"]
    assert [one["served_by"] for one in found] == ["", "stable", "", "stable"]
    refused = house.client.post(f"{path}/score-batches", json={"start_ms": 0, "end_ms": 1}, headers=scoped)
    assert refused.status_code == 403


def test_a_trial_is_for_those_who_may_promote_and_refusals_are_on_record(house: Building, models: House) -> None:
    models.add()
    path = f"/api/v1/models/{models.name}/deployments"
    wanted = {"version": "2", "strategy": "canary", "share": 0.25}
    assert house.client.post(path, json=wanted, headers=house.headers("responder")).status_code == 403
    assert "model.refused" in [entry.action for entry in house.services.audit.list()]
    made = house.client.post(path, json=wanted, headers=house.headers("approver"))
    assert made.status_code == 201, made.text
    trial = made.json()
    assert (trial["state"], trial["share"], trial["stable"], trial["candidate"]) == ("running", 0.25, "1", "2")
    assert {g["name"] for g in trial["guards"]} >= {"alerts", "latency", "nan", "cost", "precision"}
    assert house.client.post(path, json=wanted, headers=house.headers("approver")).status_code == 409
    assert house.client.post(path, json={**wanted, "share": 2}, headers=house.headers("approver")).status_code == 422
    listed = house.client.get("/api/v1/deployments", headers=house.headers("viewer")).json()["deployments"]
    assert [d["id"] for d in listed] == [d["id"] for d in listed if d["model"] != models.name or d["id"] == trial["id"]]
    end = f"/api/v1/deployments/{trial['id']}/rollback"
    assert house.client.post(end, json={}, headers=house.headers("viewer")).status_code == 403
    over = house.client.post(end, json={"reason": "enough"}, headers=house.headers("approver")).json()
    assert (over["state"], over["reason"], over["incident"]) == ("rolled_back", "enough", "INC-1")
    assert house.client.post(end, json={}, headers=house.headers("approver")).status_code == 409
    assert house.client.get("/api/v1/deployments/none", headers=house.headers("viewer")).status_code == 404


def test_a_batch_is_a_job_and_its_scores_are_downloaded(house: Building, models: House) -> None:
    span = {"start_ms": LIVE, "end_ms": LIVE + 10 * STEP, "values": True}
    path = f"/api/v1/models/{models.name}/score-batches"
    assert house.client.post(path, json={**span, "end_ms": 0}, headers=house.headers("viewer")).status_code == 400
    made = house.client.post(path, json=span, headers=house.headers("viewer"))
    assert made.status_code == 202
    found = f"/api/v1/score-batches/{made.json()['id']}"
    assert house.client.get(found, headers=house.headers("viewer")).status_code == 404
    assert house.services.jobs is not None and house.services.score_batches is not None
    job = house.services.jobs.get(made.json()["job"])
    house.services.score_batches.run(dict(job.arguments), lambda *_: None)
    summary = house.client.get(found, headers=house.headers("viewer")).json()
    assert (summary["version"], summary["values"], summary["rows"]) == ("1", 240, 240)
    assert house.client.get(f"{found}/scores", headers=house.headers("viewer")).content[:4] == b"PAR1"
    text = house.client.get(f"{found}/scores?format=csv", headers=house.headers("viewer")).text
    assert len(text.splitlines()) == 241
    assert house.client.get(f"{found}/scores?format=csv", headers=house.headers("scoped")).status_code == 403


def test_what_serves_is_shown(house: Building, models: House) -> None:
    models.service.warm(models.name)
    found = house.client.get("/api/v1/scoring", headers=house.headers("viewer")).json()
    assert found["champions"] == {models.name: f"{models.name}/1"} and found["stable"]["workers"] == 1


def test_a_promotion_by_hand_and_the_way_back_are_followed_at_once(house: Building, models: House) -> None:
    path, admin = f"/api/v1/models/{models.name}", house.headers("admin")

    def serves() -> str:
        reply = house.client.post(f"{path}/score", json=body(), headers=house.headers("viewer"))
        return str(reply.json()["series"][0]["version"])

    number = models.add()
    assert serves() == f"{models.name}/1"
    assert house.client.post(f"{path}/versions/{number}/promote", headers=admin).status_code == 200
    assert serves() == f"{models.name}/2"
    assert house.client.post(f"{path}/rollback", headers=admin).status_code == 200
    assert serves() == f"{models.name}/1"
