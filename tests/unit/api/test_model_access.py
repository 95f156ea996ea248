"""Every action on a model asks for leave, by role and by name, and both answers are in the audit log."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from fastapi.testclient import TestClient

from aiops.access.models import ModelAccess
from aiops.api.app import create_app
from aiops.core.errors import NotFound
from aiops.core.model import Dataset, ModelAction
from aiops.core.principal import Role
from aiops.models.drift import DriftWatch
from aiops.models.edge_bundle import FILES
from aiops.models.loaded import LoadedModels
from aiops.models.oversight import Oversight
from aiops.models.registry import ModelRegistry
from aiops.settings.models import DriftSettings, ModelAccessSettings, OversightSettings
from aiops.store.state.database import StateDatabase
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.drift import DriftRepository
from tests.unit.api.conftest import House
from tests.unit.models import serving_house as world

pytest.importorskip("onnx")
NAME, SECRET = "anomaly-60s", "secret-60s"
ORDER = (Role.VIEWER, Role.RESPONDER, Role.APPROVER, Role.ADMIN)
OPERATIONS = {
    f"GET /models/{NAME}": ModelAction.USE,
    f"GET /models/{NAME}/versions/1/card": ModelAction.USE,
    f"GET /models/{NAME}/versions/champion/card?format=html": ModelAction.USE,
    f"GET /model-comparison?first={NAME}/1&second={NAME}@champion&label=team": ModelAction.USE,
    f"GET /models/{NAME}/drift": ModelAction.USE,
    f"POST /models/{NAME}/drift": ModelAction.TRAIN,
    f"POST /models/{NAME}/versions/1/promote": ModelAction.PROMOTE,
    f"POST /models/{NAME}/rollback": ModelAction.PROMOTE,
    f"POST /models/{NAME}/versions/2/export": ModelAction.EXPORT,
    f"DELETE /models/{NAME}/versions/3": ModelAction.DELETE,
}


def no_dataset(_: str) -> Dataset:
    raise NotFound("none is kept")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """A model with four versions, the second being champion after the first; and one that few may use."""
    registry = ModelRegistry(tmp_path_factory.mktemp("models"))
    for name, count in ((NAME, 4), (SECRET, 1)):
        for _ in range(count):
            registry.log_training(
                name,
                world.state(),
                family="fusion",
                dataset="sha256:0",
                parameters={"options": world.fusion().options.model_dump_json()},
                metrics={"series": 24.0},
            )
    registry.promote(NAME, "1")
    registry.promote(NAME, "2")
    return registry


@pytest.fixture
def rules() -> tuple[ModelAccessSettings, ...]:
    return (ModelAccessSettings(models="secret-*", use=Role.ADMIN, principals={"export": ()}), ModelAccessSettings())


@pytest.fixture
def house(
    open_house: Callable[..., House],
    database: StateDatabase,
    registry: ModelRegistry,
    rules: tuple[ModelAccessSettings, ...],
) -> House:
    made = open_house()
    models = LoadedModels(registry, world.detector_of, lambda s: np.full(len(s.series_ids), world.THRESHOLD), 4)

    def clock() -> int:
        return world.START + 2 * world.STEPS * world.STEP

    def recent(_loaded: object, _query: str, start_ms: int, end_ms: int) -> object:
        return world.values(start_ms, (end_ms - start_ms) // world.STEP)

    reports = DriftRepository(database)
    oversight = Oversight(
        registry,
        models.get,
        recent,  # type: ignore[arg-type]
        OversightSettings(groups=("team",)),
        dataset=no_dataset,
        deployments=lambda _: (),
        drift=reports.list,
        episodes=DetectionRepository(database),
        marks=lambda _: (),
        uses=lambda *_: (),
        labels=lambda key: {"team": "a" if key < "series-2" else "b"},
        clock=clock,
    )
    watch = DriftWatch(
        registry,
        models.get,
        lambda _: world.values(world.START, world.STEPS),
        recent,  # type: ignore[arg-type]
        reports,
        DriftSettings(window_hours=4),
        clock=clock,
    )
    services = dataclasses.replace(
        made.services, models=registry, oversight=oversight, drift=watch, model_access=ModelAccess(rules)
    )
    return House(services, made.time, TestClient(create_app(services), base_url="http://127.0.0.1:8420"), made.texts)


def ask(house: House, operation: str, who: str) -> int:
    method, path = operation.split(" ")
    return house.client.request(method, f"/api/v1{path}", headers=house.headers(who)).status_code


def test_scope_and_names_narrow_what_is_seen(house: House) -> None:
    def names(who: str) -> list[str]:
        found = house.client.get("/api/v1/models", headers=house.headers(who)).json()["models"]
        return [one["name"] for one in found]

    assert names("admin") == [NAME, SECRET]
    assert names("viewer") == [NAME]
    assert ask(house, f"GET /models/{SECRET}", "viewer") == 403
    assert ask(house, f"GET /model-comparison?first={NAME}/1&second={SECRET}/1", "viewer") == 403
    assert ask(house, f"POST /models/{NAME}/versions/2/export", "scoped") == 403


def test_replies_hold_what_they_say(house: House) -> None:
    admin = house.headers("admin")
    card = house.client.get(f"/api/v1/models/{NAME}/versions/champion/card", headers=admin)
    assert card.headers["content-type"].startswith("text/markdown")
    assert card.text.startswith("# Model card: anomaly\\-60s/2") or card.text.startswith("# Model card: anomaly-60s/2")
    assert "signature of its artifact is valid" in card.text
    page = house.client.get(f"/api/v1/models/{NAME}/versions/2/card", params={"format": "html"}, headers=admin)
    assert page.headers["content-type"].startswith("text/html")
    path = f"/api/v1/model-comparison?first={NAME}/1&second={NAME}/2&hours=4&label=team"
    compared = house.client.get(path, headers=admin).json()
    assert compared["agreement"][0]["correlation"] == pytest.approx(1.0)
    assert [one["group"] for one in compared["agreement"]] == ["all", "a", "b"]
    report = house.client.post(f"/api/v1/models/{NAME}/drift", headers=admin).json()
    assert report["series"] == 24
    assert {one["name"] for one in report["signals"]} >= {"alert rate", "scores", "confirmed precision", "inputs"}
    sent = house.client.post(f"/api/v1/models/{NAME}/versions/2/export", headers=admin)
    with zipfile.ZipFile(io.BytesIO(sent.content)) as file:
        assert sorted(file.namelist()) == sorted(FILES)
    assert sent.headers["content-disposition"] == f'attachment; filename="{NAME}-2.zip"'


def test_each_action_by_each_role(house: House) -> None:
    defaults = ModelAccessSettings()
    audit = house.services.audit
    for operation, action in OPERATIONS.items():
        for role in ORDER:
            allowed = ORDER.index(role) >= ORDER.index(getattr(defaults, action.value))
            before = len(audit.list(1000, action="model.refused"))
            status = ask(house, operation, role.value)
            assert (status != 403) is allowed, (operation, role)
            assert status in ((200, 204) if allowed else (403,)), (operation, role)
            refused = audit.list(1000, action="model.refused")
            assert len(refused) - before == (not allowed), (operation, role)
            if not allowed:
                assert (refused[0].subject, dict(refused[0].detail)["action"]) == (NAME, action.value)
    verbs = {entry.action for entry in audit.list(1000)}
    assert verbs >= {
        f"model.{v}" for v in ("promote", "rollback", "delete", "card", "compare", "drift_check", "export")
    }
    assert ask(house, f"DELETE /models/{NAME}/versions/3", "admin") == 404
    champion = house.services.models and house.services.models.get(NAME)
    assert champion is not None
    assert ask(house, f"DELETE /models/{NAME}/versions/{champion.version}", "admin") == 409
