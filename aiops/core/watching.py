"""What the parts of the product that know measures tell detection to watch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Measure:
    """A PromQL whose result is a gauge, rate, ratio or quantile.

    Attributes:
        name: short, unique, without blanks.
        unit: ``ratio``, ``s``, ``/s`` or any other; may be empty.
        direction: which way is bad: up, down, both.
        needs: metric names without which it is not asked.
    """

    name: str
    query: str
    unit: str
    direction: str
    needs: tuple[str, ...]


Discover = Callable[[], Sequence[Measure]]
"""What a source has that is worth watching, the most important first. Raises ``TransientError`` where it is down."""


@dataclass(frozen=True, slots=True)
class AlertCondition:
    """An alerting rule that someone wrote: its name and its PromQL."""

    name: str
    query: str


@runtime_checkable
class AlertConditions(Protocol):
    """A metrics source that knows its users' alerting rules."""

    def alert_conditions(self) -> Sequence[AlertCondition]:
        """Empty where it has none or does not tell. Raises ``TransientError`` where it is down."""
        ...
