"""Every detector plug-in keeps the contract of ``core.ports.Detector``."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.errors import ConfigError, InvalidInput
from aiops.core.plugins import build, discover, load
from aiops.core.ports import Detector, PluginContext
from aiops.models import artifacts

STEP = 60_000
BASELINES = sorted(name for name in discover("detectors") if name.startswith("baseline_"))
EXTRAS = {"onnx_forecaster": "onnxruntime"}
NAMES = sorted(
    name for name in set(discover("detectors")) - set(BASELINES) if name not in EXTRAS or find_spec(EXTRAS[name])
)
NO_FLOOR = {name for name in NAMES if "relative_floor" not in load("detectors", name).Options.model_fields}
OPTIONS: dict[str, dict[str, Any]] = {}
"""What a detector cannot do without."""


@pytest.fixture(autouse=True, scope="module")
def _forecaster(tmp_path_factory: pytest.TempPathFactory) -> None:
    if "onnx_forecaster" in NAMES:
        path = forecaster(tmp_path_factory.mktemp("onnx") / "mean.onnx", context=16)
        OPTIONS["onnx_forecaster"] = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def forecaster(path: Path, context: int) -> Path:
    """A model that forecasts the mean of the last ``context`` values."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    node = helper.make_node("ReduceMean", ["history", "axes"], ["forecast"], keepdims=0)
    graph = helper.make_graph(
        [node],
        "mean",
        [helper.make_tensor_value_info("history", onnx.TensorProto.FLOAT, ["series", context])],
        [helper.make_tensor_value_info("forecast", onnx.TensorProto.FLOAT, ["series"])],
        [helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def make(name: str, **options: Any) -> Detector[Any]:
    return cast(
        Detector[Any],
        build("detectors", name, {"device": "cpu", **OPTIONS.get(name, {}), **options}, PluginContext(name)),
    )


def batch_of(values: np.ndarray, start: int = 0, step: int = STEP, ids: tuple[str, ...] = ()) -> Batch:
    values = np.asarray(values, np.float32)
    times = (start + step * np.arange(values.shape[1])).astype(np.int64)
    return Batch(values, np.isfinite(values), times, step, ids or tuple(f"s{i}" for i in range(len(values))))


def rows(batch: Batch, order: list[int]) -> Batch:
    ids = tuple(batch.series_ids[i] for i in order)
    return Batch(batch.values[order], batch.mask[order], batch.timestamps, batch.step_ms, ids)


def cut(batch: Batch, a: int, b: int) -> Batch:
    return Batch(batch.values[:, a:b], batch.mask[:, a:b], batch.timestamps[a:b], batch.step_ms, batch.series_ids)


def sample(seed: int, series: int = 4, length: int = 600) -> Batch:
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * np.arange(length) / 48)[None] * rng.uniform(0, 3, (series, 1))
    values = (
        rng.uniform(-5, 100, (series, 1)) + wave + rng.normal(size=(series, length)) * rng.uniform(0.1, 2, (series, 1))
    )
    values[rng.random(values.shape) < 0.05] = np.nan
    return batch_of(values)


def same(a: Scores, b: Scores, tolerance: float = 2e-3) -> None:
    np.testing.assert_allclose(a.score, b.score, rtol=tolerance, atol=tolerance)
    scale = 1 + np.abs(b.expected)
    assert np.all(np.abs(a.expected - b.expected) <= tolerance * scale)


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_shapes_terms_and_band(self, name: str) -> None:
        batch = sample(1)
        detector = make(name)
        state = detector.fit(batch)
        scores = detector.score(state, batch)
        for part in (scores.score, scores.expected, scores.lower, scores.upper, *scores.terms.values()):
            assert part.shape == batch.values.shape
            assert part.dtype == np.float32
        assert scores.terms
        assert np.all(scores.lower <= scores.upper)
        assert np.array_equal(np.isfinite(scores.score), batch.mask)
        assert detector.family
        assert all(len(v) == len(batch) for v in state.arrays.values())
        assert sum(v.nbytes for v in state.arrays.values()) <= 4096 * len(batch)

    def test_a_spike_and_a_step_stand_out(self, name: str) -> None:
        batch = sample(2)
        values = batch.values.copy()
        values[0, 500] += 60
        values[1, 500:505] += 60
        broken = batch_of(values)
        detector = make(name)
        scores = detector.score(detector.fit(batch), broken).score
        quiet = np.nanquantile(scores[:, :480], 0.999, axis=1)
        assert scores[0, 500] > quiet[0]
        assert scores[1, 500] > quiet[1]

    def test_streaming_goes_on_where_the_fit_ended(self, name: str) -> None:
        batch = sample(3)
        detector = make(name)
        state = detector.fit(cut(batch, 0, 500))
        ticks = []
        for t in range(500, 600):
            state, scores = detector.update(state, cut(batch, t, t + 1))
            ticks.append(scores.score)
        streamed = np.concatenate(ticks, 1)
        assert np.array_equal(np.isfinite(streamed), batch.mask[:, 500:])
        first, *_ = ticks
        again, repeated = detector.update(detector.fit(cut(batch, 0, 500)), cut(batch, 500, 501))
        np.testing.assert_array_equal(first, repeated.score)
        assert again.series_ids == batch.series_ids
        whole = detector.score(detector.fit(cut(batch, 0, 500)), cut(batch, 300, 600)).score[:, 200:]
        np.testing.assert_allclose(streamed, whole, rtol=1e-3, atol=1e-3)

    def test_earlier_scores_do_not_change_when_later_points_arrive(self, name: str) -> None:
        batch = sample(4)
        detector = make(name)
        state = detector.fit(cut(batch, 0, 300))
        part, whole = detector.score(state, cut(batch, 0, 450)), detector.score(state, batch)
        np.testing.assert_allclose(part.score, whole.score[:, :450], rtol=1e-4, atol=1e-4)

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(seed=st.integers(0, 1000), order=st.permutations(list(range(4))), size=st.integers(1, 4))
    def test_scores_do_not_depend_on_order_or_company(self, name: str, seed: int, order: list[int], size: int) -> None:
        batch, detector = sample(seed, length=400), make(name)
        chosen = list(order)[:size]
        whole = detector.score(detector.fit(batch), batch)
        part_batch = rows(batch, chosen)
        part = detector.score(detector.fit(part_batch), part_batch)
        same(
            part,
            Scores(whole.score[chosen], whole.expected[chosen], whole.lower[chosen], whole.upper[chosen]),
        )

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        level=st.floats(-1e9, 1e9, width=32),
        length=st.integers(1, 80),
        fill=st.sampled_from(["constant", "nan", "one", "inf", "steps"]),
    )
    def test_odd_series_have_a_defined_score(self, name: str, level: float, length: int, fill: str) -> None:
        values = np.full((2, length), level)
        if fill == "nan":
            values[0] = np.nan
        if fill == "one":
            values[0, 1:] = np.nan
        if fill == "inf":
            values[0, ::3] = np.inf
        if fill == "steps":
            values[0, length // 2 :] = level + 1
        batch, detector = batch_of(values), make(name)
        state = detector.fit(batch)
        scores = detector.score(state, batch)
        assert np.array_equal(np.isfinite(scores.score), batch.mask & np.isfinite(batch.values))
        assert np.all(np.isfinite(scores.expected))
        if fill == "constant":
            assert np.all(np.abs(scores.score) <= 3.0)
        _, ticked = detector.update(state, batch_of(values[:, :1], start=length * STEP))
        assert np.array_equal(np.isfinite(ticked.score), np.isfinite(values[:, :1]))

    def test_a_move_on_a_flat_series_is_scored(self, name: str) -> None:
        detector = make(name)
        state = detector.fit(batch_of(np.full((1, 300), 50.0)))
        _, scores = detector.update(state, batch_of([[75.0]], start=300 * STEP))
        assert scores.score[0, 0] > 1.5

    def test_wrong_step_and_series_are_refused(self, name: str) -> None:
        batch, detector = sample(5), make(name)
        state = detector.fit(batch)
        with pytest.raises(ConfigError, match="step"):
            detector.update(state, batch_of(batch.values[:, :1], step=STEP * 2))
        with pytest.raises(InvalidInput):
            detector.score(state, rows(batch, [1, 0, 2, 3]))

    def test_state_survives_select_concat_and_the_artifact(self, name: str) -> None:
        batch, detector = sample(6), make(name)
        state = detector.fit(batch)
        ids = batch.series_ids
        joined: State = state.select(ids[:2]).concat(state.select(ids[2:]))
        again = artifacts.loads(artifacts.dumps(joined))
        np.testing.assert_array_equal(detector.score(again, batch).score, detector.score(state, batch).score)

    def test_large_offsets_keep_their_digits(self, name: str) -> None:
        rng = np.random.default_rng(7)
        small = rng.normal(0, 1000, (1, 500)).round(-1)
        detector = make(name, **({} if name in NO_FLOOR else {"relative_floor": 1e-9}))
        near, far = batch_of(small), batch_of(small + 2.0**23)
        a = detector.score(detector.fit(near), near).score
        b = detector.score(detector.fit(far), far).score
        if name not in NO_FLOOR:
            np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02)
        assert np.all(np.isfinite(b))

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cuda_gives_what_the_cpu_gives(self, name: str) -> None:
        batch = sample(8, series=32)
        cpu = make(name)
        gpu = cast(Detector[Any], build("detectors", name, {"device": "cuda"}, PluginContext(name)))
        same(gpu.score(gpu.fit(batch), batch), cpu.score(cpu.fit(batch), batch), 5e-3)


@pytest.mark.parametrize("name", BASELINES)
class TestBaselines:
    """Baselines keep the shape of the contract. They are not asked to find anything: comparing is what they are for."""

    def test_shapes_state_and_ticks(self, name: str) -> None:
        pytest.importorskip("sklearn")
        batch, detector = sample(9, series=2, length=150), make(name, windows=32)
        state = detector.fit(batch)
        scores = detector.score(state, batch)
        assert scores.score.shape == batch.values.shape
        assert np.array_equal(np.isfinite(scores.score), batch.mask)
        ids = batch.series_ids
        again = artifacts.loads(artifacts.dumps(state.select(ids[:1]).concat(state.select(ids[1:]))))
        np.testing.assert_array_equal(detector.score(again, batch).score, scores.score)
        early = detector.fit(cut(batch, 0, 140))
        after, ticked = detector.update(early, cut(batch, 140, 141))
        _, second = detector.update(after, cut(batch, 141, 142))
        whole = detector.score(early, cut(batch, 100, 150)).score
        np.testing.assert_allclose(ticked.score, whole[:, 40:41], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(second.score, whole[:, 41:42], rtol=1e-3, atol=1e-3)

    def test_flat_and_missing_series_have_a_score(self, name: str) -> None:
        pytest.importorskip("sklearn")
        values = np.full((2, 40), 7.0)
        values[1] = np.nan
        detector = make(name, windows=16)
        scores = detector.score(detector.fit(batch_of(values)), batch_of(values)).score
        assert np.isfinite(scores[0]).all()
        assert np.isnan(scores[1]).all()
