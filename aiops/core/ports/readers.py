"""Seams inside ``aiops`` that read: metrics, logs, spans, changes, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from aiops.core.cost import CostQuery, CostSeries
from aiops.core.principal import Principal
from aiops.core.series import (
    Labels,
    Matcher,
    MetricMetadata,
    SampleBlock,
    SeriesPart,
)
from aiops.core.signals import ChangeEvent, LogPattern, LogQuery, LogRecord, LogTemplate, ServiceGraph, Span


class MetricReader(Protocol):
    """Samples by matchers; implemented by the telemetry store."""

    def scan(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal) -> SampleBlock:
        """Samples with ``start_ms <= ts <= end_ms`` of series that match and lie in the principal's scope."""
        ...

    def select_series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[Labels]: ...

    def metadata(self, principal: Principal) -> list[MetricMetadata]: ...


class OpenScan(Protocol):
    """Samples of a scan that are read part by part, from any thread.

    Attributes:
        labels: of the series that may have samples in the window.
        sample_count: about how many samples the window holds.
    """

    @property
    def labels(self) -> Sequence[Labels]: ...

    @property
    def sample_count(self) -> int: ...

    def part(self, first: int, last: int) -> SeriesPart:
        """Series ``first`` to ``last - 1``. Samples outside the window may be among theirs."""
        ...


@runtime_checkable
class StreamedReader(MetricReader, Protocol):
    """A reader that need not hold all samples of a scan at once."""

    def prepare(self) -> None:
        """Make ready, which may take seconds; reads work before it, but are slow."""

    def version(self) -> int:
        """Names the moment, for :meth:`changed_since`; to be taken before reading."""
        ...

    def changed_since(self, version: int) -> int:
        """The earliest time (ms) at which samples came or went since; far in the future where none did."""
        ...

    def open_scan(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal, most: int
    ) -> OpenScan:
        """As :meth:`scan`; where there are more than about ``most`` samples, only their number is of use."""
        ...


@runtime_checkable
class RollupReader(Protocol):
    """A reader that keeps buckets of long ago."""

    def open_rollup(
        self,
        matchers: Sequence[Matcher],
        after_ms: int,
        end_ms: int,
        resolution: int,
        column: str,
        principal: Principal,
    ) -> OpenScan | None:
        """Buckets ``(end - resolution, end]`` at their ends, with ``after_ms < end <= end_ms``, all multiples of it.

        ``column`` is low, high, total, num or last; ``None`` where no day of the window has rollups.
        """
        ...

    def raw_from_ms(self) -> int:
        """Before it buckets are all that is held; in the distant past where no buckets are older than the samples."""
        ...


class SignalReader(Protocol):
    """Logs, spans and changes; implemented by the telemetry store."""

    def logs(self, query: LogQuery, principal: Principal) -> list[LogRecord]: ...

    def log_patterns(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 50
    ) -> list[LogPattern]: ...

    def spans(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 1000
    ) -> list[Span]: ...

    def service_graph(self, start_ms: int, end_ms: int, principal: Principal) -> ServiceGraph: ...

    def changes(self, start_ms: int, end_ms: int, principal: Principal, service: str = "") -> list[ChangeEvent]: ...


class LogMiner(Protocol):
    """Finds the templates of log lines; implemented by ingest, called by the store for every line that it keeps."""

    def mine(self, records: Sequence[LogRecord]) -> Sequence[LogRecord]:
        """The records with ``template_id``, and with what their bodies say of level and attributes."""
        ...

    def changes(self) -> Sequence[LogTemplate]:
        """Templates that are new, wider or merged since the last call."""
        ...

    def headers(self) -> Mapping[str, str]:
        """What stands before the message, by service."""
        ...


class CostReader(Protocol):
    """Daily costs; implemented by the telemetry store."""

    def daily(self, query: CostQuery, principal: Principal) -> CostSeries: ...
