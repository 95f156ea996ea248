from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.incident import Severity
from aiops.core.series import labels_of
from aiops.incidents.episodes import alert_of
from aiops.incidents.filling import DEFAULTS, forecast, warning
from aiops.incidents.wording import headline

HOUR = 3600.0
TIMES = np.arange(0, 24 * HOUR, 300.0)
DISK = next(entry for entry in DEFAULTS if entry.name == "disk")
CERTIFICATE = next(entry for entry in DEFAULTS if entry.name == "certificate")


def test_a_disk_that_fills_steadily_is_foretold_with_an_interval() -> None:
    rng = np.random.default_rng(0)
    level = 0.4 + 0.5 * TIMES / TIMES[-1] + 0.002 * rng.standard_normal(len(TIMES))
    found = forecast(TIMES, level, 1.0, rising=True)
    assert found is not None
    assert found.left_s / HOUR == pytest.approx(0.1 / 0.5 * 24, rel=0.1)
    assert found.earliest_s < found.left_s < found.latest_s
    assert found.latest_s < 1.5 * found.left_s
    one = warning(DISK, labels_of({"instance": "db-1", "mountpoint": "/"}), found, 10**12, "q", None)
    assert one is not None
    alert = alert_of(one)
    assert alert.severity is Severity.WARNING
    assert headline(alert).startswith("db-1: disk /: will be full in 4.")


def test_a_fill_that_began_some_hours_ago_is_seen_by_the_shorter_look_back() -> None:
    level = np.where(TIMES < 19 * HOUR, 0.5, 0.5 + 0.08 * (TIMES - 19 * HOUR) / HOUR)
    found = forecast(TIMES, level, 1.0, rising=True)
    assert found is not None
    assert found.left_s / HOUR < 3


@pytest.mark.parametrize("kind", ["flat", "noise", "falling", "sawtooth", "short"])
def test_what_does_not_fill_up_is_not_foretold(kind: str) -> None:
    rng = np.random.default_rng(1)
    level = {
        "flat": np.full(len(TIMES), 0.7),
        "noise": 0.7 + 0.05 * rng.standard_normal(len(TIMES)),
        "falling": 0.9 - 0.2 * TIMES / TIMES[-1],
        "sawtooth": 0.5 + 0.3 * (TIMES % (3 * HOUR)) / (3 * HOUR),
        "short": np.where(TIMES < 23.5 * HOUR, np.nan, 0.9),
    }[kind]
    found = forecast(TIMES, level, 1.0, rising=True)
    assert found is None or found.left_s > 24 * HOUR


def test_the_interval_covers_what_came_in_most_of_many_bursty_fills() -> None:
    rng = np.random.default_rng(2)
    inside = told = 0
    for _ in range(200):
        pace = rng.uniform(0.3, 0.6) / 288
        steps = rng.gamma(0.5, 2 * pace, 2000) * (1 + 0.3 * np.sin(np.arange(2000) / 40))
        level = 0.2 + np.cumsum(steps)
        full = int(np.argmax(level >= 1.0))
        if full < 300:
            continue
        start = rng.integers(max(full - 250, 0), full - 12)
        seen = level[max(start - 288, 0) : start]
        if len(seen) < 200:
            continue
        found = forecast(np.arange(len(seen)) * 300.0, seen, 1.0, rising=True)
        if found is None:
            continue
        told += 1
        inside += found.earliest_s <= (full - start) * 300.0 <= found.latest_s
    assert told > 60
    assert inside / told > 0.75


def test_a_certificate_runs_out_by_the_clock() -> None:
    left = 3 * 86_400 - TIMES
    found = forecast(TIMES, left, 0.0, rising=False)
    assert found is not None
    assert found.left_s == pytest.approx(left[-1], rel=0.01)
    one = warning(CERTIFICATE, labels_of({"instance": "shop.example"}), found, 10**12, "q", None)
    assert one is not None
    assert one.note.startswith("will be expired in 2")


def test_what_lies_beyond_the_horizon_is_not_told() -> None:
    level = 0.1 + 0.02 * TIMES / TIMES[-1]
    found = forecast(TIMES, level, 1.0, rising=True)
    assert found is not None
    assert warning(DISK, (), found, 0, "q", None) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), rise=st.floats(-1e-6, 2e-5), bursts=st.floats(0, 0.02), lost=st.integers(0, 200))
def test_a_near_limit_is_never_missed_by_looking_quickly(seed: int, rise: float, bursts: float, lost: int) -> None:
    rng = np.random.default_rng(seed)
    level = 0.4 + np.cumsum(rise * 300 * rng.exponential(size=289) + bursts * (rng.random(289) < 0.05))
    keep = np.sort(rng.permutation(289)[: 289 - lost])
    ts = 300.0 * np.arange(289)[keep]
    whole = forecast(ts, level[keep], 1.0, rising=True)
    quick = forecast(ts, level[keep], 1.0, rising=True, horizon_s=86_400.0)
    if whole is not None and whole.left_s <= 86_400:
        assert quick == whole
    else:
        assert quick is None or quick == whole
