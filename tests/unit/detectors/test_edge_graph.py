"""A detector's ONNX form gives the scores that the detector gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aiops.core import plugins
from aiops.core.anomaly import Batch, Scores
from aiops.core.errors import PermanentError
from aiops.core.ports import Detector, PluginContext

onnxruntime = pytest.importorskip("onnxruntime")
STEP = 300_000
OUTPUTS = ("score", "expected", "lower", "upper")


def detector(name: str, **options: Any) -> Detector[Any]:
    made: Detector[Any] = plugins.build("detectors", name, {"device": "cpu", **options}, PluginContext("t"))
    return made


def batch(series: int = 12, steps: int = 1400, seed: int = 1) -> Batch:
    """Series with a day's season and memory; gaps, a flat one, one never seen, one of huge values."""
    random = np.random.default_rng(seed)
    ts = 1_700_000_100_000 // STEP * STEP + STEP * np.arange(steps, dtype=np.int64)
    x = np.zeros((series, steps))
    for t in range(1, steps):
        x[:, t] = 0.7 * x[:, t - 1] + random.standard_normal(series)
    x += 3 * np.sin(2 * np.pi * ts / 86_400_000)
    values = (50 + x * random.uniform(0.01, 50, (series, 1))).astype(np.float32)
    mask = random.random((series, steps)) > 0.05
    values[1] = 7.0
    mask[2] = False
    mask[3, :900] = False
    values[4] *= 1e9
    return Batch(values, mask, ts, STEP, tuple(f"s{n}" for n in range(series)))


def run(data: bytes, given: Batch, rows: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    feed = {"values": given.values, "mask": given.mask, "timestamps": given.timestamps, "rows": rows}
    return list(session.run(list(OUTPUTS), feed))


def close(found: list[NDArray[np.float32]], made: Scores, given: Batch) -> None:
    """Scores to 1e-5; what is in the series' units to 1e-5 of its largest value, as it is a difference of such."""
    np.testing.assert_allclose(found[0], made.score, rtol=1e-5, atol=1e-5)
    size = np.maximum(np.abs(np.where(given.mask & np.isfinite(given.values), given.values, 0)).max(1), 1)[:, None]
    for name, got in zip(OUTPUTS[1:], found[1:], strict=True):
        np.testing.assert_allclose(got / size, getattr(made, name) / size, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["seasonal_residual", "ridge_ar", "window_covariance", "fusion"])
def test_onnx_form_gives_the_same_scores(name: str) -> None:
    made, given = detector(name), batch()
    state = made.fit(given.steps(0, 1100))
    later = given.steps(900, 1400)
    values = later.values.copy()
    values[0, 100], values[5, 50], values[6, 60] = np.nan, np.inf, 1e6
    later = Batch(values, later.mask, later.timestamps, STEP, later.series_ids)
    data = made.to_onnx(state)
    expected = made.score(state, later)
    found = run(data, later, np.arange(len(later)))
    close(found, expected, later)
    chosen = np.array([6, 0, 3])
    part = Batch(values[chosen], later.mask[chosen], later.timestamps, STEP, tuple(f"s{n}" for n in chosen))
    np.testing.assert_allclose(run(data, part, chosen)[0], expected.score[chosen], rtol=1e-5, atol=1e-5)


def test_onnx_form_takes_stretches_shorter_than_its_windows() -> None:
    made, given = detector("fusion"), batch()
    state = made.fit(given.steps(0, 1100))
    data = made.to_onnx(state)
    for steps in (1, 3, 40):
        later = given.steps(1100, 1100 + steps)
        found = run(data, later, np.arange(len(later)))[0]
        np.testing.assert_allclose(found, made.score(state, later).score, rtol=1e-5, atol=1e-5)


def test_other_options_are_exported_too() -> None:
    own = {"ridge_ar": {"lags": 5, "energy_steps": [4]}, "window_covariance": {"scales": [[6, 3]]}}
    made, given = detector("fusion", members=["window_covariance", "ridge_ar"], member_options=own), batch()
    state = made.fit(given.steps(0, 800))
    found = run(made.to_onnx(state), given, np.arange(len(given)))
    close(found, made.score(state, given), given)


def test_member_without_a_graph_is_named() -> None:
    made, given = detector("fusion", members=["seasonal_residual", "window_bank"]), batch(6, 400)
    state = made.fit(given)
    with pytest.raises(PermanentError, match="window_bank"):
        made.to_onnx(state)
