"""How service-level objectives stand: what is left of the error budget, and how fast it goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aiops.core.ports import MetricQuerier
from aiops.core.principal import Principal
from aiops.rules.slo import BURNS, ratio
from aiops.settings import SloSettings


@dataclass(frozen=True, slots=True)
class ObjectiveState:
    """One objective at a moment; NaN where nothing was recorded yet.

    Attributes:
        bad_share: of the period's events so far.
        budget_left: 1 untouched, 0 used up, below 0 broken.
        burn: window in seconds to how many times too fast the budget goes; 1 uses it up exactly at the period's end.
        burning: the worst severity whose condition holds, or empty.
    """

    name: str
    service: str
    objective: float
    period_days: float
    bad_share: float
    budget_left: float
    burn: Mapping[int, float]
    burning: str


class Objectives:
    """Reads what the rules of :mod:`aiops.rules.slo` recorded.

    Args:
        querier: where those rules write.
    """

    def __init__(self, slos: Mapping[str, SloSettings], querier: MetricQuerier) -> None:
        self._slos = dict(sorted(slos.items()))
        self._querier = querier

    def states(self, now_ms: int, principal: Principal) -> list[ObjectiveState]:
        """All objectives, by name. Raises ``TransientError`` where the store cannot be read."""
        return [self._state(name, slo, now_ms, principal) for name, slo in self._slos.items()]

    def _state(self, name: str, slo: SloSettings, now_ms: int, principal: Principal) -> ObjectiveState:
        windows = sorted({w for burn in BURNS for w in (burn.long_s, burn.short_s)})
        budget, period_s = 1 - slo.objective, slo.period_days * 86_400
        burn = {w: self._read(ratio(name, w), now_ms, principal) / budget for w in windows}
        bad = self._read(ratio(name, int(period_s)), now_ms, principal)
        hot = [b.severity for b in BURNS if min(burn[b.long_s], burn[b.short_s]) > b.factor(period_s)]
        return ObjectiveState(
            name, slo.service, slo.objective, slo.period_days, bad, 1 - bad / budget, burn, min(hot, default="")
        )

    def _read(self, query: str, now_ms: int, principal: Principal) -> float:
        values = self._querier.instant(query, now_ms, principal).block.values
        return float(values[0]) if len(values) else math.nan
