from __future__ import annotations

import numpy as np
import pytest
import torch

from detectors.support.robust import binned_medians, fill_circular, quantiles, trailing_mean
from detectors.support.seasons import DAY_MS, find_period, fit_profiles, seasonal


def test_quantiles_are_those_of_the_observed_values() -> None:
    values = torch.tensor([[3.0, 1, 9, 2], [5, 5, 5, 5]])
    mask = torch.tensor([[True, True, False, True], [False] * 4])
    assert quantiles(values, mask, (0.0, 0.5, 1.0)).tolist() == [[1, 2, 3], [0, 0, 0]]


def test_trailing_mean_keeps_small_numbers_after_large_ones() -> None:
    values = torch.tensor([[1e8, 1.0, 1.0, 2.0]])
    mask = torch.ones_like(values, dtype=torch.bool)
    assert trailing_mean(values, mask, 2)[0, 2:].tolist() == [1.0, 1.5]


def test_binned_medians_match_numpy() -> None:
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(5, 200)).astype(np.float32), rng.random((5, 200)) < 0.8
    bins = rng.integers(0, 7, (5, 200))
    found, count = binned_medians(torch.from_numpy(values), torch.from_numpy(mask), torch.from_numpy(bins), 8)
    for s in range(5):
        for b in range(8):
            members = values[s][mask[s] & (bins[s] == b)]
            assert int(count[s, b]) == len(members)
            assert float(found[s, b]) == pytest.approx(float(np.median(members)) if len(members) else 0.0, abs=1e-6)


def test_empty_bins_take_the_one_before_around_the_circle() -> None:
    profile, known = torch.tensor([[0.0, 5, 0, 7]]), torch.tensor([[False, True, False, True]])
    assert fill_circular(profile, known).tolist() == [[7, 5, 5, 7]]


@pytest.mark.parametrize("period", [7, 24, 60])
def test_each_series_gets_its_own_period(period: int) -> None:
    rng = np.random.default_rng(period)
    t = np.arange(1000)
    wave = np.sin(2 * np.pi * t / period) * 3 + rng.normal(size=1000) * 0.5
    x = torch.from_numpy(np.stack([wave, rng.normal(size=1000), np.zeros(1000)]).astype(np.float32))
    found = find_period(x, torch.ones_like(x, dtype=torch.bool)).tolist()
    assert found == [period, 0, 0]


def test_a_daily_rhythm_is_taken_out_and_given_back() -> None:
    step = 900_000
    times = torch.arange(96 * 6, dtype=torch.int64) * step
    wave = 5 * torch.sin(2 * torch.pi * times.double() / DAY_MS).float()
    x = wave[None] + torch.randn(3, len(times), generator=torch.Generator().manual_seed(0)) * 0.1
    profiles, residual, _ = fit_profiles(x, torch.ones_like(x, dtype=torch.bool), times, step)
    assert profiles["period.day"].tolist() == [DAY_MS] * 3
    assert float(residual.std()) < 0.2
    future = times + DAY_MS * 10
    assert float((seasonal(profiles, future) - wave).abs().max()) < 0.5
