from __future__ import annotations

import numpy as np

from aiops.incidents.drift import Drift, carried
from aiops.incidents.ledger import DAY_MS, SPENT_BY_PLAN, Ledger
from aiops.incidents.tails import RARITIES, Tail

HOUR = DAY_MS // 24


def test_alarms_that_begin_together_cost_one() -> None:
    ledger = Ledger(1.0, 0)
    for minute in range(5):
        ledger.record(minute * 60_000, 30)
    assert ledger.spent(HOUR)[0] == 1
    assert ledger.factor(HOUR) == 1.0


def test_debt_lowers_what_may_be_spent_and_time_and_true_marks_pay_it_back() -> None:
    ledger = Ledger(1.0, 0)
    for hour in range(4):
        ledger.record(hour * HOUR, 1)
    deep = ledger.factor(4 * HOUR)
    assert deep < 0.1
    assert deep < ledger.factor(2 * DAY_MS) < 1.0
    assert ledger.factor(9 * DAY_MS) == 1.0
    ledger.forgive(3 * HOUR)
    ledger.forgive(2 * HOUR + 60_000)
    assert ledger.factor(4 * HOUR) > deep


def test_the_realised_rate_of_a_fleet_that_fires_too_often_comes_down_to_the_budget() -> None:
    rng = np.random.default_rng(2)
    ledger = Ledger(5.0, 0)
    fired = 0
    for hour in range(24 * 28):
        opened = rng.poisson(4 * 5.0 / 24 * ledger.factor(hour * HOUR))
        fired += min(opened, 1)
        ledger.record(hour * HOUR, int(opened))
    assert fired / 28 < 1.35 * 5.0


def test_equal_shares_by_the_length_of_the_step() -> None:
    ledger = Ledger(4.0, 0)
    assert ledger.rate(60_000, 100, 0) * 100 * 1440 == 4.0 * SPENT_BY_PLAN
    assert ledger.rate(15_000, 100, 0) == ledger.rate(60_000, 100, 0) / 4


def tail(size: int = 3) -> Tail:
    return Tail(np.ones(size), np.full(size, 0.05), np.full(size, 0.5), 0.5 * np.tile(RARITIES, (size, 1)))


def fed(factor: float, steps: int = 2000, cap: float = 100.0) -> Drift:
    """Excursions of the calibrated rate whose heights are ``factor`` times the calibrated ones."""
    rng = np.random.default_rng(0)
    drift = Drift(tail(), 60_000, 1, 4)
    for step in range(steps):
        high = 1 + 0.5 * factor * rng.exponential(size=3) if step % 20 == 0 else np.zeros(3)
        drift.step(high, np.full(3, cap))
    return drift


def test_live_scores_move_the_ratios_and_their_like_do_not() -> None:
    often, high = fed(1.0).ratios()
    assert np.all(np.abs(often - 1) < 0.15)
    assert np.all(high < 1.25)
    assert np.all(fed(2.5).ratios()[1] > 1.7)


def test_excursions_that_alarm_are_no_new_normal() -> None:
    assert np.all(fed(5000.0, cap=3.0).ratios()[1] < 1.5)


def test_missing_steps_are_passed_over() -> None:
    drift = fed(1.0)
    before = drift.live.steps.copy()
    drift.step(np.full(3, np.nan), np.full(3, 9.0))
    assert np.all(drift.live.steps <= before)


def test_counts_go_with_their_series_into_a_new_calibration() -> None:
    live = fed(2.0).live
    moved = carried(live, {"a": 0, "b": 1, "c": 2}, ["c", "new"], tail(), tail(2))
    assert moved.count[0] == live.count[2]
    assert moved.count[1] == 0
