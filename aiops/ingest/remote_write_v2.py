"""Prometheus remote write 2.0 (https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/): a table of symbols.

When a counter began (``created_timestamp`` of a series, in the final specification ``start_timestamp`` of a sample) can
be kept as a sample of 0, as a Prometheus with ``created-timestamp-zero-ingestion`` does: see :func:`zeros`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from aiops.core.errors import InvalidInput
from aiops.core.series import METRIC_NAME, Exemplar, Labels, MetricMetadata
from aiops.ingest.bodies import DecodeLimits, Rejections
from aiops.ingest.remote_write import TYPES, Written, check_labels, columns, read_histograms
from aiops.ingest.wire import Request2, TimeSeries2

ZERO_WITHIN_MS = 3_600_000
"""A beginning further before its sample is not told of, as what a Prometheus' head no longer takes."""
SUFFIXES = ("_bucket", "_sum", "_count")
"""What a classic histogram's or summary's series have beyond their family's name."""


def read(plain: bytes, limits: DecodeLimits, rejections: Rejections) -> Written:
    """A whole ``io.prometheus.write.v2.Request``. Series that are not valid are left out, counted and named.

    Raises:
        InvalidInput: not protobuf, or symbols that do not begin with the empty one.
    """
    try:
        request = Request2.FromString(plain)
    except DecodeError as error:
        raise InvalidInput("The body is not a remote-write 2.0 request.") from error
    symbols = list(request.symbols)
    if request.timeseries and (not symbols or symbols[0]):
        raise InvalidInput("The first symbol of a remote-write 2.0 request has to be empty.")
    written = Written()
    metadata: dict[str, MetricMetadata] = {}
    for item in request.timeseries:
        try:
            series = TimeSeries2.FromString(item)
            labels = check_labels(_labels(series.labels_refs, symbols), limits)
            found = _metadata(series, labels, symbols)
            exemplars = [
                Exemplar(
                    labels, tuple(sorted(p for p in _labels(e.labels_refs, symbols) if p[1])), e.value, e.timestamp
                )
                for e in series.exemplars
            ]
        except DecodeError:
            rejections.add("a series is not valid protobuf")
            continue
        except InvalidInput as error:
            rejections.add(error.message)
            continue
        if found is not None:
            metadata[found.name] = found
        if series.samples:
            ts, values = columns(series.samples)
            written.samples.append((labels, ts, values))
            starts = _starts(series)
            if starts is not None:
                written.starts[len(written.samples) - 1] = starts
        written.exemplars += exemplars
        written.histograms += read_histograms(series.histograms, labels, rejections)
    written.metadata += metadata.values()
    return written


def _starts(series: object) -> NDArray[np.int64] | None:
    """When the counter of each sample, in order of their times, began; 0 where that is not told."""
    samples = sorted(series.samples, key=lambda sample: sample.timestamp)  # type: ignore[attr-defined]
    first = series.created_timestamp  # type: ignore[attr-defined]
    starts = np.array([sample.start_timestamp or first for sample in samples], np.int64)
    return starts if starts.any() else None


def zeros(ts: NDArray[np.int64], starts: NDArray[np.int64], newest_ms: int) -> NDArray[np.int64]:
    """Times (ms) at which a sample of 0 belongs before the samples of one series.

    Args:
        ts: ascending.
        starts: when the counter of each began, 0 where unknown.
        newest_ms: the newest sample that is known of the series; nothing is put before it.
    """
    before = np.concatenate([[newest_ms], ts[:-1]])
    told = (starts > 0) & (starts > before) & (starts < ts) & (ts - starts <= ZERO_WITHIN_MS)
    return starts[told]


def _labels(refs: Sequence[int], symbols: list[str]) -> list[tuple[str, str]]:
    if len(refs) % 2:
        raise InvalidInput("a series has a label name without a value")
    try:
        texts = [symbols[ref] for ref in refs]
    except IndexError:
        raise InvalidInput("a series refers to a symbol that is not there") from None
    return list(zip(texts[::2], texts[1::2], strict=True))


def _metadata(series: object, labels: Labels, symbols: list[str]) -> MetricMetadata | None:
    found = series.metadata  # type: ignore[attr-defined]
    if not (found.type or found.help_ref or found.unit_ref):
        return None
    if max(found.help_ref, found.unit_ref) >= len(symbols):
        raise InvalidInput("a series refers to a symbol that is not there")
    kind = TYPES[found.type] if 0 <= found.type < len(TYPES) else "unknown"
    name = dict(labels)[METRIC_NAME]
    if kind in ("histogram", "gaugehistogram", "summary"):
        for suffix in SUFFIXES:
            name = name.removesuffix(suffix)
    return MetricMetadata(name, kind, symbols[found.unit_ref], symbols[found.help_ref])
