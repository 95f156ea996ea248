"""What LLM calls may cost a day, over all askers; kept in the state store, so that a restart does not forgive."""

from __future__ import annotations

from collections.abc import Mapping

from aiops.core.errors import LimitExceeded
from aiops.core.ports import Clock, system_clock
from aiops.store.state.usage import UsageRepository

DAY_MS = 86_400_000


class SpendLimit:
    """Implements ``core.ports.BudgetGuard`` and ``UsageLedger``.

    Args:
        per_day: USD of one UTC day, over all subjects.
    """

    def __init__(self, usage: UsageRepository, per_day: float, clock: Clock = system_clock) -> None:
        self._usage = usage
        self._per_day = per_day
        self._clock = clock

    def check(self, subject: str, expected_cost: float) -> None:
        """Raises ``LimitExceeded`` (budget), with the seconds until the next UTC day, before the call is made."""
        if self._usage.spent().cost + expected_cost > self._per_day + 1e-9:
            raise LimitExceeded(
                f"The day's LLM budget of {self._per_day:g} USD is used up, so the call for {subject} is not made.",
                kind="budget",
                hint="Raise agent.llm.max_cost_per_day, or use the offline planner.",
                retry_after_s=(DAY_MS - self._clock() % DAY_MS) / 1000,
            )

    def record(self, subject: str, cost: float, details: Mapping[str, str]) -> None:
        """Book what a call cost, USD."""
        self._usage.record(subject, cost, details)
