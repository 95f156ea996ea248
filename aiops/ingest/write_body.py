"""Bodies of remote write on their way into the store: media types, decompression and the fast reading.

A scrape sends the same label sets again and again. So a body is read by a compiled kernel that knows the label bytes
of every series it has met, and gives numbers, times and values without an object a series. Whatever is new or does
not look like that is read in full.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiops.core.errors import InvalidInput
from aiops.core.ports import Collected
from aiops.core.series import Labels
from aiops.core.untrusted import Untrusted
from aiops.ingest import remote_write, remote_write_v2
from aiops.ingest.bodies import DecodeLimits, Rejections, UnsupportedMedia, compressed, media_type
from aiops.ingest.remote_write import Written, read_labels, read_metadata, read_series
from aiops.ingest.remote_write_v2 import zeros
from aiops.ingest.series_table import Parsed, SeriesTable
from aiops.store.telemetry.head import SampleRows
from aiops.store.telemetry.labels import SeriesIndex

V1, V2 = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"
INVALID = -1
"""In the place of a series' number; what the index has no room for keeps the index's own word for that."""
ENCODINGS = frozenset({"snappy", "gzip", "zstd"})


def protocol(content_type: str, content_encoding: str) -> str:
    """``V1`` or ``V2``. Raises ``UnsupportedMedia`` for a type or an encoding that remote write does not have."""
    kind, parameters = media_type(content_type)
    if kind != "application/x-protobuf":
        raise UnsupportedMedia(
            f"The content type '{Untrusted(kind).display(80)}' is not supported.",
            hint="Remote write sends application/x-protobuf.",
        )
    message = parameters.get("proto", V1)
    if message not in (V1, V2):
        raise UnsupportedMedia(f"Only the messages {V1} and {V2} are supported.")
    if content_encoding.strip().lower() not in ENCODINGS:
        raise UnsupportedMedia("Remote write bodies are compressed with snappy.")
    return message


class WriteReceiver:
    """Reads bodies for one store; keeps the series that it has met."""

    def __init__(self, limits: DecodeLimits | None = None, *, zeros: bool = False) -> None:
        """``zeros`` keeps when a counter began, where remote write 2.0 tells it, as a sample of 0."""
        self.limits = limits or DecodeLimits()
        self.zeros = zeros
        self.table = SeriesTable()
        self.generation = -1

    def open(self, body: bytes, content_type: str, content_encoding: str) -> WriteBody:
        """A body as it came, to be given to the store. Raises ``UnsupportedMedia``."""
        message = protocol(content_type, content_encoding)
        if not self.table.ready:
            self.table.warm()
        return WriteBody(self, body, message, content_encoding)


class WriteBody:
    """One request as a source of samples. :meth:`rows` runs on the head's thread; the rest is filled by it.

    Attributes:
        size: bytes, about, that it takes when it is read.
        rejections: series that are not valid.
        written: metadata, exemplars and native histograms.
        zeros: how many samples the sender did not send: the zeros of counters that began.
    """

    def __init__(self, receiver: WriteReceiver, body: bytes, message: str, encoding: str) -> None:
        self._receiver = receiver
        self._body = body
        self._encoding = encoding
        self.message = message
        self.size = 6 * len(body) + 1000
        self.rejections = Rejections()
        self.written = Written()
        self.zeros = 0

    def rows(self, index: SeriesIndex) -> SampleRows:
        """Decompress and read.

        Raises:
            InvalidInput: not whole, or not protobuf.
            LimitExceeded: larger than the limit when decompressed.
        """
        receiver = self._receiver
        plain = compressed(self._body, self._encoding, receiver.limits.max_bytes)
        self._body = b""
        if self.message == V2:
            self.written = remote_write_v2.read(plain, receiver.limits, self.rejections)
            return self._with_zeros(_rows(index, self.written), index)
        table = receiver.table
        if table.ready:
            if receiver.generation != index.generation:
                table.clear()
                receiver.generation = index.generation
            parsed = table.parse(plain)
            if parsed is not None:
                return self._fast(plain, parsed, index)
        self.written = remote_write.read(plain, receiver.limits, self.rejections)
        return _rows(index, self.written)

    def _with_zeros(self, rows: SampleRows, index: SeriesIndex) -> SampleRows:
        if not (self._receiver.zeros and self.written.starts):
            return rows
        first = np.cumsum([0, *(len(ts) for _, ts, _ in self.written.samples)])
        sids, times = [rows.sid], [rows.ts]
        for place, starts in self.written.starts.items():
            sid = rows.sid[first[place]]
            if sid >= 0:
                found = zeros(self.written.samples[place][1], starts, int(index.claimed[sid]))
                sids.append(np.full(len(found), sid, np.int32))
                times.append(found)
        self.zeros = sum(map(len, times[1:]))
        values = np.concatenate([rows.values, np.zeros(self.zeros)])
        return SampleRows(np.concatenate(sids), np.concatenate(times), values)

    def extras(self) -> Collected | None:
        """What is not samples, where there is any."""
        found = self.written
        if not (found.metadata or found.exemplars or found.histograms):
            return None
        return Collected(
            metadata=tuple(found.metadata), exemplars=tuple(found.exemplars), histograms=tuple(found.histograms)
        )

    def _fast(self, plain: bytes, parsed: Parsed, index: SeriesIndex) -> SampleRows:
        limits, written, rejections = self._receiver.limits, self.written, self.rejections
        sid, ts, values = parsed.sid, parsed.ts, parsed.values
        if len(parsed.unknown):
            sid = self._resolve(plain, parsed, index)
            if INVALID in sid:
                good = sid != INVALID
                sid, ts, values = sid[good], ts[good], values[good]
        rows = SampleRows(sid.astype(np.int32), ts, values)
        if len(parsed.metadata):
            written.metadata += read_metadata([plain[a:b] for a, b in parsed.metadata.tolist()], rejections)
        if len(parsed.odd):
            for a, b in parsed.odd.tolist():
                read_series(plain[a:b], limits, written, rejections)
            more = _rows(index, written)
            rows = SampleRows(
                np.concatenate([rows.sid, more.sid]),
                np.concatenate([rows.ts, more.ts]),
                np.concatenate([rows.values, more.values]),
            )
        return rows

    def _resolve(self, plain: bytes, parsed: Parsed, index: SeriesIndex) -> NDArray[np.int64]:
        """Numbers for all samples, :data:`INVALID` among them. A series without samples gets none."""
        sid = parsed.sid.copy()
        negative = sid < 0
        wanted = np.zeros(len(parsed.unknown), np.bool_)
        wanted[-1 - sid[negative]] = True
        labels: list[Labels] = []
        numbers = np.full(len(parsed.unknown), INVALID, np.int64)
        at = []
        for i, (a, b) in enumerate(parsed.unknown.tolist()):
            try:
                found = read_labels(plain[a:b], self._receiver.limits)
            except InvalidInput as error:
                self.rejections.add(error.message)
                continue
            if wanted[i]:
                labels.append(found)
                at.append(i)
        if labels:
            numbers[at] = index.number(labels)
            self._receiver.table.learn(plain, parsed.unknown, numbers)
        sid[negative] = numbers[-1 - sid[negative]]
        return sid


def _rows(index: SeriesIndex, written: Written) -> SampleRows:
    samples = written.samples
    if not samples:
        return SampleRows(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0))
    sids = index.number([labels for labels, _, _ in samples])
    return SampleRows(
        np.repeat(sids, [len(ts) for _, ts, _ in samples]),
        np.concatenate([ts for _, ts, _ in samples]),
        np.concatenate([values for _, _, values in samples]),
    )
