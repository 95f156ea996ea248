from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from aiops.core.anomaly import State
from aiops.core.errors import InvalidInput
from aiops.models.artifacts import FORMAT, dumps, loads


@given(st.lists(st.text(max_size=20), unique=True, max_size=5), st.integers(1, 10**9))
def test_round_trip(ids: list[str], step: int) -> None:
    arrays = {"x": np.arange(len(ids) * 3, dtype=np.float32).reshape(len(ids), 3), "seen": np.ones(len(ids), bool)}
    again = loads(dumps(State(tuple(ids), step, arrays)))
    assert again.series_ids == tuple(ids)
    assert again.step_ms == step
    for name, value in arrays.items():
        np.testing.assert_array_equal(again.arrays[name], value)


@given(st.binary(max_size=200))
def test_garbage_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        loads(data)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_never_crashes(place: int, value: int) -> None:
    data = bytearray(dumps(State(("a",), 1000, {"x": np.zeros((1, 4), np.float32)})))
    data[place % len(data)] = value
    try:
        loads(bytes(data))
    except InvalidInput:
        return


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"format": "x", "step_ms": "1", "series_ids": '["a"]'},
        {"format": FORMAT, "step_ms": "0", "series_ids": '["a"]'},
        {"format": FORMAT, "step_ms": "1", "series_ids": '["a", "a"]'},
        {"format": FORMAT, "step_ms": "1", "series_ids": "{}"},
        {"format": FORMAT, "step_ms": "1", "series_ids": '["a", "b"]'},
    ],
)
def test_wrong_metadata_is_refused(meta: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        loads(save({"s.x": np.zeros((1, 2), np.float32)}, meta))


def test_equal_states_are_equal_files() -> None:
    state = State(("a", "b"), 1000, {"x": np.zeros((2, 3), np.float32), "y": np.ones(2, np.int64)}, {"g": np.zeros(3)})
    assert {dumps(state) for _ in range(20)} == {dumps(loads(dumps(state)))}
