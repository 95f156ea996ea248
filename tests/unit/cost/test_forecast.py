from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.cost import forecast
from aiops.cost.calendar import month_end
from tests.unit.cost.made import daily_costs, date, span


def test_a_flat_cost_is_forecast_exactly() -> None:
    days = span("2026-05-01", "2026-08-12")
    found = forecast.estimate(days, np.full(len(days), 10.0), 20)
    assert found.total == pytest.approx(200)
    assert found.lower <= found.total <= found.upper


def test_a_complete_month_needs_no_forecast() -> None:
    assert forecast.estimate(span("2026-05-01", "2026-06-01"), np.ones(31), 0).total == 0


def test_a_monthly_fee_ahead_is_counted_in() -> None:
    days = span("2026-03-01", "2026-08-20")
    dates = days.astype("datetime64[D]").astype(str)
    fee = np.array([d.endswith("-28") for d in dates]) * 300.0
    found = forecast.estimate(days, np.full(len(days), 10.0) + fee, 12)
    assert found.total == pytest.approx(420, rel=0.01)
    assert "calendar" in found.method


def test_short_history_gives_a_run_rate_with_a_wide_interval() -> None:
    days = span("2026-08-01", "2026-08-11")
    amounts = np.array([8.0, 12, 9, 11, 10, 8, 12, 10, 9, 11])
    found = forecast.estimate(days, amounts, 21)
    assert found.total == pytest.approx(210)
    assert found.method.startswith("run rate")
    assert found.upper - found.lower > 0.2 * found.total
    one = forecast.estimate(days[:1], amounts[:1], 30)
    assert (one.lower, one.upper) == (0.0, 2 * one.total)


def test_month_end_error_and_coverage_on_made_series() -> None:
    """From day 12: mean error under 2.5 % of the month, nine intervals in ten hold the truth (four in five here)."""
    days = span("2026-01-01", "2026-09-01")
    start, end = date("2026-08-01"), month_end(date("2026-08-01"))
    errors, covered = [], 0
    for seed in range(40):
        amounts = daily_costs(seed, days)
        known = start + 12 - int(days[0])
        found = forecast.estimate(days[:known], amounts[:known], end - start - 12)
        spent, truth = amounts[start - days[0] : known].sum(), amounts[start - days[0] :].sum()
        errors.append(abs(spent + found.total - truth) / truth)
        covered += spent + found.lower <= truth <= spent + found.upper
    assert np.mean(errors) < 0.025
    assert covered >= 32


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e5, 1e5), max_size=70), st.integers(1, 31))
def test_any_costs_give_an_ordered_interval(values: list[float], horizon: int) -> None:
    days = np.arange(20_000, 20_000 + len(values))
    found = forecast.estimate(days, np.array(values), horizon)
    assert np.isfinite([found.total, found.lower, found.upper]).all()
    assert found.lower <= found.total + 1e-6
    assert found.total <= found.upper + 1e-6
