"""Log templates hold their targets on the board's development systems and on the made ones. No time is asserted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from aiops.ingest.log_templates.miner import templates_of
from tests.benchmarks.log_systems import SYSTEMS
from tests.benchmarks.logs import agreement, masked

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="module")
def board() -> Any:
    if not (SHARED / "data" / "logs").is_dir():
        pytest.skip("the log board and its data are not beside this checkout")
    spec = importlib.util.spec_from_file_location("log_board", SHARED / "tools" / "log_board.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["log_board"] = found
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("raw", [False, True])
def test_the_board(board: Any, raw: bool) -> None:
    mean = board.run([SHARED / "data" / "logs"], templates_of, raw=raw, repeat=1).loc["MEAN"]
    assert mean["GA"] >= (0.85 if raw else 0.92)
    assert mean["FGA"] >= (0.85 if raw else 0.92)
    assert mean["PA"] >= 0.60
    assert mean["FTA"] >= 0.62


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_the_made_systems(system: Any) -> None:
    whole, _, truth = system.lines(1500, 11)
    grouping, text = agreement(templates_of(whole), truth)
    assert grouping >= 0.95
    assert grouping > agreement(masked(whole), truth)[0]
    assert text >= 0.25
