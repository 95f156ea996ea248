"""State that stays on the device."""

from __future__ import annotations

import gc
from typing import Any, cast

import numpy as np
import pytest
import torch

from aiops.core.anomaly import Batch
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from detectors.support.resident import RESIDENTS, Residents, back, there

STEP = 60_000


def test_an_array_is_sent_once_and_forgotten_with_its_owner() -> None:
    held, sent = Residents(), []

    def get(values: np.ndarray) -> torch.Tensor:
        def send() -> torch.Tensor:
            sent.append(1)
            return torch.from_numpy(values.copy())

        return held.get(values, "cuda:0", send)

    one, twin = np.arange(3.0), np.arange(3.0)
    first = get(one)
    assert get(one) is first
    assert get(twin) is not first
    assert len(sent) == len(held) == 2
    assert held.get(one, "cuda:1", lambda: torch.zeros(3)) is not first
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 9
    del one, twin, first
    gc.collect()
    assert len(held) == 0


def test_what_comes_back_is_found_there_again() -> None:
    held, tensor, values = Residents(), torch.ones(4), np.ones(4, np.float32)
    held.keep(values, "cuda:0", tensor)
    assert held.get(values, "cuda:0", lambda: pytest.fail("sent again")) is tensor


def test_on_the_cpu_memory_is_shared_and_nothing_is_held() -> None:
    values = np.arange(4, dtype=np.float32)
    tensor = there(values, torch.device("cpu"))
    assert tensor.data_ptr() == values.ctypes.data
    assert back(tensor).ctypes.data == values.ctypes.data
    values[0] = 7
    assert len(RESIDENTS) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["fusion", "ridge_ar", "seasonal_residual", "window_bank", "window_covariance"])
def test_ticks_on_cuda_send_no_state_and_give_what_the_cpu_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(10, 1, (64, 520)).astype(np.float32)
    ids = tuple(f"s{i}" for i in range(64))

    def cut(a: int, b: int) -> Batch:
        part = values[:, a:b]
        return Batch(part, np.isfinite(part), STEP * np.arange(a, b, dtype=np.int64), STEP, ids)

    def made(device: str) -> Detector[Any]:
        return cast(Detector[Any], build("detectors", name, {"device": device}, PluginContext("test")))

    cpu, cuda = made("cpu"), made("cuda")
    here, away = cpu.fit(cut(0, 500)), cuda.fit(cut(0, 500))
    away, _ = cuda.update(away, cut(500, 501))
    here, _ = cpu.update(here, cut(500, 501))

    def sent(*_: Any) -> torch.Tensor:
        raise AssertionError("a part of the state was sent again")

    monkeypatch.setattr("detectors.support.resident.to_tensor", sent)
    for step in range(501, 520):
        away, far = cuda.update(away, cut(step, step + 1))
        monkeypatch.undo()
        here, near = cpu.update(here, cut(step, step + 1))
        monkeypatch.setattr("detectors.support.resident.to_tensor", sent)
        np.testing.assert_allclose(far.score, near.score, rtol=5e-3, atol=5e-3)
