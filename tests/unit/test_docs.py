"""What the guides tell works as it stands there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from aiops.core.plugins import load
from aiops.core.ports import PluginContext
from aiops.settings import (
    BudgetSettings,
    ModelAccessSettings,
    ModelBudgetSettings,
    ReceiverSettings,
    ReportSettings,
    RouteSettings,
    Settings,
    TokenPriceSettings,
    TrainingGroupSettings,
    WatchSettings,
    load_settings,
)
from tests.loopback import Answer, serving
from tests.unit.api.test_roles import NEEDS, PUBLIC

ROOT = Path(__file__).parents[2]


@pytest.fixture
def thermometer():
    with serving(lambda _: Answer(body=b"21.5", headers={"content-type": "text/plain"})) as url:
        yield f"{url}/temperature"


def blocks(file: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)


def test_the_connector_of_the_guide_polls(thermometer):
    names: dict = {"__name__": "room"}
    exec(compile(blocks("docs/add-a-connector.md", "python")[0], "room.py", "exec"), names)
    source = names["RoomSource"](names["RoomOptions"](url=thermometer), PluginContext("office", lambda: 1_000))
    try:
        block = source.poll("").samples
    finally:
        source.close()
    assert block.values.tolist() == [21.5]
    assert dict(block.labels[0]) == {"__name__": "room_temperature_celsius", "room": "office"}


@pytest.mark.parametrize(
    "text",
    [
        *(b for file in ("README.md", "docs/configuration.md", "docs/ingest.md") for b in blocks(file, "yaml")),
        *(b for b in blocks("docs/operations.md", "yaml") if not b.startswith("apiVersion")),
    ],
)
def test_the_settings_of_the_guides_are_settings(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "aiops.yaml"
    file.write_text(text)
    settings = load_settings(file)
    kinds = {f"connectors.{kind}": entries for kind, entries in dict(settings.connectors).items()}
    kinds["tools"] = kinds.pop("connectors.tools")
    for kind, entries in {**kinds, "connectors.notifiers": settings.receivers}.items():
        for entry in entries.values():
            assert entry.options.keys() <= set(load(kind, entry.plugin).Options.model_fields), entry.plugin


def sections(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every part of the settings by its place, as the headings of the guide name it."""
    yield place, model
    for name, field in model.model_fields.items():
        inner = f"{place}.{name}".strip(".")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation, inner)


def default_of(field: FieldInfo) -> str:
    """A default as the guide writes it."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr | Path) or value in (None, "", (), {}):
        return ""
    if isinstance(value, dict | tuple):
        return f"`{', '.join(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else value}`"


def test_the_guide_to_settings_names_each_with_its_default():
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    told = {
        place: dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\| .+ \|$", part, re.MULTILINE))
        for place, part in zip(parts[::2], parts[1::2], strict=True)
    }
    named = {
        "receivers.NAME": ReceiverSettings,
        "detection.watch[]": WatchSettings,
        "cost.budgets.NAME": BudgetSettings,
        "reports.NAME": ReportSettings,
        "models.access[]": ModelAccessSettings,
        "models.training.groups.NAME": TrainingGroupSettings,
        "models.cost.budgets.NAME": ModelBudgetSettings,
        "models.cost.llm_prices.NAME": TokenPriceSettings,
        "incidents.route": RouteSettings,
    }
    for place, model in [*sections(Settings), *named.items()]:
        leaves = {
            field.alias or name: default_of(field)
            for name, field in model.model_fields.items()
            if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
        }
        assert told[place or "Top level"] == leaves


def test_the_guide_to_http_names_each_route():
    text = (ROOT / "docs/http-api.md").read_text(encoding="utf-8")
    for route in (*PUBLIC, *NEEDS):
        for part in re.findall(r"(?<=/)[a-z_]+(?=/|\.|$)", route):
            assert part in text, route


def test_the_guide_to_alerts_holds_what_senders_are_to_be_given() -> None:
    from connectors.inbound import argocd, datadog

    guide = (ROOT / "docs" / "alerts-in.md").read_text()
    assert datadog.PAYLOAD in guide
    assert argocd.TEMPLATE.strip() in guide
