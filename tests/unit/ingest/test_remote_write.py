from __future__ import annotations

import struct

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.core.errors import InvalidInput, LimitExceeded
from aiops.core.series import STALE_BITS, Labels, MetricMetadata, labels_of
from aiops.ingest.bodies import Decoded, DecodeLimits, UnsupportedMedia
from aiops.ingest.remote_write import RemoteWriteDecoder, decode
from tests.unit.ingest.encode import chunk, label, metadata, sample, series, snappy, varint

TS = 1_790_000_000_000
UP = (("__name__", "up"), ("job", "a"))


def rows(decoded: Decoded) -> list[tuple[Labels, int, int]]:
    block = decoded.collected.samples
    return sorted(
        (labels, int(ts), int(bits))
        for i, labels in enumerate(block.labels)
        for ts, bits in zip(block.series(i)[0], block.series(i)[1].view(np.uint64), strict=True)
    )


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


words = st.one_of(
    st.floats().map(bits),
    st.sampled_from([0, STALE_BITS, 0x7FF8000000000001, 1 << 63, 0x7FF0000000000000]),
    st.integers(0, (1 << 64) - 1),
)
times = st.one_of(st.integers(TS - 10**9, TS + 10**9), st.integers(-(1 << 63), (1 << 63) - 1), st.just(0))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
label_sets = st.dictionaries(names, names, max_size=4).map(
    lambda d: tuple(sorted({**d, "__name__": "m"}.items(), key=lambda p: p[0].encode()))
)
all_series = st.lists(st.tuples(label_sets, st.lists(st.tuples(times, words), max_size=3)), max_size=6)


@given(st.lists(all_series, max_size=3))
def test_what_was_encoded_is_decoded_bit_for_bit(requests: list[list[tuple[Labels, list[tuple[int, int]]]]]) -> None:
    decoder = RemoteWriteDecoder()
    for _ in range(2):  # the second time label sets come from the cache
        for request in requests:
            body = snappy(b"".join(series(labels, samples) for labels, samples in request))
            got = decoder.decode(body, "snappy", "application/x-protobuf")
            assert got.rejected == 0
            wanted = sorted((labels_of(labels), ts, b) for labels, samples in request for ts, b in samples)
            assert rows(got) == wanted


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    for raw in (body, snappy(body)):
        try:
            decode(raw)
        except (InvalidInput, LimitExceeded):
            continue


@given(st.data())
def test_a_damaged_request_is_decoded_or_refused(data: st.DataObject) -> None:
    decoder = RemoteWriteDecoder()
    good = b"".join(series((("__name__", "m"), ("i", str(i))), [(TS, bits(1.5))]) for i in range(3))
    decoder.decode(snappy(good), "snappy", "application/x-protobuf")
    where, byte = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 255))
    bad = good[:where] + bytes([byte]) + good[where + 1 :]
    try:
        warm = decoder.decode(snappy(bad), "snappy", "application/x-protobuf")
    except InvalidInput:
        return
    cold = RemoteWriteDecoder().decode(snappy(bad), "snappy", "application/x-protobuf")
    assert rows(warm) == rows(cold), "the cache changes nothing"
    assert warm.rejected == cold.rejected


def test_a_sample_hidden_in_the_prefix_is_not_lost() -> None:
    decoder = RemoteWriteDecoder()
    body = snappy(series(UP, [(TS, bits(1.0)), (TS + 1, bits(2.0))]) + series(UP, [(TS + 2, bits(3.0))]))
    for _ in range(2):
        got = decoder.decode(body, "snappy", "application/x-protobuf")
        assert [r[1:] for r in rows(got)] == [(TS, bits(1.0)), (TS + 1, bits(2.0)), (TS + 2, bits(3.0))]


def test_exemplars_are_left_out_and_samples_in_any_order_kept() -> None:
    exemplar = chunk(3, b"\x11" + struct.pack("<d", 1.0))
    got = decode(snappy(series(UP, [(TS + 5, bits(2.0)), (TS, bits(1.0))], exemplar)))
    assert got.collected.samples.ts.tolist() == [TS, TS + 5]


def test_metadata_is_kept() -> None:
    got = decode(snappy(metadata(1, "http_requests_total", "Requests.", "") + metadata(99, "odd")))
    assert got.collected.metadata == (
        MetricMetadata("http_requests_total", "counter", "", "Requests."),
        MetricMetadata("odd", "unknown", "", ""),
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (series([("job", "a")], [(TS, 1)]), "no metric name"),
        (series([("__name__", ""), ("job", "a")], [(TS, 1)]), "no metric name"),
        (series([("job", "a"), ("__name__", "up")], [(TS, 1)]), "out of order"),
        (series([("__name__", "up"), ("a", "1"), ("a", "2")], [(TS, 1)]), "repeated"),
        (series([("", "x"), ("__name__", "up")], [(TS, 1)]), "empty label name"),
        (series([("__name__", b"\xff\xfe")], [(TS, 1)]), "UTF-8"),
        (chunk(1, b"\x0a\xff\xff\xff"), "protobuf"),
        (series([("__name__", "up"), ("a", "x" * 40_000)], [(TS, 1)]), "too long"),
        (series([("__name__", "up"), *((f"l{i:06d}", "x") for i in range(100_000))], [(TS, 1)]), "100001 labels"),
        (series([("__name__", "up")], [], chunk(4, b"\x08\x01")), "native histograms"),
    ],
)
def test_bad_series_are_named_and_the_others_kept(bad: bytes, message: str) -> None:
    good = series(UP, [(TS, bits(1.0))])
    for request in (good + bad, bad + good):
        got = decode(snappy(request))
        assert message in got.reason
        assert got.rejected == 1
        assert rows(got) == [(UP, TS, bits(1.0))]
        assert len(got.reason) < 600


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80",
        snappy(series(UP, [(TS, 1)]))[:-3],
        b"not snappy at all",
        snappy(b"\x0a\xff\xff\xff\xff\x0fx"),
        snappy(b"\xff"),
    ],
)
def test_damaged_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode(body)


def test_a_declared_gigabyte_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(LimitExceeded) as caught:
        decode(varint(1 << 30) + b"\x00a")
    assert caught.value.kind == "size"
    with pytest.raises(LimitExceeded):
        decode(bytes(cramjam.snappy.compress_raw(bytes(2000))), limits=DecodeLimits(max_bytes=1000))


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [
        ("snappy", "application/json"),
        ("snappy", ""),
        ("gzip", "application/x-protobuf"),
        ("snappy", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ],
)
def test_other_types_are_unsupported(encoding: str, kind: str) -> None:
    with pytest.raises(UnsupportedMedia):
        decode(snappy(b""), encoding, kind)


def test_the_type_may_name_version_one() -> None:
    assert decode(snappy(b""), "Snappy", "application/x-protobuf; proto=prometheus.WriteRequest").rejected == 0


def test_an_empty_label_value_is_no_label() -> None:
    got = decode(snappy(chunk(1, label("__name__", "up") + label("a", "") + sample(TS, 0, omit_zero=False))))
    assert rows(got) == [((("__name__", "up"),), TS, 0)]
