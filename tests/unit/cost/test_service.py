from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from aiops.core.cost import CostTable
from aiops.core.errors import InvalidInput
from aiops.core.incident import Alert, Severity, SignalKind
from aiops.core.principal import SYSTEM, Principal, Role
from aiops.core.series import Matcher, MatchOp
from aiops.cost.calendar import DAY_MS
from aiops.cost.service import CostService
from aiops.settings import BudgetSettings, CostSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.cost.made import MemoryCosts, date, span

DAYS = span("2026-05-01", "2026-08-13")
NOW = date("2026-08-13") * DAY_MS + 3 * 3_600_000


class Sink:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def submit(self, alerts: Sequence[Alert]) -> None:
        self.alerts.extend(alerts)


def costs(**changes: np.ndarray) -> dict[tuple[str, ...], np.ndarray]:
    rows = {"vm": np.full(len(DAYS), 100.0), "db": np.full(len(DAYS), 40.0), **changes}
    return {(name, "cloud"): amounts for name, amounts in rows.items()}


def service(reader: MemoryCosts, sink: Sink | None = None, **budgets: BudgetSettings) -> CostService:
    return CostService(reader, CostSettings(budgets=budgets), lambda: NOW, sink)


def reader(amounts: dict[tuple[str, ...], np.ndarray], newest_ms: int | None = None) -> MemoryCosts:
    return MemoryCosts(DAYS, amounts, ("ServiceName", "ServiceProviderName"), newest_ms=newest_ms)


def test_the_summary_lists_the_largest_group_first() -> None:
    found = service(reader(costs())).summary(NOW - 7 * DAY_MS, NOW, ("ServiceName",), SYSTEM)
    assert found.groups == (("vm",), ("db",))
    assert found.columns == ("ServiceName",)
    with pytest.raises(InvalidInput):
        service(reader(costs())).summary(NOW, NOW, ("ServiceName",), SYSTEM)


def test_the_comparison_leaves_incomplete_days_out_on_both_sides() -> None:
    amounts = costs(db=np.where(date("2026-08-06") <= DAYS, 60.0, 40.0))
    half = date("2026-08-12") * DAY_MS + DAY_MS // 2
    start, end = (date(d) * DAY_MS for d in ("2026-08-06", "2026-08-13"))
    found = service(reader(amounts, newest_ms=half)).compare(start, end, ("ServiceName",), SYSTEM)
    assert (found.end_ms - found.start_ms) // DAY_MS == 6
    assert (found.amount, found.before) == (960.0, 840.0)
    assert [(m.group[0], m.change) for m in found.movers] == [("db", 120.0), ("vm", 0.0)]
    assert found.change_share == pytest.approx(0.1429, abs=1e-3)


def test_the_forecast_reaches_to_the_end_of_the_month() -> None:
    found = service(reader(costs())).forecast(SYSTEM)
    assert found.month_start_ms == date("2026-08-01") * DAY_MS
    assert found.spent == pytest.approx(12 * 140)
    assert found.expected == pytest.approx(31 * 140)
    assert found.currency == "USD"


def test_a_half_billed_day_is_spent_but_not_taken_for_a_whole_one() -> None:
    amounts = costs()
    for row in amounts.values():
        row[-1] /= 10
    found = service(reader(amounts, newest_ms=int(DAYS[-1]) * DAY_MS + 3_600_000)).forecast(SYSTEM)
    assert found.spent == pytest.approx(11 * 140 + 14)
    assert found.expected == pytest.approx(31 * 140, rel=0.01)


def test_a_provider_that_bills_late_does_not_lower_the_forecast() -> None:
    late = np.where(date("2026-08-11") <= DAYS, 0.0, 40.0)
    amounts = {("vm", "cloud"): np.full(len(DAYS), 100.0), ("db", "other"): late}
    found = service(reader(amounts)).forecast(SYSTEM)
    assert found.expected == pytest.approx(31 * 140, rel=0.01)
    stopped = np.where(date("2026-08-01") <= DAYS, 0.0, 40.0)
    gone = {("vm", "cloud"): np.full(len(DAYS), 100.0), ("db", "other"): stopped}
    assert service(reader(gone)).forecast(SYSTEM).expected < 31 * 135


def test_bills_that_end_before_the_month_leave_a_forecast() -> None:
    early = MemoryCosts(DAYS[:-15], {k: v[:-15] for k, v in costs().items()}, ("ServiceName", "ServiceProviderName"))
    found = service(early).forecast(SYSTEM)
    assert found.spent == 0
    assert found.expected == pytest.approx(31 * 140, rel=0.01)


def test_budgets_are_ok_at_risk_exceeded_or_unknown() -> None:
    asked = service(
        reader(costs()),
        calm=BudgetSettings(amount=5000),
        tight=BudgetSettings(amount=4000),
        blown=BudgetSettings(amount=400, where={"ServiceName": "db"}),
        euros=BudgetSettings(amount=10, currency="EUR"),
    )
    states = {s.budget.name: s.state for s in asked.budgets(SYSTEM)}
    assert states == {"calm": "ok", "tight": "at_risk", "blown": "exceeded", "euros": "unknown"}


def test_check_sends_stable_alerts() -> None:
    spike = np.full(len(DAYS), 40.0)
    spike[-2] = 130.0
    sink = Sink()
    asked = service(reader(costs(db=spike)), sink, tight=BudgetSettings(amount=4000))
    first = asked.check(SYSTEM)
    assert sink.alerts == first
    assert {a.name for a in first} == {"CostBudget", "CostAnomaly"}
    assert all(a.kind is SignalKind.COST and a.firing for a in first)
    anomaly = next(a for a in first if a.name == "CostAnomaly")
    assert "130.00 USD on 2026-08-11 against 40.00 expected (+225%)" in str(anomaly.summary)
    later = asked.check(SYSTEM, NOW + DAY_MS // 2)
    assert [a.fingerprint for a in later] == [a.fingerprint for a in first]


def test_an_overrun_keeps_the_fingerprint_of_its_warning() -> None:
    alerts = []
    for amount in (4000, 1000):
        (alert,) = service(reader(costs()), tight=BudgetSettings(amount=amount)).check(SYSTEM)
        alerts.append(alert)
    assert [a.severity for a in alerts] == [Severity.WARNING, Severity.CRITICAL]
    assert alerts[0].fingerprint == alerts[1].fingerprint


def test_a_budget_that_holds_again_ends_its_alert() -> None:
    (before,) = service(reader(costs()), tight=BudgetSettings(amount=4000)).check(SYSTEM)
    (after,) = service(reader(costs()), tight=BudgetSettings(amount=9000)).check(SYSTEM)
    assert before.firing
    assert not after.firing
    assert before.fingerprint == after.fingerprint
    assert before.expires_ms is not None
    assert before.expires_ms - before.updated_ms > 24 * 3_600_000


def test_without_costs_there_is_nothing_to_say() -> None:
    empty = service(MemoryCosts(DAYS, {}))
    assert empty.forecast(SYSTEM).method == "no costs"
    assert empty.anomalies(0, NOW, SYSTEM) == []
    assert empty.check(SYSTEM) == []


@pytest.fixture
def store(tmp_path: Path) -> TelemetryStore:
    database = TelemetryDatabase(tmp_path / "telemetry.duckdb", StoreSettings())
    return TelemetryStore(database, {"team": "SubAccountName"})


def table(currency: str = "USD", account: str = "a", source: str = "bill") -> CostTable:
    n = len(DAYS)
    months = (DAYS.astype("datetime64[D]").astype("datetime64[M]").astype("datetime64[ms]")).astype(np.int64)
    return CostTable(
        source,
        {
            "BillingAccountId": np.array(["1"] * n, object), "BillingPeriodStart": months,
            "ChargePeriodStart": DAYS * DAY_MS, "ChargePeriodEnd": (DAYS + 1) * DAY_MS,
            "EffectiveCost": np.full(n, 20.0), "BillingCurrency": np.array([currency] * n, object),
            "ServiceName": np.array(["vm"] * n, object), "SubAccountName": np.array([account] * n, object),
            "ServiceProviderName": np.array(["cloud"] * n, object),
        },
    )  # fmt: skip


def test_the_store_answers_within_the_scope(store: TelemetryStore) -> None:
    store.import_costs(table(account="a"))
    store.import_costs(table(account="b", source="bill-b"))
    asked = CostService(store, CostSettings(), lambda: NOW, values=store.cost_values)
    assert asked.forecast(SYSTEM).expected == pytest.approx(31 * 40)
    scoped = Principal("key:1", Role.VIEWER, (Matcher("team", MatchOp.EQUAL, "b"),))
    assert asked.forecast(scoped).expected == pytest.approx(31 * 20)
    stranger = Principal("key:2", Role.VIEWER, (Matcher("region", MatchOp.EQUAL, "x"),))
    assert asked.forecast(stranger).method == "no costs"
    store.close()


def test_several_currencies_are_never_added_up(store: TelemetryStore) -> None:
    store.import_costs(table())
    store.import_costs(table("EUR", source="bill-eur"))
    settings = CostSettings(budgets={"eur": BudgetSettings(amount=500, currency="EUR")})
    asked = CostService(store, settings, lambda: NOW, values=store.cost_values)
    assert set(asked.currencies(SYSTEM)) == {"USD", "EUR"}
    with pytest.raises(InvalidInput, match="not added up"):
        asked.forecast(SYSTEM)
    (state,) = asked.budgets(SYSTEM)
    assert (state.state, state.forecast.currency) == ("at_risk", "EUR")
    assert {a.name for a in asked.check(SYSTEM)} == {"CostBudget"}
    store.close()
