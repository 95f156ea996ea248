from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.promql.label_hash import label_hash, xxh64


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_known_hashes(data: bytes, expected: int) -> None:
    assert xxh64(data) == expected


@given(st.binary(max_size=200))
def test_as_the_library_hashes(data: bytes) -> None:
    xxhash = pytest.importorskip("xxhash")
    assert xxh64(data) == xxhash.xxh64_intdigest(data)


def test_labels_in_a_row() -> None:
    assert label_hash((("a", "bc"), ("d", "x" * 300))) == xxh64(b"\x01a\x02bc\x01d\xff\x2c\x01\x00" + b"x" * 300)
    assert label_hash((("ab", "c"),)) != label_hash((("a", "bc"),))
