"""PromQL, OTLP, rules and objectives."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aiops.settings.section import Section


class PromqlSettings(Section):
    lookback_s: int = 300
    timeout_s: float = 120.0
    max_samples: int = 50_000_000
    max_points: int = 11_000
    result_cache_bytes: int = Field(64 * 1024 * 1024, ge=0)
    """Answers of range queries kept, so that a refresh evaluates new steps only; 0 keeps none."""
    experimental_functions: bool = False


class OtlpSettings(Section):
    """How OpenTelemetry metrics become Prometheus series; the words are those of Prometheus' section ``otlp``."""

    translation_strategy: Literal[
        "UnderscoreEscapingWithSuffixes",
        "NoUTF8EscapingWithSuffixes",
        "UnderscoreEscapingWithoutSuffixes",
        "NoTranslation",
    ] = "UnderscoreEscapingWithSuffixes"
    promote_resource_attributes: tuple[str, ...] = ()
    promote_all_resource_attributes: bool = False
    ignore_resource_attributes: tuple[str, ...] = ()
    """Not promoted where all others are."""
    keep_identifying_resource_attributes: bool = False
    promote_scope_metadata: bool = False
    exponential_as_classic: bool = True
    """Exponential histograms are stored as native ones, and as classic buckets for those who ask ``_bucket``."""
    classic_scale: int = Field(2, ge=-4, le=4)
    """Their buckets lie at the powers of 2^(2^-scale): with 2, four for each doubling."""
    delta_max_streams: int = Field(100_000, ge=1)
    delta_idle_s: float = Field(3600.0, gt=0)
    """A delta stream silent for longer starts again from zero."""


class RuleSettings(Section):
    files: tuple[str, ...] = ()
    """Rule files in Prometheus' format, by path or glob."""
    interval_s: float = Field(60.0, ge=0.1)
    """How often groups that name no interval are evaluated."""
    external_labels: dict[str, str] = Field(default_factory=dict)


class SloSettings(Section):
    """A service-level objective: the share of good events that is promised over a period.

    ``errors`` and ``total`` are PromQL rates of bad and of all events with ``[$window]`` as their range.
    """

    objective: float = Field(gt=0, lt=1)
    errors: str = Field(min_length=1)
    total: str = Field(min_length=1)
    service: str = ""
    period_days: float = Field(30.0, ge=1, le=90)
