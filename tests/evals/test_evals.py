"""Questions on recorded telemetry: what the answer must say, must never say, and whether it may be sure.

A case is a row of ``cases/*.yaml``: ``question``, ``free`` (hosts with their share of disk free), ``says``, ``never``,
``queries``, ``limits``, ``sure``. The telemetry is that of :mod:`tests.unit.agent.house`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.agent.house import House, open_house

FREE = {"web-1": 0.42, "web-2": 0.31, "db-1": 0.04}
CASES: list[dict[str, Any]] = [
    case
    for path in sorted(Path(__file__).parent.joinpath("cases").glob("*.yaml"))
    if not path.name.startswith("plans_")
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, House]]:
    opened: dict[str, House] = {}
    managers = []
    for case in CASES:
        free = case.get("free", FREE)
        if str(free) not in opened:
            managers.append(open_house(tmp_path_factory.mktemp("house"), free))
            opened[str(free)] = managers[-1].__enter__()
    yield opened
    for manager in managers:
        manager.__exit__(None, None, None)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_case(case: dict[str, Any], houses: dict[str, House]) -> None:
    answer = houses[str(case.get("free", FREE))].ask(case["question"])
    asked = " ".join(e.query for e in answer.evidence)
    for wanted in case.get("says", ()):
        assert wanted in answer.text
    for banned in case.get("never", ()):
        assert banned not in answer.text
    for wanted in case.get("queries", ()):
        assert wanted in asked
    for wanted in case.get("limits", ()):
        assert wanted in " ".join(answer.limits)
    if "sure" in case:
        assert answer.sure is case["sure"]
