"""Questions as people type them, and the plan each must get: step, window, labels; never sure of a wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from aiops.agent.catalogue import KnownCatalogue
from aiops.agent.planner_offline import OfflinePlanner
from tests.evals import middleware, plans


@pytest.fixture(scope="module")
def planner() -> OfflinePlanner:
    return OfflinePlanner()


@pytest.fixture(scope="module")
def fleets() -> dict[str, KnownCatalogue]:
    return {"middleware": middleware.catalogue(), "shop": plans.catalogue()}


@pytest.mark.parametrize("case", plans.cases(), ids=lambda c: f"{c.get('after', '')}>{c['ask']}".lstrip(">"))
def test_plan(case: dict[str, Any], planner: OfflinePlanner, fleets: dict[str, KnownCatalogue]) -> None:
    known = fleets.get(case["fleet"], fleets["shop"])
    assert list(plans.misses(case, plans.plan(planner, known, case))) == []
