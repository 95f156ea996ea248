from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.cost import anomalies
from aiops.cost.calendar import day_of_month
from tests.unit.cost.made import daily_costs, date, span

DAYS = span("2026-03-01", "2026-09-01")
N = len(DAYS)


def find(amounts: np.ndarray) -> list[anomalies.Episode]:
    return anomalies.find(DAYS, np.atleast_2d(amounts), 0.12, 0.01)


def rhythm(level: float = 100.0) -> np.ndarray:
    rng = np.random.default_rng(5)
    return level * np.where((DAYS + 3) % 7 >= 5, 0.6, 1.0) * np.exp(rng.normal(0, 0.02, N))


def test_a_weekly_rhythm_is_no_anomaly() -> None:
    assert find(rhythm()) == []


def test_one_expensive_day_is_a_spike() -> None:
    amounts = rhythm()
    amounts[-10] *= 2
    (found,) = find(amounts)
    assert (found.kind, found.first, found.last) == ("spike", N - 10, N - 10)
    assert found.excess == pytest.approx(found.amount - found.expected)


def test_a_lasting_rise_is_one_step() -> None:
    amounts = rhythm()
    amounts[-12:] *= 1.3
    (found,) = find(amounts)
    assert (found.kind, found.first, found.last) == ("step", N - 12, N - 1)
    assert found.excess == pytest.approx(0.3 / 1.3 * amounts[-12:].sum(), rel=0.1)


def test_a_monthly_fee_is_expected_from_the_second_month_on() -> None:
    amounts = rhythm() + np.where(day_of_month(DAYS) == 3, 80.0, 0.0)
    starts = {int(DAYS[e.first]) for e in find(amounts)}
    assert starts <= {date("2026-03-03"), date("2026-04-03")}
    late = amounts.copy()
    late[int(date("2026-08-20") - DAYS[0])] += 80
    assert int(DAYS[find(late)[-1].first]) == date("2026-08-20")


@pytest.mark.parametrize("weekly", [0.035, 0.05, 0.08])
def test_slow_growth_is_a_creep_and_a_step_is_not(weekly: float) -> None:
    growth = (1 + weekly) ** (np.maximum(np.arange(N) - (N - 63), 0) / 7)
    found = find(rhythm() * growth)
    assert "creep" in {e.kind for e in found}
    creep = next(e for e in found if e.kind == "creep")
    assert creep.amount / creep.expected == pytest.approx((1 + weekly) ** 7, rel=0.1)
    stepped = rhythm()
    stepped[-20:] *= 1.3
    assert {e.kind for e in find(stepped)} == {"step"}


def test_missing_bills_of_the_newest_days_are_not_a_fall() -> None:
    amounts = rhythm()
    amounts[-2:] = 0
    assert find(amounts) == []
    amounts[-9:] = 0
    assert find(amounts)[0].excess < 0


def test_a_new_service_is_reported_and_too_little_history_is_not() -> None:
    amounts = np.zeros(N)
    amounts[-5:] = 40.0
    (found,) = find(amounts)
    assert (found.expected, found.first) == (0.0, N - 5)
    assert anomalies.find(DAYS[:15], rhythm()[None, :15] * 3, 0.12, 0.01) == []
    assert anomalies.find(DAYS[:0], np.zeros((0, 0)), 0.12, 0.01) == []


def test_recall_and_false_alarms_on_made_series() -> None:
    """Recall of +30 % steps at least .9, under one false alarm a series in two months."""
    hits = false = 0
    for seed in range(40):
        amounts = daily_costs(seed, DAYS)
        smallest = 0.005 * float(np.median(amounts))
        before = anomalies.find(DAYS, amounts[None], 0.12, smallest)
        false += sum(e.first >= N - 61 for e in before)
        amounts[-14:] *= 1.3
        after = anomalies.find(DAYS, amounts[None], 0.12, smallest)
        hits += any(e.first >= N - 14 and e.excess > 0 for e in after)
    assert hits >= 36
    assert false / 40 / 2 < 0.5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=120))
def test_any_finite_costs_are_judged_without_error(values: list[float]) -> None:
    days = np.arange(20_000, 20_000 + len(values))
    for found in anomalies.find(days, np.array([values]), 0.12, 0.01):
        assert 0 <= found.first <= found.last < len(values)
        assert np.isfinite(found.excess)
