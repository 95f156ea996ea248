"""The false-alarm budget holds on quiet series, and faults are found at that budget."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.false_alarms import POWER_KINDS, interval, run


def check(result: dict[str, Any], slack: float) -> None:
    for rate in result["rates"]:
        assert rate["interval"][0] <= slack * rate["budget"], rate
    rows = {(r["fault"], r["length"], r["size"]): r for r in result["power"]["1.0"]}
    for kind in POWER_KINDS:
        assert rows["step", 60, 8.0][kind]["found"] >= 0.9
        assert rows["step", 60, 8.0][kind]["delay"] <= 6
        assert rows["variance", 60, 8.0][kind]["found"] >= 0.9
        assert rows["dropout", 60, 0.0][kind]["found"] >= 0.9


def test_a_hundred_series_keep_the_budget() -> None:
    check(run(10, 14, 3, limit=10), slack=1.0)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_ten_thousand_series_keep_the_budget() -> None:
    check(run(1000, 14, 14), slack=1.0)


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390)])
def test_the_interval_is_the_exact_one_of_a_poisson_count(count: int, low: float, high: float) -> None:
    assert interval(count) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
