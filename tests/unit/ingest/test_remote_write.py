from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import dataclass

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.errors import InvalidInput, LimitExceeded
from aiops.core.series import STALE_BITS, Exemplar, Labels, MetricMetadata, NativeHistogram, labels_of
from aiops.ingest.bodies import DecodeLimits, UnsupportedMedia
from aiops.ingest.series_table import SeriesTable
from aiops.ingest.write_body import WriteBody, WriteReceiver
from aiops.store.telemetry.labels import SeriesIndex
from tests.unit.ingest.encode import chunk, label, metadata, sample, series, snappy, varint

TS = 1_790_000_000_000
UP = (("__name__", "up"), ("job", "a"))
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
EXEMPLAR = chunk(3, label("trace_id", "abc") + b"\x11" + struct.pack("<d", 1.0) + b"\x18" + varint(TS))


@dataclass
class Got:
    """What a body gave, with label sets in place of numbers."""

    body: WriteBody
    rows: list[tuple[Labels, int, int]]


class Reader:
    """A receiver with an index of its own; ``fast`` reads by the compiled kernels."""

    def __init__(self, fast: bool = True, limits: DecodeLimits | None = None) -> None:
        self.receiver = WriteReceiver(limits)
        if fast:
            self.receiver.table.warm(wait=True)
            assert self.receiver.table.ready
        self.index = SeriesIndex()

    def __call__(self, raw: bytes, encoding: str = "snappy", kind: str = "application/x-protobuf") -> Got:
        fast = self.receiver.table.ready
        if not fast:
            self.receiver.table.warm = lambda *, wait=False: None  # type: ignore[method-assign]
        body = self.receiver.open(raw, kind, encoding)
        got = body.rows(self.index)
        found = zip(got.sid.tolist(), got.ts.tolist(), got.values.view(np.uint64).tolist(), strict=True)
        return Got(body, sorted((self.index.labels[sid], ts, word) for sid, ts, word in found))


def decode(raw: bytes) -> Got:
    return Reader(fast=False)(raw)


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


@settings(deadline=None)
@given(st.lists(all_series, max_size=3))
def test_what_was_encoded_is_decoded_bit_for_bit(requests: list[list[tuple[Labels, list[tuple[int, int]]]]]) -> None:
    fast, exact = Reader(), Reader(fast=False)
    for _ in range(2):  # the second time the table knows the series
        for request in requests:
            body = snappy(b"".join(series(labels, samples) for labels, samples in request))
            wanted = sorted((labels_of(labels), ts, b) for labels, samples in request for ts, b in samples)
            for reader in (fast, exact):
                got = reader(body)
                assert got.body.rejections.count == 0
                assert got.rows == wanted


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    reader = Reader()
    for raw in (body, snappy(body)):
        for kind in ("application/x-protobuf", V2):
            try:
                reader(raw, kind=kind)
            except (InvalidInput, LimitExceeded):
                continue


damage = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3)


@settings(deadline=None, max_examples=300)
@given(damage, all_series, st.booleans())
def test_a_damaged_request_is_read_alike_whatever_is_known(
    damage: list[tuple[int, int]], request: list[tuple[Labels, list[tuple[int, int]]]], met: bool
) -> None:
    good = b"".join(series(labels, samples) for labels, samples in request)
    good += b"".join(series((("__name__", "m"), ("i", str(i))), [(TS, bits(1.5))]) for i in range(3))
    good += metadata(1, "m", "help") + series(UP, [(TS, bits(1.0))], EXEMPLAR)
    bad = bytearray(good)
    for where, byte in damage:
        bad[where % len(bad)] = byte
    fast, exact = Reader(), Reader(fast=False)
    if met:
        fast(snappy(good))
    try:
        wanted = exact(snappy(bytes(bad)))
    except InvalidInput:
        with pytest.raises(InvalidInput):
            fast(snappy(bytes(bad)))
        return
    got = fast(snappy(bytes(bad)))
    assert got.rows == wanted.rows
    assert got.body.rejections.count == wanted.body.rejections.count
    assert got.body.written.metadata == wanted.body.written.metadata
    assert repr(got.body.written.exemplars) == repr(wanted.body.written.exemplars)


def test_a_sample_hidden_in_the_prefix_is_not_lost() -> None:
    reader = Reader()
    body = snappy(series(UP, [(TS, bits(1.0)), (TS + 1, bits(2.0))]) + series(UP, [(TS + 2, bits(3.0))]))
    for _ in range(2):
        assert [r[1:] for r in reader(body).rows] == [(TS, bits(1.0)), (TS + 1, bits(2.0)), (TS + 2, bits(3.0))]


def test_a_thousand_series_in_any_order_keep_apart() -> None:
    """More than the table holds at first, so that it grows, and keys that differ in one byte."""
    reader = Reader()
    order = np.random.default_rng(3)
    sets = [(("__name__", "m"), ("i", str(i)), ("job", f"job-{i % 7}")) for i in range(20_000)]
    for scrape in range(3):
        picked = order.permutation(len(sets)).tolist()
        body = snappy(b"".join(series(sets[i], [(TS + scrape, i)]) for i in picked))
        assert reader(body).rows == sorted((sets[i], TS + scrape, i) for i in picked)
    assert len(reader.index) == len(sets)


def test_a_table_above_its_budget_begins_again() -> None:
    reader = Reader()
    reader.receiver.table = SeriesTable(budget=5000)
    reader.receiver.table.warm(wait=True)
    for turn in range(3):
        for i in range(200):
            labels = (("__name__", "m"), ("i", f"{i:040}"))
            assert reader(snappy(series(labels, [(TS + turn, i)]))).rows == [(labels, TS + turn, i)]


def test_exemplars_and_samples_in_any_order_are_kept() -> None:
    for reader in (Reader(), Reader(fast=False)):
        for _ in range(2):
            got = reader(snappy(series(UP, [(TS + 5, bits(2.0)), (TS, bits(1.0))], EXEMPLAR)))
            assert [ts for _, ts, _ in got.rows] == [TS, TS + 5]
            assert got.body.written.exemplars == [Exemplar(UP, (("trace_id", "abc"),), 1.0, TS)]


def test_a_native_histogram_is_kept_byte_for_byte() -> None:
    payload = b"\x08\x01\x20\x03" + b"\x78" + varint(TS)
    got = decode(snappy(series(UP, [], chunk(4, payload))))
    assert got.rows == []
    assert got.body.written.histograms == [NativeHistogram(UP, TS, payload)]
    assert len(Reader().index) == 0, "a series without samples gets no number"


def test_metadata_is_kept() -> None:
    got = decode(snappy(metadata(1, "http_requests_total", "Requests.", "") + metadata(99, "odd")))
    assert tuple(got.body.written.metadata) == (
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
        (series([("__name__", "up")], [], chunk(4, b"\x08")), "native histogram"),
    ],
)
def test_bad_series_are_named_and_the_others_kept(bad: bytes, message: str) -> None:
    good = series(UP, [(TS, bits(1.0))])
    for reader in (Reader(), Reader(fast=False)):
        for request in (good + bad, bad + good):
            got = reader(snappy(request))
            assert message in got.body.rejections.text
            assert got.body.rejections.count == 1
            assert got.rows == [(UP, TS, bits(1.0))]
            assert len(got.body.rejections.text) < 600


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
        Reader(limits=DecodeLimits(max_bytes=1000))(bytes(cramjam.snappy.compress_raw(bytes(2000))))


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [
        ("snappy", "application/json"),
        ("snappy", ""),
        ("br", "application/x-protobuf"),
        ("", "application/x-protobuf"),
        ("snappy", "application/x-protobuf;proto=io.prometheus.write.v3.Request"),
    ],
)
def test_other_types_are_unsupported(encoding: str, kind: str) -> None:
    with pytest.raises(UnsupportedMedia):
        WriteReceiver().open(snappy(b""), kind, encoding)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("Snappy", snappy), ("gzip", gzip.compress), ("zstd", lambda b: bytes(cramjam.zstd.compress(b)))],
)
def test_the_type_may_name_version_one_and_bodies_may_be_packed_otherwise(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    got = Reader()(
        pack(series(UP, [(TS, bits(1.0))])), encoding, "application/x-protobuf; proto=prometheus.WriteRequest"
    )
    assert got.rows == [(UP, TS, bits(1.0))]


def test_an_empty_label_value_is_no_label() -> None:
    got = decode(snappy(chunk(1, label("__name__", "up") + label("a", "") + sample(TS, 0, omit_zero=False))))
    assert got.rows == [((("__name__", "up"),), TS, 0)]
