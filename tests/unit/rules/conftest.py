"""Rules over a real store in memory, at a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from aiops.core.errors import TransientError
from aiops.core.incident import Alert
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.rules.engine import RuleEngine
from aiops.rules.files import parse_rules
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_764_000_000_000


@dataclass
class Place:
    """A store, what incidents were told, and engines over them. Times are seconds after ``NOW``."""

    store: TelemetryStore
    querier: PromqlEngine
    told: list[Alert] = field(default_factory=list)
    away: bool = False
    full: bool = False
    appends: int = 0
    now_ms: int = NOW

    def submit(self, alerts: Sequence[Alert]) -> None:
        if self.away:
            raise TransientError("The state store is away.")
        self.told += alerts

    def append(self, collected: Collected, key: str = "") -> object:
        if self.full:
            raise TransientError("The disk is full.")
        self.appends += 1
        return self.store.append(collected, key)

    def engine(self, rules: str, **options: Any) -> RuleEngine:
        groups, problems = parse_rules(rules, "rules.yml")
        assert not problems, problems
        return RuleEngine(groups, self.querier, self, self, lambda: self.now_ms, **options)

    def write(self, at: float, value: float, name: str = "m", **labels: str) -> None:
        row = (labels_of({"__name__": name, **labels}), value)
        self.store.append(Collected(samples=SampleBlock.at(NOW + round(at * 1000), [row])))

    def ask(self, query: str, at: float) -> dict[tuple[tuple[str, str], ...], float]:
        block = self.querier.instant(query, NOW + round(at * 1000), LOCAL).block
        return dict(zip(block.labels, block.values.tolist(), strict=True))


def run(engine: RuleEngine, at: float) -> None:
    engine.run_once(NOW + round(at * 1000))


@pytest.fixture
def place() -> Iterator[Place]:
    database = TelemetryDatabase(None, StoreSettings(), lambda: NOW + 7_200_000)
    store = TelemetryStore(database)
    yield Place(store, PromqlEngine(store))
    store.close()
