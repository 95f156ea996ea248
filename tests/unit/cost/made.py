"""Made daily costs: a level, a weekday rhythm, slow drift, autocorrelated noise, a monthly fee, month-end jobs."""

from __future__ import annotations

import numpy as np

from aiops.core.cost import CostQuery, CostSeries
from aiops.core.principal import Principal
from aiops.cost.calendar import DAY_MS, day_of_month, days_to_month_end


def daily_costs(seed: int, days: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = float(np.exp(rng.normal(5, 1)))
    weekend = rng.uniform(0.4, 1.05)
    rhythm = np.where((days + 3) % 7 >= 5, weekend, 1.0)
    drift = np.exp(rng.normal(0, 0.0008) * np.arange(len(days)))
    noise = np.zeros(len(days))
    sd = rng.uniform(0.01, 0.05)
    for i in range(1, len(days)):
        noise[i] = 0.5 * noise[i - 1] + rng.normal(0, sd)
    out = level * rhythm * drift * np.exp(noise)
    if rng.random() < 0.6:
        out = out + np.where(day_of_month(days) == rng.integers(1, 4), level * rng.uniform(0.5, 4), 0)
    if rng.random() < 0.4:
        out = out + np.where(days_to_month_end(days) == 0, level * rng.uniform(0.3, 1.5), 0)
    return out


class MemoryCosts:
    """A ``CostReader`` over arrays: {group: [D]}, the group's values being those of ``columns``."""

    def __init__(
        self,
        days: np.ndarray,
        amounts: dict[tuple[str, ...], np.ndarray],
        columns: tuple[str, ...] = ("ServiceName",),
        currency: str = "USD",
        newest_ms: int | None = None,
    ) -> None:
        self.days, self.amounts, self.columns, self.currency = days, amounts, columns, currency
        self.newest_ms = int(days[-1] + 1) * DAY_MS if newest_ms is None else newest_ms

    def daily(self, query: CostQuery, principal: Principal) -> CostSeries:
        days = np.arange(query.start_ms // DAY_MS, -(-query.end_ms // DAY_MS))
        sums: dict[tuple[str, ...], np.ndarray] = {}
        for key, values in self.amounts.items():
            row = dict(zip(self.columns, key, strict=True)) | {"BillingCurrency": self.currency}
            by_day = dict(zip(self.days.tolist(), values.tolist(), strict=True))
            inside = np.array([by_day.get(d, 0.0) for d in days.tolist()])
            if any(d in by_day for d in days.tolist()) and all(row.get(k, "") == v for k, v in query.where):
                group = tuple(row.get(c, "") for c in query.group_by)
                sums[group] = sums.get(group, 0) + inside
        newest = min(self.newest_ms, int(days[-1] + 1) * DAY_MS) if sums else 0
        amounts = np.array(list(sums.values())) if sums else np.zeros((0, len(days)))
        return CostSeries(days * DAY_MS, tuple(sums), amounts, self.currency, newest, query.group_by)


def date(text: str) -> int:
    return int(np.datetime64(text, "D").astype(int))


def span(first: str, last: str) -> np.ndarray:
    """Days from ``first`` up to, not including, ``last``."""
    return np.arange(date(first), date(last))
