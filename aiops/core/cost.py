"""Cost and usage in FOCUS column ids (https://focus.finops.org). Money is ``EffectiveCost``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REQUIRED_COLUMNS = ("BillingAccountId", "BillingPeriodStart", "ChargePeriodStart", "EffectiveCost", "BillingCurrency")
"""An import without one of these is refused by name."""

STORED_COLUMNS = (
    "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodStart", "BillingPeriodEnd",
    "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ChargeClass", "ChargeDescription",
    "ServiceName", "ServiceCategory", "ServiceSubcategory", "ServiceProviderName", "SubAccountId", "SubAccountName",
    "RegionId", "ResourceId", "ResourceName", "ResourceType", "SkuId",
    "ConsumedQuantity", "ConsumedUnit", "ListCost", "ContractedCost", "BilledCost", "EffectiveCost", "Tags",
)  # fmt: skip
"""Columns kept, verbatim FOCUS ids; times are ms UTC, costs float64, ``Tags`` JSON text."""


@dataclass(frozen=True, slots=True)
class CostTable:
    """Rows of one source in columns, all of one length; keys are of :data:`STORED_COLUMNS` or ``x_…``."""

    source: str
    columns: Mapping[str, NDArray[np.generic]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0


@dataclass(frozen=True, slots=True)
class CostQuery:
    """Sums of ``EffectiveCost`` per day and group; ``group_by`` are FOCUS columns, half-open window."""

    start_ms: int
    end_ms: int
    group_by: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CostSeries:
    """Daily cost per group.

    Attributes:
        days: int64 [D], ms UTC of each day's start.
        groups: length G, one value per ``group_by`` column.
        amounts: float64 [G, D], zero where nothing was charged.
        currency: the one currency; rows of several currencies are never added up.
        newest_ms: end of the latest charge period seen, to tell how complete the last day is.
    """

    days: NDArray[np.int64]
    groups: tuple[tuple[str, ...], ...]
    amounts: NDArray[np.float64]
    currency: str
    newest_ms: int
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CostForecast:
    """Month-end estimate with an interval (money, in ``currency``)."""

    month_start_ms: int
    spent: float
    expected: float
    lower: float
    upper: float
    currency: str
    method: str


@dataclass(frozen=True, slots=True)
class Budget:
    """A monthly amount for costs that match ``where``."""

    name: str
    amount: float
    currency: str
    where: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget against what was spent and what is expected at month end."""

    budget: Budget
    forecast: CostForecast
    state: str
    """``ok``, ``at_risk`` (the forecast exceeds it), ``exceeded``, or ``unknown`` (no costs match it)."""


@dataclass(frozen=True, slots=True)
class CostAnomaly:
    """A day whose cost departs from its own weekday's and calendar's past."""

    day_ms: int
    group: tuple[str, ...]
    amount: float
    expected: float
    currency: str
    columns: tuple[str, ...] = ()
    """The FOCUS columns that ``group`` has values of."""
    kind: str = "spike"
    """``spike`` (one or two days), ``step`` (longer) or ``creep`` (slow growth over weeks)."""
    days: int = 1
    """Days of the episode so far; ``amount`` and ``expected`` are those of its first day, for ``creep`` per day."""
    excess: float = 0.0
    """Money above (below, if negative) what was expected, summed over the episode."""


@dataclass(frozen=True, slots=True)
class CostMover:
    """One group's cost in a window and in the window of the same length before it."""

    group: tuple[str, ...]
    amount: float
    before: float

    @property
    def change(self) -> float:
        return self.amount - self.before


@dataclass(frozen=True, slots=True)
class CostComparison:
    """A window against the previous one of the same length, over complete days only.

    ``start_ms`` and ``end_ms`` bound what was compared (half-open); ``movers`` come by size of change.
    """

    start_ms: int
    end_ms: int
    amount: float
    before: float
    currency: str
    columns: tuple[str, ...]
    movers: tuple[CostMover, ...]

    @property
    def change_share(self) -> float | None:
        """Relative change, or ``None`` where nothing was spent before."""
        return self.amount / self.before - 1 if self.before else None
