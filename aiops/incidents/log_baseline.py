"""How often each log template is seen, and how surprising its present number of lines is."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

HISTORY = 180
"""Steps remembered."""
KNOWN = 30
"""Steps without which nothing is surprising."""


def tail_above(count: float, mean: float) -> float:
    """An upper bound of the chance that a Poisson count of this mean is at least ``count`` (Chernoff).

    >>> tail_above(3, 3), tail_above(30, 3) < 1e-12
    (1.0, True)
    """
    if count <= mean:
        return 1.0
    return math.exp(-(count * math.log(count / mean) - count + mean))


@dataclass(slots=True)
class Baseline:
    """Counts of one template in the last steps, oldest first."""

    counts: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def add(self, count: int) -> None:
        self.counts.append(count)

    @property
    def known(self) -> bool:
        return len(self.counts) >= KNOWN

    def mean(self) -> float:
        """Lines a step; never 0, since that something was not seen does not make it impossible."""
        return max(sum(self.counts), 1) / max(len(self.counts), 1)

    def spread(self) -> float:
        """Variance over mean, at least 1: how much burstier than chance the template is."""
        n = len(self.counts)
        if n < 2:
            return 1.0
        mean = sum(self.counts) / n
        if mean <= 0:
            return 1.0
        return max(sum((c - mean) ** 2 for c in self.counts) / (n - 1) / mean, 1.0)

    def above(self, count: int) -> float:
        """Chance of so many lines in a step, by the mean, the spread and the highest step so far."""
        spread = self.spread()
        usual = max(self.mean(), max(self.counts, default=0) / 2.0)
        return tail_above(count / spread, usual / spread)

    def below(self, steps: int) -> float:
        """Chance of the last ``steps`` steps without a line, by those before; 1 where it was often away in them."""
        before = list(self.counts)[: len(self.counts) - steps]
        if len(before) < KNOWN or before.count(0) > 0.05 * len(before):
            return 1.0
        return math.exp(-sum(before) / len(before) * steps / self.spread())
