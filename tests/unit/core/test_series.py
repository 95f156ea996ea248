"""Label sets and sample blocks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aiops.core.anomaly import State
from aiops.core.incident import fingerprint
from aiops.core.series import STALE_NAN, SampleBlock, is_stale, labels_of


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=6))
def test_labels_are_sorted_unique_and_without_empty_values(pairs):
    labels = labels_of(pairs)
    assert list(labels) == sorted(labels)
    assert dict(labels) == {k: v for k, v in pairs.items() if v}
    assert labels_of(labels) == labels


def test_staleness_is_told_from_nan():
    assert is_stale(np.array([STALE_NAN, np.nan, 1.0])).tolist() == [True, False, False]


def test_a_block_gives_back_the_series_it_was_built_from():
    a, b = labels_of({"__name__": "a"}), labels_of({"__name__": "b"})
    block = SampleBlock.build([(a, [1, 2], [1.0, np.nan]), (b, [5], [STALE_NAN])])
    assert len(block) == 2
    assert block.sample_count == 3
    ts, values = block.series(1)
    assert ts.tolist() == [5]
    assert is_stale(values).all()


def test_fingerprints_do_not_run_pairs_together():
    assert fingerprint((("a", "b"), ("c", "d"))) != fingerprint((("a", "b\xffc\xfed"),))


def test_states_select_and_concat_by_series():
    old = State(("a", "b"), 60_000, {"m": np.array([1.0, 2.0])})
    new = State(("b", "c"), 60_000, {"m": np.array([20.0, 3.0])})
    both = old.concat(new)
    assert both.series_ids == ("a", "b", "c")
    assert both.select(["c", "b"]).arrays["m"].tolist() == [3.0, 20.0]
