"""Prometheus remote write 2.0 (https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/): a table of symbols.

Created timestamps are read over: they say when a counter began, which no query asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from aiops.core.errors import InvalidInput
from aiops.core.series import METRIC_NAME, Exemplar, Labels, MetricMetadata
from aiops.ingest.bodies import DecodeLimits, Rejections
from aiops.ingest.remote_write import TYPES, Written, check_labels, columns, read_histograms
from aiops.ingest.wire import Request2, TimeSeries2

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
            written.samples.append((labels, *columns(series.samples)))
        written.exemplars += exemplars
        written.histograms += read_histograms(series.histograms, labels, rejections)
    written.metadata += metadata.values()
    return written


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
