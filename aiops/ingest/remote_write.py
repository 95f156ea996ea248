"""Prometheus remote write 1.0 (https://prometheus.io/docs/specs/prw/remote_write_spec/).

A scrape sends the same label sets again and again with one sample each. So the request is split into series as
bytes, the bytes before the sample are the key to a cache of label sets, and the samples, all of one width, are
read with NumPy. Whatever does not look like that is decoded in full.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import compress

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from aiops.core.errors import InvalidInput
from aiops.core.ports import Collected
from aiops.core.series import METRIC_NAME, Labels, MetricMetadata, SampleBlock
from aiops.core.untrusted import Untrusted
from aiops.ingest.bodies import Decoded, DecodeLimits, Rejections, UnsupportedMedia, media_type, snappy
from aiops.ingest.wire import Metadata, OuterRequest, TimeSeries

TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
CACHE_BYTES = 256 * 1024 * 1024
VALUE_TAIL = 18
"""Bytes of a sample with a value and a six-byte timestamp (1971 to 2109): 12 10, 09 <double>, 10 <varint>."""
ZERO_TAIL = 9
"""Bytes of a sample whose value is zero, which is left out: 12 07, 10 <varint>."""


class RemoteWriteDecoder:
    """Decodes requests; keeps the label sets it has seen. Safe to use from several threads."""

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self.limits = limits or DecodeLimits()
        self._known: dict[bytes, Labels] = {}
        self._known_bytes = 0
        self._lock = threading.Lock()

    def decode(self, body: bytes, content_encoding: str, content_type: str) -> Decoded:
        """A request body as it came.

        Series that are not valid are left out, counted and named in the reason.

        Raises:
            UnsupportedMedia: not remote write 1.0 in snappy.
            InvalidInput: a body that is not whole snappy or not protobuf.
            LimitExceeded: a declared length above the limit.
        """
        kind, parameters = media_type(content_type)
        if kind != "application/x-protobuf":
            raise UnsupportedMedia(
                f"The content type '{Untrusted(kind).display(80)}' is not supported.",
                hint="Remote write sends application/x-protobuf.",
            )
        if parameters.get("proto", "prometheus.WriteRequest") != "prometheus.WriteRequest":
            raise UnsupportedMedia("Only remote write 1.0 (prometheus.WriteRequest) is supported.")
        if content_encoding.strip().lower() != "snappy":
            raise UnsupportedMedia("Remote write bodies are compressed with snappy.")
        plain = snappy(body, self.limits.max_bytes)
        try:
            outer = OuterRequest.FromString(plain)
        except DecodeError as error:
            raise InvalidInput("The body is not a remote-write request.") from error
        rejections = Rejections()
        samples = self._samples(list(outer.timeseries), rejections)
        metadata = _metadata(outer.metadata, rejections)
        return Decoded(Collected(samples, metadata), rejections.count, rejections.text)

    def _samples(self, series: list[bytes], rejections: Rejections) -> SampleBlock:
        parts: list[SampleBlock] = []
        for tail in (VALUE_TAIL, ZERO_TAIL):
            block, series = self._fast(series, tail)
            parts.append(block)
        walked: list[tuple[Labels, NDArray[np.int64], NDArray[np.float64]]] = []
        for item in series:
            try:
                got = self._walk(item)
            except InvalidInput as error:
                rejections.add(error.message)
            else:
                if got is not None:
                    walked.append(got)
        parts.append(SampleBlock.build(walked))
        return _joined([part for part in parts if len(part)])

    def _fast(self, series: list[bytes], tail: int) -> tuple[SampleBlock, list[bytes]]:
        """Series known by their prefix with one sample of ``tail`` bytes, and the others."""
        labels = list(map(self._known.get, [item[:-tail] for item in series]))
        known = np.array([found is not None for found in labels], np.bool_)
        if not known.any():
            return SampleBlock.empty(), series
        ends = np.frombuffer(b"".join([item[-tail:].rjust(tail, b"\0") for item in series]), np.uint8)
        ends = ends.reshape(-1, tail)
        fits = known & _is_sample(ends, tail)
        ends = ends[fits]
        values = np.zeros(len(ends)) if tail == ZERO_TAIL else ends[:, 3:11].copy().view("<f8")[:, 0]
        picked = tuple(found for found in compress(labels, fits) if found is not None)
        block = SampleBlock(picked, np.arange(len(picked) + 1, dtype=np.int64), _varints(ends[:, -6:]), values)
        return block, list(compress(series, ~fits))

    def _walk(self, item: bytes) -> tuple[Labels, NDArray[np.int64], NDArray[np.float64]] | None:
        try:
            series = TimeSeries.FromString(item)
        except DecodeError as error:
            raise InvalidInput("a series is not valid protobuf or UTF-8") from error
        labels = check_labels([(label.name, label.value) for label in series.labels], self.limits)
        if series.histograms:
            raise InvalidInput(f"native histograms are not supported ({_shown(labels)})")
        if not series.samples:
            return None
        self._learn(item, labels, len(series.labels), len(series.samples))
        ts = np.array([sample.timestamp for sample in series.samples], np.int64)
        values = np.array([sample.value for sample in series.samples], np.float64)
        if bool(np.any(ts[1:] < ts[:-1])):
            order = np.argsort(ts, kind="stable")
            ts, values = ts[order], values[order]
        return labels, ts, values

    def _learn(self, item: bytes, labels: Labels, label_count: int, sample_count: int) -> None:
        """Remember the bytes before the one sample, provided that they hold all labels and nothing else."""
        if sample_count != 1:
            return
        for tail in (VALUE_TAIL, ZERO_TAIL):
            if len(item) <= tail or not _is_sample(np.frombuffer(item[-tail:], np.uint8).reshape(1, tail), tail)[0]:
                continue
            prefix = item[:-tail]
            try:
                head = TimeSeries.FromString(prefix)
            except DecodeError:
                continue
            if len(head.labels) == label_count and not (head.samples or head.exemplars or head.histograms):
                with self._lock:
                    if self._known_bytes > CACHE_BYTES:
                        self._known.clear()
                        self._known_bytes = 0
                    self._known[prefix] = labels
                    self._known_bytes += 4 * len(prefix) + 500
                return


_shared = RemoteWriteDecoder()


def decode(
    body: bytes, content_encoding: str = "snappy", content_type: str = "application/x-protobuf",
    limits: DecodeLimits | None = None,
) -> Decoded:  # fmt: skip
    """Decode one body; see :meth:`RemoteWriteDecoder.decode`."""
    decoder = _shared if limits is None else RemoteWriteDecoder(limits)
    return decoder.decode(body, content_encoding, content_type)


def check_labels(pairs: Sequence[tuple[str, str]], limits: DecodeLimits) -> Labels:
    """Labels as the specification wants them: sorted, unique, with a metric name. Raises ``InvalidInput``."""
    if len(pairs) > limits.max_labels:
        raise InvalidInput(f"a series has {len(pairs)} labels, more than {limits.max_labels}")
    labels = tuple((name, value) for name, value in pairs if value)
    before = ""
    for name, value in pairs:
        if name <= before:
            what = "an empty label name" if not name else f"labels repeated or out of order at '{_safe(name)}'"
            raise InvalidInput(f"a series has {what} ({_shown(labels)})")
        if len(name) > limits.max_label_name_bytes or len(value) > limits.max_label_value_bytes:
            raise InvalidInput(f"the label '{_safe(name)}' is too long ({_shown(labels)})")
        before = name
    if not any(name == METRIC_NAME for name, _ in labels):
        raise InvalidInput(f"a series has no metric name ({_shown(labels)})")
    return labels


def _safe(text: str) -> str:
    return Untrusted(text).display(60)


def _shown(labels: Labels) -> str:
    return Untrusted("{" + ", ".join(f'{k}="{v}"' for k, v in labels[:20]) + "}").display(200)


def _is_sample(ends: NDArray[np.uint8], tail: int) -> NDArray[np.bool_]:
    """Whether each row is one sample of that width: tags, lengths and a canonical six-byte varint."""
    good = (ends[:, 0] == 0x12) & (ends[:, 1] == tail - 2) & (ends[:, -7] == 0x10)
    good &= np.all(ends[:, -6:-1] >= 0x80, axis=1) & (ends[:, -1] < 0x80)
    if tail == VALUE_TAIL:
        good &= ends[:, 2] == 0x09
    return np.asarray(good)


def _varints(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    total = np.zeros(len(rows), np.int64)
    for i in range(rows.shape[1]):
        total |= (rows[:, i].astype(np.int64) & 0x7F) << (7 * i)
    return total


def _joined(parts: list[SampleBlock]) -> SampleBlock:
    if len(parts) <= 1:
        return parts[0] if parts else SampleBlock.empty()
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return SampleBlock(
        tuple(labels for part in parts for labels in part.labels),
        offsets,
        np.concatenate([part.ts for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def _metadata(items: Sequence[bytes], rejections: Rejections) -> tuple[MetricMetadata, ...]:
    found = []
    for item in items:
        try:
            m = Metadata.FromString(item)
        except DecodeError:
            rejections.add("metadata is not valid protobuf or UTF-8")
            continue
        if m.metric_family_name:
            kind = TYPES[m.type] if 0 <= m.type < len(TYPES) else "unknown"
            found.append(MetricMetadata(m.metric_family_name, kind, m.unit, m.help))
    return tuple(found)
