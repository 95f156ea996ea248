"""Every column round-trips bit for bit, and NumPy reads what Numba reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aiops.core.series import STALE_NAN
from aiops.store.telemetry.codec import CODECS, PLAIN, Codec, times_of_column, values_of_column


@pytest.fixture(scope="module")
def codec() -> Codec:
    compiled = CODECS.compiled(wait=True)
    assert compiled is not None
    return compiled


any_bits = st.integers(0, 2**64 - 1).map(lambda b: float(np.uint64(b).view(np.float64)))
decimal = st.tuples(st.integers(-(10**7), 10**7), st.integers(0, 6)).map(lambda p: p[0] / 10.0 ** p[1])
special = st.sampled_from(
    [0.0, -0.0, float("nan"), STALE_NAN, float("inf"), -float("inf"), 2.0**53, 2.0**53 + 2, 5e-324]
)
columns = st.lists(
    st.one_of(
        st.lists(any_bits, max_size=150),
        st.lists(st.one_of(decimal, special), max_size=150),
        st.lists(st.integers(0, 50), max_size=300).map(lambda d: np.cumsum(d).astype(float).tolist()),
        st.lists(st.integers(-3, 3), max_size=300).map(lambda d: (4096.0 * np.cumsum(d)).tolist()),
    ),
    max_size=5,
)
bits_of = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=150)
steady = st.tuples(st.integers(-(10**14), 10**14), st.integers(1, 10**6), st.lists(st.integers(-5, 5), max_size=150))


def offsets_of(parts: list[NDArray[np.float64]] | list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(p) for p in parts])]).astype(np.int64)


@settings(deadline=None)
@given(columns)
@example([[]])
@example([[float(np.uint64(0xFFF8000000000123).view(np.float64))] * 70])
@example([[0.1, 0.2, 0.1 + 0.2] * 50])
@example([[1e15 + 0.5, 2.5, -0.0, STALE_NAN]])
def test_values_round_trip(codec: Codec, lists: list[list[float]]) -> None:
    parts = [np.array(p, np.float64) for p in lists]
    offsets = offsets_of(parts)
    words, starts = codec.encode_values(offsets, np.concatenate([*parts, np.empty(0)]))
    counts = np.diff(offsets)
    out = np.full(int(offsets[-1]) + 1, 7.0)
    codec.decode_values(words, starts[:-1], counts, offsets[:-1], out)
    assert out[-1] == 7.0
    for part, start, a in zip(parts, starts.tolist(), offsets.tolist(), strict=False):
        assert out[a : a + len(part)].view(np.uint64).tolist() == part.view(np.uint64).tolist()
        assert values_of_column(words, start, len(part)).view(np.uint64).tolist() == part.view(np.uint64).tolist()


@settings(deadline=None)
@given(
    st.lists(st.one_of(bits_of.map(sorted), steady.map(lambda s: [s[0] + i * s[1] + d for i, d in enumerate(s[2])])))
)
@example([[-(2**63), 2**63 - 1] * 40])
def test_times_round_trip(codec: Codec, lists: list[list[int]]) -> None:
    parts = [np.array(p, np.int64) for p in lists]
    offsets = offsets_of(parts)
    words, starts = codec.encode_times(offsets, np.concatenate([*parts, np.empty(0, np.int64)]))
    out = np.zeros(int(offsets[-1]), np.int64)
    codec.decode_times(words, starts[:-1], np.diff(offsets), offsets[:-1], out)
    plain = np.zeros(int(offsets[-1]), np.int64)
    PLAIN.decode_times(words, starts[:-1], np.diff(offsets), offsets[:-1], plain)
    assert out.tolist() == plain.tolist() == np.concatenate([*parts, np.empty(0, np.int64)]).tolist()
    for part, start in zip(parts, starts.tolist(), strict=False):
        assert times_of_column(words, start, len(part)).tolist() == part.tolist()


def bytes_per_sample(codec: Codec, table: NDArray[Any]) -> float:
    words, _ = codec.encode_values(np.arange(len(table) + 1) * table.shape[1], table.ravel())
    return 8 * len(words) / table.size


def test_counters_and_gauges_take_few_bytes(codec: Codec) -> None:
    rng = np.random.default_rng(5)
    shape = (100, 480)
    assert bytes_per_sample(codec, np.cumsum(rng.integers(0, 50, shape), 1).astype(float)) < 1.0
    assert bytes_per_sample(codec, np.round(50 + np.cumsum(rng.normal(0, 0.5, shape), 1), 2)) < 1.3
    assert bytes_per_sample(codec, 4096.0 * rng.integers(100_000, 100_200, shape)) < 1.3
    assert bytes_per_sample(codec, np.ones(shape)) < 0.1
    assert bytes_per_sample(codec, rng.normal(0, 1, shape)) < 8.2


def test_equal_times_are_grouped(codec: Codec) -> None:
    ts = np.array([1, 2, 3, 1, 2, 3, 1, 2, 1, 2, 4, 1, 2], np.int64)
    starts, ends = np.array([0, 3, 6, 8, 11]), np.array([3, 6, 8, 11, 13])
    for own in (ts, ts.astype(np.int32)):
        group, sample = codec.equal_times(own, starts, ends)
        assert group[0] == group[1] and group[2] == group[4]
        assert len(set(group.tolist())) == 3
        assert [group[s] for s in sample.tolist()] == list(range(len(sample)))


@pytest.mark.parametrize("base", [0, 1000])
def test_pieces_are_copied_alike(codec: Codec, base: int) -> None:
    source, starts, counts, to = np.arange(20, dtype=np.int32), np.array([3, 10]), np.array([4, 0]), np.array([1, 5])
    ours, plain = np.zeros(6, np.int64), np.zeros(6, np.int64)
    codec.copy_times(source, base, starts, counts, to, ours)
    PLAIN.copy_times(source, base, starts, counts, to, plain)
    assert ours.tolist() == plain.tolist() == [0, base + 3, base + 4, base + 5, base + 6, 0]
    values, other = np.zeros(6), np.zeros(6)
    codec.copy_values(source.astype(float), starts, counts, to, values)
    PLAIN.copy_values(source.astype(float), starts, counts, to, other)
    assert values.tolist() == other.tolist()
