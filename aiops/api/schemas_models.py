"""Bodies of the routes of cards, comparisons and drift."""

from __future__ import annotations

from aiops.api.schemas import Number, Reply, Text


class ShareOut(Reply):
    """A figure with its 95 % interval; null where it cannot be told."""

    value: Number
    lower: Number
    upper: Number


class DifferenceOut(Reply):
    name: str
    first: Text
    second: Text


class MetricDifferenceOut(Reply):
    name: str
    first: Number
    second: Number


class AgreementOut(Reply):
    """``correlation`` is the median over series of the scores' rank correlation, ``correlation_low`` its 10 %
    quantile; ``…_above`` the share of values above the version's threshold."""

    group: Text
    series: int
    correlation: Number
    correlation_low: Number
    first_above: ShareOut
    second_above: ShareOut


class ComparisonOut(Reply):
    first: str
    second: str
    parameters: list[DifferenceOut]
    metrics: list[MetricDifferenceOut]
    first_precision: ShareOut
    second_precision: ShareOut
    start_ms: int
    end_ms: int
    agreement: list[AgreementOut]
    note: str


class DriftSignalOut(Reply):
    name: str
    value: Number
    limit: Number
    drifted: bool
    detail: Text


class DriftedSeriesOut(Reply):
    series: Text
    p: Number
    psi: Number
    shift: Number
    changed_ms: int | None


class DriftReportOut(Reply):
    model: str
    version: str
    time_ms: int
    reference_start_ms: int
    reference_end_ms: int
    start_ms: int
    end_ms: int
    series: int
    tested: int
    signals: list[DriftSignalOut]
    worst: list[DriftedSeriesOut]
    drifted: bool
    confirmed: bool
    action: str


class DriftReportList(Reply):
    reports: list[DriftReportOut]
