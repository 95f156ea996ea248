"""Plug-in kinds that telemetry comes from, and what is asked in place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from aiops.core.ports.plugin import OptionsT, Plugin
from aiops.core.principal import Principal
from aiops.core.series import (
    Exemplar,
    Labels,
    Matcher,
    MetricMetadata,
    NativeHistogram,
    QueryResult,
    SampleBlock,
)
from aiops.core.signals import ChangeEvent, LogQuery, LogRecord, Span


@dataclass(frozen=True, slots=True)
class Collected:
    """One poll of a source. ``cursor`` is stored after the rows are committed and given to the next poll."""

    samples: SampleBlock = field(default_factory=SampleBlock.empty)
    metadata: tuple[MetricMetadata, ...] = ()
    logs: tuple[LogRecord, ...] = ()
    spans: tuple[Span, ...] = ()
    changes: tuple[ChangeEvent, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    histograms: tuple[NativeHistogram, ...] = ()
    cursor: str = ""
    done: float = 1.0
    """Share of the backlog fetched, in [0, 1]; below 1 the collector polls again at once."""


class TelemetrySource(Plugin[OptionsT]):
    """``connectors/telemetry``: something to pull from. Deliver nothing rather than half."""

    interval_s: float = 15.0

    @abstractmethod
    def poll(self, cursor: str) -> Collected:
        """Everything since ``cursor`` (empty at first). Raises TransientError or PermanentError."""


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """A target that a source scrapes, as Prometheus' ``/api/v1/targets`` shows it. Times are ms, 0 before the first.

    ``labels`` are what its series get, ``discovered`` what was there before relabelling; ``health`` is ``up``,
    ``down`` or ``unknown``.
    """

    job: str
    url: str
    labels: Labels
    discovered: Labels
    interval_s: float
    timeout_s: float
    health: str = "unknown"
    last_error: str = ""
    last_scrape_ms: int = 0
    last_duration_s: float = 0.0


@runtime_checkable
class ScrapeTargets(Protocol):
    """A telemetry source that scrapes targets; a plug-in implements it beside ``TelemetrySource``."""

    def targets(self) -> Sequence[ScrapeTarget]: ...


@runtime_checkable
class HistorySource(Protocol):
    """A telemetry source that can also bring the past; a plug-in implements it beside ``TelemetrySource``."""

    def history(self, start_ms: int, end_ms: int, cursor: str) -> Iterator[Collected]:
        """Chunks of ``[start_ms, end_ms)`` in order of time, going on after ``cursor`` (empty at first).

        Each chunk's ``cursor`` is where to go on once it is stored, ``done`` the share fetched with it.
        """
        ...


@runtime_checkable
class LogSource(Protocol):
    """A telemetry source whose log lines are asked in place; a plug-in implements it beside ``TelemetrySource``."""

    def logs(self, query: LogQuery, principal: Principal) -> list[LogRecord]:
        """The newest lines first, ``query.limit`` at most, of the principal's scope.

        Raises ``TransientError`` when the source is away, ``Forbidden`` for a scope that it cannot enforce.
        """
        ...


@runtime_checkable
class SpanSource(Protocol):
    """A telemetry source whose spans are asked in place; a plug-in implements it beside ``TelemetrySource``."""

    def spans(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 1000
    ) -> list[Span]:
        """Spans that start in the half-open window, slow ones preferred where there are more than ``limit``.

        Raises as :meth:`LogSource.logs`.
        """
        ...


class MetricQuerier(ABC):
    """PromQL over some source: our store (``aiops.promql``) or a remote server (a connector).

    All times are ms UTC. Raises :class:`~aiops.core.errors.QueryError` for a bad query,
    ``TransientError`` when the source is down, late or refuses, ``Forbidden`` for a scope it cannot enforce.
    """

    name: str = "store"

    @abstractmethod
    def instant(self, query: str, time_ms: int, principal: Principal) -> QueryResult: ...

    @abstractmethod
    def range(self, query: str, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> QueryResult: ...

    @abstractmethod
    def series(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal, limit: int = 0
    ) -> list[Labels]: ...

    @abstractmethod
    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]: ...

    @abstractmethod
    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]: ...

    @abstractmethod
    def metadata(self, principal: Principal) -> list[MetricMetadata]: ...
