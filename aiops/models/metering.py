"""The money of the model layer: what is spent is booked, and what would exceed a budget is refused beforehand.

Training and LLM calls are booked each; scores, of which there are many, as one row an hour of each model, version,
principal and kind. Everything is booked in the cost table as well (``focus_rows``), so that questions about costs
cover what the assistant itself costs.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from aiops.core.cost import CostTable
from aiops.core.errors import LimitExceeded, TransientError
from aiops.core.model import ModelUse, UseKind
from aiops.core.ports import Clock, system_clock
from aiops.models import focus_rows
from aiops.settings.models import ModelBudgetSettings, ModelCostSettings
from aiops.store.state.model_uses import ModelUseRepository, merged

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
AT_RISK = 0.8
"""Share of a budget from which on its state is ``at_risk``."""
LLM_BUDGET = "agent.llm.max_cost_per_day"
_MANY = frozenset({UseKind.SCORE, UseKind.BATCH})

log = logging.getLogger(__name__)


class CostBook(Protocol):
    """The cost table, as the telemetry store keeps it."""

    def import_costs(self, table: CostTable) -> int: ...


@dataclass(frozen=True, slots=True)
class ModelBudgetState:
    """A budget against what was spent on this UTC day, USD; ``ok``, ``at_risk`` or ``used_up``."""

    name: str
    budget: ModelBudgetSettings
    spent: float

    @property
    def state(self) -> str:
        if self.spent >= self.budget.per_day:
            return "used_up"
        return "at_risk" if self.spent >= AT_RISK * self.budget.per_day else "ok"


class Metering:
    """Implements :class:`aiops.core.ports.ModelMeter`. Thread-safe.

    Args:
        llm_per_day: budget of all LLM calls of a day, beside those of the settings.
        book: the cost table; without one only the ledger is kept.
        currencies: of the rows in the cost table.
    """

    def __init__(
        self,
        repository: ModelUseRepository,
        settings: ModelCostSettings,
        clock: Clock = system_clock,
        *,
        llm_per_day: float | None = None,
        book: CostBook | None = None,
        currencies: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._clock = clock
        self._book = book
        self._currencies = currencies
        self._budgets = dict(settings.budgets)
        if llm_per_day is not None:
            self._budgets[LLM_BUDGET] = ModelBudgetSettings(per_day=llm_per_day, kinds=(UseKind.LLM,))
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self._day = -1
        self._spent: dict[tuple[str, UseKind, str], float] = {}
        self._fresh: dict[tuple[str, ...], ModelUse] = {}
        self._rows: dict[tuple[str, ...], tuple[int, ModelUse]] = {}
        self._unpublished: set[int] = set()
        self._said = ""

    # -------------------------------------------------------------- the port

    def check(self, model: str, kind: UseKind, principal: str, expected_cost: float) -> None:
        """Raises ``LimitExceeded`` (budget), with the seconds until the next UTC day, before the work is done."""
        team = self.team_of(principal)
        with self._lock:
            self._today()
            for name, budget in self._budgets.items():
                if not _covers(budget, model, kind, team):
                    continue
                spent = self._spent_of(budget)
                if spent + expected_cost > budget.per_day + 1e-9:
                    raise LimitExceeded(
                        f"The day's budget '{name}' of {budget.per_day:g} USD is used up or too small for this"
                        f" ({spent:.4g} spent, {expected_cost:.4g} expected), so {model} is not used.",
                        kind="budget",
                        hint="Raise the budget, or wait for the next UTC day.",
                        retry_after_s=(DAY_MS - self._clock() % DAY_MS) / 1000,
                    )

    def record(self, use: ModelUse) -> None:
        """Book it; scores are written with the next :meth:`flush`."""
        if not use.team:
            use = dataclasses.replace(use, team=self.team_of(use.principal))
        with self._lock, suppress(TransientError):  # the ledger is away: it is counted from what is written
            self._today()
        with self._lock:
            if use.time_ms // DAY_MS == self._day:
                key = (use.model, use.kind, use.team)
                self._spent[key] = self._spent.get(key, 0.0) + use.cost
            self._unpublished.add(focus_rows.month_of(use.time_ms))
            if use.kind in _MANY:
                hour = use.time_ms // HOUR_MS * HOUR_MS
                use = dataclasses.replace(use, time_ms=hour)
                place = (str(hour), use.model, use.version, use.kind.value, use.principal, use.team, use.unit)
                held = self._fresh.get(place)
                self._fresh[place] = use if held is None else merged(held, use)
                return
        self._repository.add([use])

    # -------------------------------------------------------------- what people see

    def team_of(self, principal: str) -> str:
        """The first team of the settings that names the principal; empty for none."""
        for team, members in self._settings.teams.items():
            if any(fnmatchcase(principal, pattern) for pattern in members):
                return team
        return ""

    def budgets(self) -> list[ModelBudgetState]:
        """Every budget against the present UTC day."""
        with self._lock:
            self._today()
            return [ModelBudgetState(name, one, self._spent_of(one)) for name, one in sorted(self._budgets.items())]

    def uses(self, start_ms: int, end_ms: int, model: str = "") -> tuple[ModelUse, ...]:
        """What was booked in the half-open window, oldest first."""
        self.flush()
        return self._repository.list(start_ms, end_ms, model)

    # -------------------------------------------------------------- writing

    def flush(self) -> None:
        """Write the scores counted since the last time, and take up what other processes have booked today."""
        with self._writing:
            with self._lock:
                fresh, self._fresh = self._fresh, {}
                known = {place: self._rows[place] for place in fresh if place in self._rows}
            try:
                total = {place: merged(row[1], fresh[place]) for place, row in known.items()}
                self._repository.replace({row[0]: total[place] for place, row in known.items()})
                for place in known:
                    self._rows[place] = (known[place][0], total.pop(place))
                    del fresh[place]
                numbers = self._repository.add(list(fresh.values())) if fresh else []
            except BaseException:
                with self._lock:
                    for place, use in fresh.items():
                        held = self._fresh.get(place)
                        self._fresh[place] = use if held is None else merged(use, held)
                raise
            for (place, use), number in zip(fresh.items(), numbers, strict=True):
                self._rows[place] = (number, use)
            oldest = str((self._clock() // HOUR_MS - 1) * HOUR_MS)
            self._rows = {place: row for place, row in self._rows.items() if place[0] >= oldest}
            with self._lock:
                self._day = -1  # read anew at the next question

    def publish(self) -> int:
        """Book the months that something came to in the cost table; returns its rows.

        Where other bills are in another currency than ours nothing is booked, since a table with both could not be
        added up; ``aiops models cost`` shows it all the same.
        """
        self.flush()
        with self._lock:
            months, self._unpublished = self._unpublished, set()
        if self._book is None or not months:
            return 0
        others = set(self._currencies()) - {self._settings.currency}
        if others:
            self._say(
                f"what models cost is in {self._settings.currency}, other bills are in {', '.join(sorted(others))}: it"
                " is not booked among the costs; set models.cost.currency and usd_rate"
            )
            return 0
        rows = 0
        try:
            for month in sorted(months):
                uses = self._repository.list(month, focus_rows.next_month(month))
                table = focus_rows.table_of(uses, self._settings.currency, self._settings.usd_rate)
                rows += self._book.import_costs(table) if len(table) else 0
        except BaseException:
            with self._lock:
                self._unpublished |= months
            raise
        return rows

    # -------------------------------------------------------------- the day

    def _today(self) -> None:
        day = self._clock() // DAY_MS
        if day == self._day:
            return
        found: dict[tuple[str, UseKind, str], float] = defaultdict(float)
        for one in self._repository.spent(day * DAY_MS, (day + 1) * DAY_MS):
            found[one.model, one.kind, one.team] += one.cost
        for use in self._fresh.values():
            if use.time_ms // DAY_MS == day:
                found[use.model, use.kind, use.team] += use.cost
        self._spent, self._day = dict(found), day

    def _spent_of(self, budget: ModelBudgetSettings) -> float:
        return sum(cost for (model, kind, team), cost in self._spent.items() if _covers(budget, model, kind, team))

    def _say(self, text: str) -> None:
        if text != self._said:
            log.warning("%s", text)
        self._said = text


def _covers(budget: ModelBudgetSettings, model: str, kind: UseKind, team: str) -> bool:
    return (
        fnmatchcase(model, budget.model)
        and (not budget.team or budget.team == team)
        and (not budget.kinds or kind in budget.kinds)
    )
