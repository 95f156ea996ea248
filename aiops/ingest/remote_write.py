"""Prometheus remote write 1.0 (https://prometheus.io/docs/specs/prw/remote_write_spec/), message by message.

This is the exact reading, by the protobuf library. ``write_body.py`` reads the usual shapes many times faster and
hands the others to :func:`read_series`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from aiops.core.errors import InvalidInput
from aiops.core.ports import Collected
from aiops.core.series import METRIC_NAME, Exemplar, Labels, MetricMetadata, NativeHistogram, SampleBlock
from aiops.core.untrusted import Untrusted
from aiops.ingest.bodies import DecodeLimits, Rejections
from aiops.ingest.wire import HistogramTime, Metadata, OuterRequest, TimeSeries

TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")


@dataclass(slots=True)
class Written:
    """What was read from a request."""

    samples: list[tuple[Labels, NDArray[np.int64], NDArray[np.float64]]] = field(default_factory=list)
    metadata: list[MetricMetadata] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)
    histograms: list[NativeHistogram] = field(default_factory=list)
    starts: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """For some places in ``samples``: when the counter of each sample began (ms), 0 where that is not told."""

    def collected(self) -> Collected:
        return Collected(
            SampleBlock.build(self.samples), tuple(self.metadata),
            exemplars=tuple(self.exemplars), histograms=tuple(self.histograms),
        )  # fmt: skip


def read(plain: bytes, limits: DecodeLimits, rejections: Rejections) -> Written:
    """A whole ``WriteRequest``. Series that are not valid are left out, counted and named in the reason.

    Raises:
        InvalidInput: not protobuf.
    """
    try:
        outer = OuterRequest.FromString(plain)
    except DecodeError as error:
        raise InvalidInput("The body is not a remote-write request.") from error
    written = Written()
    for item in outer.timeseries:
        read_series(item, limits, written, rejections)
    written.metadata += read_metadata(outer.metadata, rejections)
    return written


def read_series(item: bytes, limits: DecodeLimits, into: Written, rejections: Rejections) -> None:
    """One ``TimeSeries`` with all that it holds."""
    try:
        series = TimeSeries.FromString(item)
    except DecodeError:
        rejections.add("a series is not valid protobuf or UTF-8")
        return
    try:
        labels = check_labels([(label.name, label.value) for label in series.labels], limits)
    except InvalidInput as error:
        rejections.add(error.message)
        return
    if series.samples:
        into.samples.append((labels, *columns(series.samples)))
    read_exemplars(series, labels, into)
    into.histograms += read_histograms(series.histograms, labels, rejections)


def columns(samples: Sequence[object]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Times and values of ``Sample`` messages, in order of time."""
    ts = np.array([sample.timestamp for sample in samples], np.int64)  # type: ignore[attr-defined]
    values = np.array([sample.value for sample in samples], np.float64)  # type: ignore[attr-defined]
    if bool(np.any(ts[1:] < ts[:-1])):
        order = np.argsort(ts, kind="stable")
        ts, values = ts[order], values[order]
    return ts, values


def read_exemplars(series: object, labels: Labels, into: Written) -> None:
    for one in series.exemplars:  # type: ignore[attr-defined]
        own = tuple(sorted((label.name, label.value) for label in one.labels if label.value))
        into.exemplars.append(Exemplar(labels, own, one.value, one.timestamp))


def read_histograms(payloads: Iterable[bytes], labels: Labels, rejections: Rejections) -> list[NativeHistogram]:
    """Kept as the bytes that they are; only the time is read."""
    found = []
    for payload in payloads:
        try:
            found.append(NativeHistogram(labels, HistogramTime.FromString(payload).timestamp, bytes(payload)))
        except DecodeError:
            rejections.add("a native histogram is not valid protobuf")
    return found


def read_labels(prefix: bytes, limits: DecodeLimits) -> Labels:
    """Labels of a ``TimeSeries`` that holds nothing else. Raises ``InvalidInput``."""
    try:
        series = TimeSeries.FromString(prefix)
    except DecodeError as error:
        raise InvalidInput("a series is not valid protobuf or UTF-8") from error
    return check_labels([(label.name, label.value) for label in series.labels], limits)


def check_labels(pairs: Sequence[tuple[str, str]], limits: DecodeLimits) -> Labels:
    """Labels as the specification wants them: sorted, unique, with a metric name. Raises ``InvalidInput``."""
    if len(pairs) > limits.max_labels:
        raise InvalidInput(f"a series has {len(pairs)} labels, more than {limits.max_labels}")
    labels = tuple(pair for pair in pairs if pair[1])
    before = ""
    named = False
    for name, value in pairs:
        if name <= before:
            what = "an empty label name" if not name else f"labels repeated or out of order at '{_safe(name)}'"
            raise InvalidInput(f"a series has {what} ({_shown(labels)})")
        if len(name) > limits.max_label_name_bytes or len(value) > limits.max_label_value_bytes:
            raise InvalidInput(f"the label '{_safe(name)}' is too long ({_shown(labels)})")
        named = named or (name == METRIC_NAME and bool(value))
        before = name
    if not named:
        raise InvalidInput(f"a series has no metric name ({_shown(labels)})")
    return labels


def read_metadata(items: Iterable[bytes], rejections: Rejections) -> list[MetricMetadata]:
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
    return found


def _safe(text: str) -> str:
    return Untrusted(text).display(60)


def _shown(labels: Labels) -> str:
    return Untrusted("{" + ", ".join(f'{k}="{v}"' for k, v in labels[:20]) + "}").display(200)
