"""Remote read (https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/): requests read, answers written.

Both types of answers are there: SAMPLES, one message, and STREAMED_XOR_CHUNKS, a frame a series in Prometheus' own
chunks, which takes a tenth of the bytes and of the reader's memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cramjam
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from aiops.core.errors import InvalidInput
from aiops.core.ports import OpenScan
from aiops.core.series import Labels, Matcher, MatchOp, NativeHistogram, SampleBlock
from aiops.ingest.bodies import snappy
from aiops.ingest.messages import message_classes

OPS = (MatchOp.EQUAL, MatchOp.NOT_EQUAL, MatchOp.REGEX, MatchOp.NOT_REGEX)
SAMPLES, STREAMED_XOR_CHUNKS = 0, 1
STREAMED = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
FRAME_BYTES = 1 << 20
"""Chunks beyond this go into another frame of the same series, as with a Prometheus."""
PART = 512
"""Series that are unpacked at a time."""
XOR = 1
SAMPLE_BYTES = 18
"""A sample with a six-byte time, and the two bytes before it: 12 10, 09 <double>, 10 <varint>."""
SIX_BYTES = 1 << 35, (1 << 42) - 1
"""Times (ms) whose varint has six bytes: 1971 to 2109."""

_classes = message_classes(
    "aiops.read",
    {
        "Request": [("queries", 1, "*Query"), ("accepted_response_types", 2, "*int32")],
        "Query": [("start", 1, "int64"), ("end", 2, "int64"), ("matchers", 3, "*Matcher")],
        "Matcher": [("type", 1, "int32"), ("name", 2, "string"), ("value", 3, "string")],
        "Label": [("name", 1, "string"), ("value", 2, "string")],
        "Series": [("labels", 1, "*Label"), ("samples", 2, "*Sample"), ("histograms", 4, "*bytes")],
        "Sample": [("value", 1, "double"), ("timestamp", 2, "int64")],
        "Response": [("results", 1, "*Result")],
        "Result": [("timeseries", 1, "*bytes")],
        "ChunkedResponse": [("chunked_series", 1, "*ChunkedSeries"), ("query_index", 2, "int64")],
        "ChunkedSeries": [("labels", 1, "*Label"), ("chunks", 2, "*Chunk")],
        "Chunk": [("min_time_ms", 1, "int64"), ("max_time_ms", 2, "int64"), ("type", 3, "int32"), ("data", 4, "bytes")],
    },
)
Request: Any = _classes["Request"]
Response: Any = _classes["Response"]
Series: Any = _classes["Series"]
ChunkedResponse: Any = _classes["ChunkedResponse"]


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """One query: matchers and a window in ms, both ends in it."""

    matchers: tuple[Matcher, ...]
    start_ms: int
    end_ms: int


def decode(body: bytes, limit: int) -> tuple[list[ReadQuery], tuple[int, ...]]:
    """Queries of a snappy body, and the types of answers that the reader takes, best first.

    Raises:
        InvalidInput: a body that is no request, or one that takes no type that there is.
        LimitExceeded: more bytes than the limit.
    """
    try:
        request = Request.FromString(snappy(body, limit))
    except DecodeError as error:
        raise InvalidInput("The body is not a remote-read request.") from error
    accepted = tuple(t for t in request.accepted_response_types if t in (SAMPLES, STREAMED_XOR_CHUNKS))
    if request.accepted_response_types and not accepted:
        raise InvalidInput("The types of responses are SAMPLES (0) and STREAMED_XOR_CHUNKS (1).")
    queries = [ReadQuery(tuple(_matcher(m) for m in q.matchers), q.start, q.end) for q in request.queries]
    return queries, accepted or (SAMPLES,)


def _matcher(given: Any) -> Matcher:
    if not 0 <= given.type < len(OPS):
        raise InvalidInput(f"unknown matcher type {given.type}")
    return Matcher(given.name, OPS[given.type], given.value)


def encode(results: Sequence[tuple[SampleBlock, Sequence[NativeHistogram]]]) -> bytes:
    """The snappy body of an answer: for each query its series, by labels. Values keep every bit."""
    message = Response()
    for block, histograms in results:
        message.results.add().timeseries.extend(_series(block, histograms))
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


def _series(block: SampleBlock, histograms: Sequence[NativeHistogram]) -> Iterable[bytes]:
    rows = {labels: i for i, labels in enumerate(block.labels)}
    native: dict[Labels, list[bytes]] = {}
    for one in histograms:
        native.setdefault(one.series, []).append(one.payload)
    samples = encoded_samples(block.ts, block.values)
    offsets = block.offsets.tolist()
    for labels in sorted({*rows, *native}):
        row = rows.get(labels)
        a, b = (offsets[row], offsets[row + 1]) if row is not None else (0, 0)
        if a == b and labels not in native:
            continue
        series = Series(histograms=native.get(labels, ()))
        _add_labels(series, labels)
        if samples is None:
            for ts, value in zip(block.ts[a:b].tolist(), block.values[a:b].tolist(), strict=True):
                series.samples.add(timestamp=ts, value=value)
        # Fields may come in any order, and those that repeat in several places.
        wire = bytes(series.SerializeToString())
        yield wire if samples is None else wire + samples[a * SAMPLE_BYTES : b * SAMPLE_BYTES]


def chunked(scans: Sequence[tuple[OpenScan, ReadQuery]]) -> Iterator[bytes]:
    """The frames of an answer, for each query its series, by labels.

    All is packed before the first frame goes out, so that what fails does so with an error for an answer.
    """
    packed = [_packed(scan, query) for scan, query in scans]
    return (
        frame
        for index, series in enumerate(packed)
        for labels, chunks in sorted(series)
        for frame in _frames(labels, chunks, index)
    )


_Chunk = tuple[int, int, bytes]
"""First and last time (ms) and data."""


def _packed(scan: OpenScan, query: ReadQuery) -> list[tuple[Labels, list[_Chunk]]]:
    from aiops.api import xor_chunks

    found = []
    for first in range(0, len(scan.labels), PART):
        part = scan.part(first, min(first + PART, len(scan.labels)))
        ts = part.times()
        inside = (ts >= query.start_ms) & (ts <= query.end_ms)
        kept = np.concatenate([[0], np.cumsum(inside)]).astype(np.int64)
        offsets, ts, values = kept[part.offsets], ts[inside], part.values[inside]
        counts = -(-np.diff(offsets) // xor_chunks.CHUNK_SAMPLES)
        row = np.repeat(np.arange(len(counts)), counts)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = offsets[row] + nth * xor_chunks.CHUNK_SAMPLES
        ends = np.minimum(starts + xor_chunks.CHUNK_SAMPLES, offsets[row + 1])
        data = xor_chunks.encode(ts, values, starts, ends)
        chunks = list(zip(ts[starts].tolist(), ts[ends - 1].tolist(), data, strict=True))
        at = np.concatenate([[0], np.cumsum(counts)]).tolist()
        found += [(scan.labels[first + i], chunks[at[i] : at[i + 1]]) for i in range(len(counts)) if counts[i]]
    return found


def _frames(labels: Labels, chunks: Sequence[_Chunk], index: int) -> Iterator[bytes]:
    from aiops.api.xor_chunks import castagnoli

    at = 0
    while at < len(chunks):
        message = ChunkedResponse(query_index=index)
        series = message.chunked_series.add()
        _add_labels(series, labels)
        size = 0
        while at < len(chunks) and size < FRAME_BYTES:
            low, high, data = chunks[at]
            series.chunks.add(min_time_ms=low, max_time_ms=high, type=XOR, data=data)
            size += len(data)
            at += 1
        body = bytes(message.SerializeToString())
        yield _varint(len(body)) + struct.pack(">I", castagnoli(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _add_labels(message: Any, labels: Labels) -> None:
    for name, value in labels:
        message.labels.add(name=name, value=value)


def encoded_samples(ts: NDArray[np.int64], values: NDArray[np.float64]) -> bytes | None:
    """All samples on the wire, :data:`SAMPLE_BYTES` each; ``None`` where a time needs another width."""
    if len(ts) and not (int(ts.min()) >= SIX_BYTES[0] and int(ts.max()) <= SIX_BYTES[1]):
        return None
    rows = np.empty((len(ts), SAMPLE_BYTES), np.uint8)
    rows[:, :3] = (0x12, SAMPLE_BYTES - 2, 0x09)
    rows[:, 3:11] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
    rows[:, 11] = 0x10
    for i in range(6):
        rows[:, 12 + i] = (ts >> (7 * i)) & 0x7F | (0x80 if i < 5 else 0)
    return rows.tobytes()
