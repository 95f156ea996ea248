"""Evals from a folder of worlds: each opened once, its cases asked in their order, every answer judged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from aiops.agent import evals
from aiops.agent.evals import Judged
from aiops.agent.executor import Executor
from aiops.agent.ports import Planner
from aiops.core.errors import ConfigError
from aiops.settings import Settings
from aiops.wiring.assistant import llm_planner
from aiops.wiring.eval_world import opened, read_world
from aiops.wiring.lifetime import Lifetime
from aiops.wiring.plugins import PluginFactory


def judged_cases(folder: Path, settings: Settings, *, llm: bool = False) -> Iterator[tuple[int, Judged]]:
    """How many cases there are, and each judged case.

    Args:
        llm: try the configured model first, as the service would.

    Raises:
        InvalidInput: no world, or one that cannot be read.
        ConfigError: ``llm`` without a model that can be used.
    """
    found = [(world, read_world(world), evals.cases(world)) for world in evals.worlds(folder)]
    total = sum(len(cases) for _, _, cases in found)
    for world, spec, cases in found:
        lifetime = Lifetime()
        ledger = _Ledger()

        def planner(executor: Executor, lifetime: Lifetime = lifetime, ledger: _Ledger = ledger) -> Planner:
            made = llm_planner(settings, executor, ledger, PluginFactory(settings, lifetime), lifetime)
            if made is None:
                raise ConfigError("No model is configured.", hint="Set agent.llm.model and its key.")
            return made

        try:
            with opened(spec, planner if llm else None) as place:
                for number, case in enumerate(cases):
                    conversation = f"eval:{world.name}:{number}"
                    for text in case.question[:-1]:
                        place.ask(text, conversation, case.zone)
                    begun, spent = time.perf_counter(), ledger.total
                    answer = place.ask(case.question[-1], conversation, case.zone)
                    seconds = time.perf_counter() - begun
                    yield total, evals.judge(world.name, case, answer, seconds, ledger.total - spent)
        finally:
            lifetime.stop()


class _Ledger:
    """Sums what calls cost, USD."""

    def __init__(self) -> None:
        self.total = 0.0

    def record(self, subject: str, cost: float, details: Mapping[str, str]) -> None:
        del subject, details
        self.total += cost

    def check(self, subject: str, expected_cost: float, principal: str = "") -> None:
        del subject, expected_cost, principal
