"""Prometheus' own scripts, and ours in the same form, on NumPy and on the compiled kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiops.core.series import SampleBlock
from aiops.promql import kernels
from aiops.promql.engine import PromqlEngine
from aiops.settings import PromqlSettings
from tests.unit.promql.memory import MemoryReader
from tests.unit.promql.scripts import failures

PROMETHEUS = Path(__file__).parents[2] / "data" / "promql"
OURS = Path(__file__).parent / "cases"
SCRIPTS = sorted(PROMETHEUS.glob("*.test")) + sorted(OURS.glob("*.test"))
SETTINGS = PromqlSettings(experimental_functions=True)


@pytest.fixture(scope="module")
def compiled() -> kernels.Kernels:
    return kernels.load()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_script_on_numpy(path: Path) -> None:
    count, wrong = failures(path.read_text(), lambda block: PromqlEngine(MemoryReader(block), SETTINGS))
    assert count > 5
    assert wrong == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_script_on_kernels(path: Path, compiled: kernels.Kernels) -> None:
    def engine_of(block: SampleBlock) -> PromqlEngine:
        engine = PromqlEngine(MemoryReader(block), SETTINGS)
        engine.warm(wait=True)
        assert engine.warm_now
        return engine

    _, wrong = failures(path.read_text(), engine_of)
    assert wrong == []
