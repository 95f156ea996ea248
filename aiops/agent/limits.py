"""Budgets of one question and of one asker: steps, seconds, tokens, money, LLM calls a day."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from aiops.core.errors import LimitExceeded
from aiops.core.ports import Clock, system_clock

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class QuestionLimits:
    """What one question may use."""

    text: int = 2000
    llm_calls: int = 6
    llm_seconds: float = 30.0
    steps: int = 8


class DailyBudget:
    """Money spent on LLM calls per UTC day: a :class:`~aiops.core.ports.BudgetGuard` and ``UsageLedger`` in memory.

    Wiring may inject durable ones instead; this one starts at zero with the process.
    """

    def __init__(self, per_day: float, clock: Clock = system_clock) -> None:
        self._per_day = per_day
        self._clock = clock
        self._day = -1
        self._spent = 0.0
        self._lock = threading.Lock()

    def _roll(self) -> None:
        day = self._clock() // DAY_MS
        if day != self._day:
            self._day, self._spent = day, 0.0

    @property
    def spent(self) -> float:
        with self._lock:
            self._roll()
            return self._spent

    def check(self, subject: str, expected_cost: float) -> None:
        """Raises ``LimitExceeded`` (budget) when the day's money would be exceeded."""
        with self._lock:
            self._roll()
            if self._spent + expected_cost > self._per_day:
                raise LimitExceeded(
                    f"The day's budget of {self._per_day:g} USD for {subject} is used up.", kind="budget",
                    hint="Raise agent.llm.max_cost_per_day, or use the offline planner.",
                )  # fmt: skip

    def record(self, subject: str, cost: float, details: Mapping[str, str]) -> None:  # noqa: ARG002
        with self._lock:
            self._roll()
            self._spent += cost
