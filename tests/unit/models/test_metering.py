from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.api.components import budget_components
from aiops.core.errors import LimitExceeded
from aiops.core.model import ModelUse, UseKind
from aiops.core.principal import SYSTEM
from aiops.cost.service import CostService
from aiops.models.focus_rows import month_of, next_month, table_of
from aiops.models.llm_spend import LlmSpend
from aiops.models.metering import DAY_MS, HOUR_MS, LLM_BUDGET, Metering
from aiops.models.prices import UNKNOWN_TOKEN, Prices
from aiops.settings import CostSettings, ModelBudgetSettings, ModelCostSettings, StoreSettings, TokenPriceSettings
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.model_uses import ModelUseRepository
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_764_072_000_000  # 2025-11-25 12:00 UTC
PAYMENTS = {"payments": ("key:1", "key:2*")}


class Time:
    now = NOW

    def __call__(self) -> int:
        return self.now


def use(cost: float, kind: UseKind = UseKind.TRAIN, model: str = "anomaly-60s", **more: object) -> ModelUse:
    values = {"principal": "system:aiops", "time_ms": NOW, "quantity": 1.0, "unit": "seconds", "version": "1", **more}
    return ModelUse(model=model, kind=kind, cost=cost, **values)  # type: ignore[arg-type]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[ModelUseRepository]:
    database = StateDatabase(sqlite_url(tmp_path))
    database.upgrade()
    yield ModelUseRepository(database)
    database.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TelemetryStore]:
    found = TelemetryStore(TelemetryDatabase(tmp_path / "telemetry.duckdb", StoreSettings()))
    yield found
    found.close()


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_budget_stops_before_the_work_and_starts_anew_with_the_day(
    repository: ModelUseRepository, time: Time
) -> None:
    chosen = ModelCostSettings(budgets={"trainings": ModelBudgetSettings(per_day=1.0, kinds=(UseKind.TRAIN,))})
    meter = Metering(repository, chosen, time)
    meter.check("anomaly-60s", UseKind.TRAIN, "key:1", 1.0)
    meter.record(use(0.7))
    with pytest.raises(LimitExceeded, match=r"'trainings' of 1 USD .*0.7 spent, 0.4 expected") as refused:
        meter.check("anomaly-60s", UseKind.TRAIN, "key:1", 0.4)
    assert refused.value.kind == "budget"
    assert refused.value.retry_after_s == DAY_MS / 2000
    meter.check("anomaly-60s", UseKind.TRAIN, "key:1", 0.3)
    meter.check("anomaly-60s", UseKind.SCORE, "key:1", 5.0)
    again = Metering(repository, chosen, time)  # a restart forgives nothing
    with pytest.raises(LimitExceeded):
        again.check("anomaly-60s", UseKind.TRAIN, "key:1", 0.4)
    time.now += DAY_MS
    again.check("anomaly-60s", UseKind.TRAIN, "key:1", 0.9)


def test_budgets_of_a_team_of_a_model_and_of_llm_calls(repository: ModelUseRepository, time: Time) -> None:
    chosen = ModelCostSettings(
        teams=PAYMENTS,
        budgets={
            "payments": ModelBudgetSettings(per_day=1.0, team="payments"),
            "big": ModelBudgetSettings(per_day=2.0, model="anomaly-*"),
        },
    )
    meter = Metering(repository, chosen, time, llm_per_day=0.5)
    meter.record(use(0.9, principal="key:2f"))
    assert meter.team_of("key:2f") == "payments"
    assert meter.team_of("key:9") == ""
    assert [(b.name, b.state, b.spent) for b in meter.budgets()] == [
        (LLM_BUDGET, "ok", 0),
        ("big", "ok", 0.9),
        ("payments", "at_risk", 0.9),
    ]
    with pytest.raises(LimitExceeded, match="'payments'"):
        meter.check("forecast", UseKind.TRAIN, "key:1", 0.2)
    meter.check("anomaly-60s", UseKind.TRAIN, "key:9", 1.0)
    with pytest.raises(LimitExceeded, match="'big'"):
        meter.check("anomaly-60s", UseKind.TRAIN, "key:9", 1.2)
    meter.record(use(0.5, UseKind.LLM, "openai:gpt-5-mini"))
    with pytest.raises(LimitExceeded, match="max_cost_per_day"):
        meter.check("openai:gpt-5-mini", UseKind.LLM, "key:9", 0.001)
    assert meter.budgets()[0].state == "used_up"
    [shown] = budget_components(meter)
    assert (shown.state.value, shown.required) == ("degraded", False)
    assert "agent.llm.max_cost_per_day: 0.50 of 0.5 USD" in shown.detail
    assert budget_components(Metering(repository, ModelCostSettings(), time)) == []


def test_scores_are_one_row_an_hour_and_count_before_they_are_written(
    repository: ModelUseRepository, time: Time
) -> None:
    chosen = ModelCostSettings(budgets={"all": ModelBudgetSettings(per_day=1.0)})
    meter = Metering(repository, chosen, time)
    for _ in range(50):
        meter.record(use(0.01, UseKind.SCORE, quantity=3.0, unit="points"))
    with pytest.raises(LimitExceeded):
        meter.check("anomaly-60s", UseKind.SCORE, "", 0.51)
    meter.flush()
    meter.record(use(0.01, UseKind.SCORE, quantity=3.0, unit="points"))
    time.now += HOUR_MS
    meter.record(use(0.01, UseKind.SCORE, quantity=3.0, unit="points", time_ms=time.now))
    found = meter.uses(0, NOW + DAY_MS)
    assert [(one.time_ms, one.quantity, round(one.cost, 9)) for one in found] == [
        (NOW, 153.0, 0.51),
        (NOW + HOUR_MS, 3.0, 0.01),
    ]
    with pytest.raises(LimitExceeded):
        meter.check("anomaly-60s", UseKind.SCORE, "", 0.49)
    other = Metering(repository, chosen, time)  # of another process over the same ledger
    other.record(use(0.4, UseKind.TRAIN, time_ms=time.now))
    meter.flush()
    with pytest.raises(LimitExceeded):
        meter.check("anomaly-60s", UseKind.SCORE, "", 0.1)


def test_what_was_spent_is_among_the_costs(repository: ModelUseRepository, store: TelemetryStore, time: Time) -> None:
    meter = Metering(repository, ModelCostSettings(teams=PAYMENTS, usd_rate=2.0), time, book=store)
    meter.record(use(0.5, principal="key:1"))
    meter.record(use(0.25, UseKind.SCORE))
    tokens = (("input_tokens", "6000"), ("output_tokens", "800"))
    for _ in range(2):
        meter.record(use(0.125, UseKind.LLM, "openai:gpt-5-mini", detail=tokens, quantity=6800.0, unit="tokens"))
    assert meter.publish() == 3
    assert meter.publish() == 0
    meter.record(use(0.5, principal="key:1"))
    assert meter.publish() == 3  # the month anew, not twice
    costs = CostService(store, CostSettings(), time)

    def sums(column: str) -> dict[str, float]:
        found = costs.summary(NOW - DAY_MS, NOW + DAY_MS, [column], SYSTEM, (("ServiceName", "aiops"),))
        return {group[0]: float(row.sum()) for group, row in zip(found.groups, found.amounts, strict=True)}

    assert sums("x_Model") == {"anomaly-60s": 2.5, "openai:gpt-5-mini": 0.5}
    assert sums("SubAccountName") == {"payments": 2.0, "": 1.0}
    assert sums("x_TokensIn") == {"": 2.5, "12000": 0.5}


def test_other_currencies_are_not_mixed(repository: ModelUseRepository, store: TelemetryStore, time: Time) -> None:
    meter = Metering(repository, ModelCostSettings(), time, book=store, currencies=lambda: ["EUR", "USD"])
    meter.record(use(0.5))
    assert meter.publish() == 0
    assert list(store.cost_values("BillingCurrency", SYSTEM)) == []


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.sampled_from(list(UseKind)),
            st.integers(0, 400) | st.integers(700, 745),
            st.floats(0, 1e3),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_no_money_is_lost_between_uses_and_rows(found: list[tuple[str, UseKind, int, float]]) -> None:
    start = month_of(NOW)
    uses = [use(cost, kind, model, time_ms=start + hour * HOUR_MS + 7) for model, kind, hour, cost in found]
    table = table_of(uses, "USD", 1.0)
    assert table.columns["EffectiveCost"].sum() == pytest.approx(sum(one.cost for one in uses))
    for a, b, charge in zip(
        table.columns["BillingPeriodStart"],
        table.columns["BillingPeriodEnd"],
        table.columns["ChargePeriodStart"],
        strict=True,
    ):
        assert a <= charge < b == next_month(int(a))


def test_prices() -> None:
    prices = Prices(
        ModelCostSettings(cpu_hour=0.36, llm_prices={"openai:own": TokenPriceSettings(input=1.0, output=4.0)})
    )
    assert prices.cpu(100) == pytest.approx(0.01)
    assert prices.gpu("NVIDIA H100 80GB HBM3", 3600) == 3.0
    assert prices.gpu("NVIDIA L40S", 3600) == 1.2
    assert prices.gpu("Something else", 3600) == 1.0
    assert prices.llm("openai:own", 1_000_000, 500_000) == pytest.approx(3.0)
    assert prices.llm("nobody:nothing", 1, 1) == pytest.approx(sum(UNKNOWN_TOKEN))
    assert 0 < prices.llm("openai:gpt-5-mini", 1000, 0) < prices.llm("openai:gpt-5-mini", 0, 1000)


def test_llm_calls_are_in_the_same_ledger(repository: ModelUseRepository, time: Time) -> None:
    def spend() -> LlmSpend:
        return LlmSpend(Metering(repository, ModelCostSettings(), time, llm_per_day=1.0), time)

    limit = spend()
    limit.check("openai:gpt-5-mini", 0.9, "key:1")
    told = {"input_tokens": "6000", "output_tokens": "800", "prompt": "plan@3", "principal": "key:1"}
    limit.record("openai:gpt-5-mini", 0.9, told)
    limit.check("openai:gpt-5-mini", 0.1)
    with pytest.raises(LimitExceeded, match="max_cost_per_day") as refused:
        limit.check("openai:gpt-5-mini", 0.11)
    assert refused.value.kind == "budget"
    with pytest.raises(LimitExceeded):
        spend().check("openai:other", 0.11)
    [booked] = repository.list(NOW, NOW + 1)
    assert (booked.principal, booked.version, booked.quantity, booked.unit) == ("key:1", "plan@3", 6800.0, "tokens")
    time.now += DAY_MS
    limit.check("openai:gpt-5-mini", 1.0)
