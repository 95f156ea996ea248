from __future__ import annotations

import numpy as np
import pytest

from aiops.core.anomaly import State
from aiops.incidents.tails import Tail, calibrate, peaks_of, sustained, tail_of

STEPS = 8000


def of(score: np.ndarray) -> Tail:
    return tail_of(State(tuple(map(str, range(len(score)))), 60_000, calibrate(score, 1, 2)))


@pytest.mark.parametrize("draw", ["normal", "exponential", "uniform", "heavy"])
def test_the_share_above_a_threshold_is_the_one_asked_for(draw: str) -> None:
    rng = np.random.default_rng(3)
    make = {
        "normal": lambda n: rng.standard_normal((400, n)),
        "exponential": lambda n: rng.exponential(size=(400, n)),
        "uniform": lambda n: rng.random((400, n)),
        "heavy": lambda n: np.log1p(rng.pareto(2.0, (400, n))),
    }[draw]
    tail = of(make(STEPS))
    fresh = sustained(make(STEPS), 1)
    for share in (1e-3, 1e-4, 1e-5):
        above = fresh > tail.threshold(share)[:, None]
        found = len(peaks_of(fresh, above, 2)[0]) / fresh.size
        # A bounded tail ends before the straight line that it is continued by: too few, never too many.
        assert found < 1.6 * share + 3e-6
        if share > 1e-5 and draw != "uniform":
            assert found > 0.5 * share


def test_a_few_heavy_series_among_light_ones_get_higher_thresholds() -> None:
    rng = np.random.default_rng(4)
    light, heavy = rng.standard_normal((300, STEPS)), np.log1p(rng.pareto(1.0, (30, STEPS)))
    tail = of(np.concatenate([light, heavy]))
    height = (tail.threshold(1e-7) - tail.level) / tail.height
    assert np.median(height[300:]) > 1.3 * np.median(height[:300])


def test_the_order_of_the_series_does_not_matter() -> None:
    score = np.random.default_rng(5).standard_normal((60, 3000))
    order = np.random.default_rng(6).permutation(60)
    np.testing.assert_allclose(of(score).threshold(1e-6)[order], of(score[order]).threshold(1e-6), rtol=1e-9)


def test_rates_and_thresholds_are_each_others_inverse_far_out() -> None:
    tail = of(np.random.default_rng(7).standard_normal((50, 2000)))
    for share in (1e-4, 1e-7, 1e-12):
        np.testing.assert_allclose(tail.rate_above(tail.threshold(share)), share, rtol=1e-6)


def test_one_short_series_is_finite_and_careful() -> None:
    tail = of(np.random.default_rng(8).standard_normal((1, 130)))
    assert tail.level[0] < tail.threshold(1e-8)[0] < 50
