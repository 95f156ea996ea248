"""Remote read 1.0, responses of type SAMPLES
(https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/): requests read, answers written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cramjam
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from aiops.core.errors import InvalidInput
from aiops.core.series import Labels, Matcher, MatchOp, SampleBlock
from aiops.ingest.bodies import snappy
from aiops.ingest.messages import message_classes

OPS = (MatchOp.EQUAL, MatchOp.NOT_EQUAL, MatchOp.REGEX, MatchOp.NOT_REGEX)
SAMPLES = 0
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
        "Series": [("labels", 1, "*Label"), ("samples", 2, "*Sample")],
        "Sample": [("value", 1, "double"), ("timestamp", 2, "int64")],
        "Response": [("results", 1, "*Result")],
        "Result": [("timeseries", 1, "*bytes")],
    },
)
Request: Any = _classes["Request"]
Response: Any = _classes["Response"]
Series: Any = _classes["Series"]


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """One query: matchers and a window in ms, both ends in it."""

    matchers: tuple[Matcher, ...]
    start_ms: int
    end_ms: int


def decode(body: bytes, limit: int) -> list[ReadQuery]:
    """Queries of a snappy body.

    Raises:
        InvalidInput: a body that is no request, or one that wants only chunks.
        LimitExceeded: more bytes than the limit.
    """
    try:
        request = Request.FromString(snappy(body, limit))
    except DecodeError as error:
        raise InvalidInput("The body is not a remote-read request.") from error
    accepted = list(request.accepted_response_types)
    if accepted and SAMPLES not in accepted:
        raise InvalidInput("Only responses of the type SAMPLES are supported.")
    return [ReadQuery(tuple(_matcher(m) for m in query.matchers), query.start, query.end) for query in request.queries]


def _matcher(given: Any) -> Matcher:
    if not 0 <= given.type < len(OPS):
        raise InvalidInput(f"unknown matcher type {given.type}")
    return Matcher(given.name, OPS[given.type], given.value)


def encode(results: Sequence[SampleBlock]) -> bytes:
    """The snappy body of an answer: for each query its series, by labels. Staleness markers keep their bits."""
    message = Response()
    for block in results:
        message.results.add().timeseries.extend(_series(block))
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


def _series(block: SampleBlock) -> Iterable[bytes]:
    samples = encoded_samples(block.ts, block.values)
    offsets = block.offsets.tolist()
    for i in sorted(range(len(block)), key=lambda i: block.labels[i]):
        a, b = offsets[i], offsets[i + 1]
        if a == b:
            continue
        labels = _labels(block.labels[i])
        if samples is not None:
            yield labels + samples[a * SAMPLE_BYTES : b * SAMPLE_BYTES]
        else:
            series = Series.FromString(labels)
            for ts, value in zip(block.ts[a:b].tolist(), block.values[a:b].tolist(), strict=True):
                series.samples.add(timestamp=ts, value=value)
            yield bytes(series.SerializeToString())


def _labels(labels: Labels) -> bytes:
    series = Series()
    for name, value in labels:
        series.labels.add(name=name, value=value)
    return bytes(series.SerializeToString())


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
