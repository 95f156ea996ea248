"""The guide to PromQL names what the engine has, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from aiops.promql.lexer import AGGREGATORS
from aiops.promql.signatures import EXPERIMENTAL_AGGREGATORS, FUNCTIONS

GUIDE = (Path(__file__).parents[3] / "docs" / "promql.md").read_text(encoding="utf-8")


def listed(title: str) -> set[str]:
    part = GUIDE.split(f"**{title}", 1)[1]
    return set(re.split(r"\s+", re.search(r"`([^`]+)`(?=\s*[,.]|\s*\n\n)", part.split("**", 1)[1])[1]))  # type: ignore[index]


def test_functions_and_aggregators_by_name() -> None:
    stable = {name for name, known in FUNCTIONS.items() if not known.experimental}
    assert listed("Functions") == stable
    assert (
        listed("Behind `promql.experimental_functions: true`") == FUNCTIONS.keys() - stable | EXPERIMENTAL_AGGREGATORS
    )
    assert listed("Aggregation") == AGGREGATORS - EXPERIMENTAL_AGGREGATORS
