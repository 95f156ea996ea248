"""What is an anomaly is policy, and this is the policy: how rare an episode must be to be told of.

The threshold of a series is where the expected number of its episodes a day equals its share of the fleet's
``false_alarms_per_day`` (:mod:`aiops.incidents.ledger`), by the tail of its training scores
(:mod:`aiops.incidents.tails`) as the live ones have moved it (:mod:`aiops.incidents.drift`), and as people's marks
have (:mod:`aiops.incidents.feedback`). An episode needs a minimum duration to open and some quiet steps to close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.incidents.drift import Drift
from aiops.incidents.ledger import DAY_MS, SPENT_BY_PLAN
from aiops.incidents.tails import Floats, Tail

REFRESH_STEPS = 16
"""Steps between two looks at what the live scores say of the thresholds."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How many false episodes a day over all ``series`` are accepted, and what makes one episode."""

    false_alarms_per_day: float
    min_duration_steps: int
    resolve_after_steps: int

    def rate(self, step_ms: int, series: int) -> float:
        """Accepted false episodes a step for each series: equal shares of what the plan spends of the day's budget."""
        return SPENT_BY_PLAN * self.false_alarms_per_day * step_ms / DAY_MS / max(series, 1)


@dataclass(frozen=True, slots=True)
class Direction:
    """Which deviations matter, per series [S]: ``sign`` +1 up, -1 down, 0 both; ``least`` and ``share`` floors."""

    sign: NDArray[np.int8]
    least: Floats
    share: Floats

    def matters(self, value: Floats, expected: Floats) -> NDArray[np.bool_]:
        """True where the deviation points the bad way and is large enough for anyone to care."""
        deviation = value - expected
        signed = np.where(self.sign == 0, np.abs(deviation), deviation * self.sign)
        return np.asarray(signed >= np.maximum(self.least, self.share * np.abs(expected)) - 1e-12) & (signed > 0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one step changed, as row numbers: newly ``opened``, still ``open``, just ``closed``."""

    opened: NDArray[np.int64]
    open: NDArray[np.int64]
    closed: NDArray[np.int64]


class Judge:
    """Episodes of one group of series, step by step. Not thread-safe.

    Args:
        tail: from :func:`aiops.incidents.tails.tail_of`.
        direction: per series.
        policy: the budget.
        step_ms: the group's step.
        fleet: series watched in all groups together; the budget is shared among them.
    """

    def __init__(self, tail: Tail, direction: Direction, policy: Policy, step_ms: int, fleet: int) -> None:
        size = len(tail.level)
        self.tail = tail
        self._direction = direction
        self._policy = policy
        self._step_ms = step_ms
        self._absent_limit = 4 * policy.resolve_after_steps
        self.run = np.zeros(size, np.int64)
        self.quiet = np.zeros(size, np.int64)
        self.open = np.zeros(size, bool)
        self.offset = np.zeros(size)
        self.drift = Drift(tail, step_ms, policy.min_duration_steps, policy.resolve_after_steps)
        self._steps = 0
        self.set_fleet(fleet)

    def set_fleet(self, fleet: int) -> None:
        """Equal shares of the whole budget among so many series."""
        self.set_rate(self._policy.rate(self._step_ms, fleet))

    def set_rate(self, rate: float) -> None:
        """Accepted false episodes a step for each series."""
        self._rate = max(rate, 1e-300)
        self.refresh()

    def refresh(self) -> None:
        """Move the thresholds to where live scores, marks and the budget put them."""
        often, high = self.drift.ratios()
        rarity = np.log(np.maximum(self.tail.rate * often / self._rate, 1.0))
        self.threshold = self.tail.level + high * self.tail.above(np.maximum(rarity + self.offset, 0.0))

    def p_value(self, score: Floats) -> Floats:
        """Chance a step of a false episode at least this high, per series."""
        often, high = self.drift.ratios()
        return np.minimum(often * self.tail.rate_above(self.tail.level + (score - self.tail.level) / high), 1.0)

    def reopen(self, rows: NDArray[np.int64]) -> None:
        """Take these series as being in an episode, as after a restart."""
        self.open[rows] = True
        self.run[rows] = self._policy.min_duration_steps

    def step(self, score: Floats, value: Floats, expected: Floats) -> Verdict:
        """Judge one closed step, all [S]. A NaN score is a missing step: it neither starts nor soothes an episode,
        but a series that stays away for long is let go."""
        known = np.isfinite(score)
        matters = known & self._direction.matters(value, expected)
        high = matters & (np.where(known, score, 0.0) >= self.threshold)
        calm = known & ~(matters & (np.where(known, score, 0.0) >= self.tail.level))
        self.run = np.where(known, np.where(high, self.run + 1, 0), self.run)
        quiet = np.where(
            calm, self.quiet + 1, np.where(known, 0, self.quiet + self._policy.resolve_after_steps / self._absent_limit)
        )
        self.quiet = np.where(self.open, quiet, 0)
        opened = ~self.open & high & (self.run >= self._policy.min_duration_steps)
        closed = self.open & (self.quiet >= self._policy.resolve_after_steps)
        self.open = (self.open | opened) & ~closed
        self.quiet[opened | closed] = 0
        self.drift.step(score, self.threshold - self.tail.level)
        self._steps += 1
        if self._steps % REFRESH_STEPS == 0:
            self.refresh()
        return Verdict(np.flatnonzero(opened), np.flatnonzero(self.open & ~opened), np.flatnonzero(closed))
