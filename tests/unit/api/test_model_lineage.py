"""Lineage, snapshots and checkpoints over the API: what each caller may see and do, and what the audit says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from aiops.access.models import ModelAccess
from aiops.api.app import create_app
from aiops.core.anomaly import Anomaly, Batch, State
from aiops.core.errors import InvalidInput
from aiops.incidents.anomalies import Anomalies
from aiops.models.checkpoints import Checkpoints
from aiops.models.datasets import DatasetStore
from aiops.models.lineage import LineageReader
from aiops.models.registry import ModelRegistry
from aiops.settings import ModelAccessSettings
from aiops.store.state.checkpoints import Checkpoint, CheckpointRepository
from aiops.store.state.datasets import DatasetRepository
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.marks import MarkRepository
from tests.unit.api.conftest import NOW, House

NAME = "anomaly-60s"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    return ModelRegistry(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def home(open_house: Callable[..., House], registry: ModelRegistry, tmp_path: Path) -> House:
    """A house with one trained version, its snapshot, a checkpoint and an anomaly that it scored."""
    house = open_house()
    services, database = house.services, house.services.database
    assert database is not None
    datasets = DatasetStore(tmp_path, DatasetRepository(database))
    checkpoints = Checkpoints(tmp_path, CheckpointRepository(database), registry.signer, clock=lambda: NOW - 1)
    state = State(("a",), 60_000, {"x": np.ones((1, 2), np.float32)})
    values = np.ones((1, 3), np.float32)
    kept = datasets.snapshot(NAME, Batch(values, values > 0, NOW + 60_000 * np.arange(3), 60_000, ("a",)), "up")
    version = registry.log_training(
        NAME, state, family="ridge_ar", dataset=kept, parameters={"job": "job-7"}, metrics={"x": 1.0}
    )
    checkpoints.save(NAME, version.reference, state, "ridge_ar", {"why": "1 series joined"})
    detections = DetectionRepository(database)
    labels = (("team", "shop"),)
    scored = Anomaly(
        "an-1", labels, "s", "m", "q", "latency", "up", NOW, NOW, None, 1, 2, 0, 3, 3, 0.1, model=version.reference
    )  # fmt: skip
    detections.save_anomalies([scored, replace(scored, id="an-2", series=(("team", "other"),))])

    def restore(model: str, checkpoint_id: int, by: str) -> Checkpoint:
        if checkpoint_id == 9:
            raise InvalidInput("The checkpoint 9 is refused: 90% of the last points would be above the threshold.")
        return replace(checkpoints.get(model, checkpoint_id), detail=(("by", by),))

    made = replace(
        services,
        anomalies=Anomalies(detections, MarkRepository(database), services.engine, house.time),
        datasets=datasets,
        checkpoints=checkpoints,
        lineage=LineageReader(registry, datasets, checkpoints),
        restore_checkpoint=restore,
    )
    return replace(house, services=made, client=TestClient(create_app(made), base_url="http://127.0.0.1:8420"))


def test_the_lineage_of_what_one_may_see(home: House) -> None:
    got = home.client.get("/api/v1/anomalies/an-1/lineage", headers=home.headers("scoped"))
    assert got.status_code == 200, got.text
    found = got.json()
    assert found["verified"] is True
    assert (found["family"], found["job"]) == ("ridge_ar", "job-7")
    assert found["dataset"]["query"] == "up"
    assert found["dataset_id"] == found["dataset"]["id"]
    assert found["checkpoint"]["detail"] == {"why": "1 series joined"}
    assert found["code"] == found["parameters"]["code"]
    assert found["gaps"] == []
    assert home.client.get("/api/v1/anomalies/an-2/lineage", headers=home.headers("scoped")).status_code == 404
    assert home.client.get("/api/v1/anomalies/none/lineage", headers=home.headers("viewer")).status_code == 404


def test_snapshots_and_checkpoints_are_listed(home: House) -> None:
    datasets = home.client.get(f"/api/v1/models/{NAME}/datasets", headers=home.headers("viewer")).json()["datasets"]
    assert [d["points"] for d in datasets] == [3]
    url = f"/api/v1/models/{NAME}/checkpoints"
    (kept,) = home.client.get(url, headers=home.headers("viewer")).json()["checkpoints"]
    assert kept["detail"] == {"why": "1 series joined"}


def test_restoring_needs_the_right_to_promote_and_is_audited(home: House) -> None:
    url = f"/api/v1/models/{NAME}/checkpoints"
    number = home.client.get(url, headers=home.headers("viewer")).json()["checkpoints"][0]["id"]
    assert home.client.post(f"{url}/{number}/restore", headers=home.headers("responder")).status_code == 403
    done = home.client.post(f"{url}/{number}/restore", headers=home.headers("admin"))
    assert done.status_code == 200, done.text
    refused = home.client.post(f"{url}/9/restore", headers=home.headers("admin"))
    assert refused.status_code == 400
    assert "above the threshold" in refused.json()["detail"]
    rows = [(row.action, row.subject) for row in home.services.audit.list(limit=10)]
    assert ("model.restore", NAME) in rows
    assert ("model.refused", NAME) in rows


def test_a_model_that_is_closed_to_viewers_shows_nothing(home: House) -> None:
    closed = replace(home.services, model_access=ModelAccess([ModelAccessSettings(models="anomaly-*", use="admin")]))
    client = TestClient(create_app(closed), base_url="http://127.0.0.1:8420")
    for path in ("anomalies/an-1/lineage", f"models/{NAME}/datasets", f"models/{NAME}/checkpoints"):
        assert client.get(f"/api/v1/{path}", headers=home.headers("viewer")).status_code == 403
        assert client.get(f"/api/v1/{path}", headers=home.headers("admin")).status_code == 200
