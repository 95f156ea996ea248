"""What is watched, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aiops.settings.section import Section


class WatchSettings(Section):
    """One watched query. ``direction`` is which way is bad; ``kind`` weighs it in root-cause ranking."""

    query: str
    step_s: float = 60.0
    kind: Literal["latency", "errors", "traffic", "saturation", "cost", "other"] = "other"
    direction: Literal["up", "down", "both"] = "both"
    unit: str = ""
    name: str = ""
    """Short and unique; empty makes one from the query."""
    least: float | None = Field(None, ge=0)
    """A deviation smaller than this, in the unit, is no incident; by default 0.02 of a ratio, else 0."""
    share: float = Field(0.1, ge=0)
    """Nor is one smaller than this share of the expected value."""


class SignalSettings(Section):
    """Series and signals made of spans and log lines."""

    series_limit: int = Field(20_000, ge=0)
    """Counters and histograms made of spans and log templates, at most."""
    templates_per_service: int = Field(1000, ge=1)
    log_signals: bool = True
    """Whether new, bursting and vanished log templates are anomalies."""
    learning_s: float = Field(3600.0, ge=0)
    """How long a service's log lines are known before a template can be new."""
    new_least: int = Field(20, ge=1)
    """Lines that a new template needs to be told of; of one of errors ``new_least_errors``."""
    new_least_errors: int = Field(3, ge=1)


class LoadSettings(Section):
    """What detection may ask of a metrics source of the user's own; the store of the service has no such limit."""

    queries_per_s: float = Field(5.0, gt=0)
    samples_per_s: float = Field(200_000.0, gt=0)
    series_per_query: int = Field(5000, ge=1)


class DetectionSettings(Section):
    enabled: bool = True
    step_s: float = 60.0
    """The step of the default watch list; detection runs when a step closes."""
    scrape_interval_s: float = Field(15.0, gt=0)
    """How often the watched metrics are scraped; the default list reads counters over four times as long."""
    watch: tuple[WatchSettings, ...] = ()
    """Empty means the default list: rate, errors and duration per service, saturation per host."""
    watch_rules: bool = True
    """Beside the default list, the results of recording rules (``level:metric:operations``), fifty at most."""
    watch_found: int = Field(60, ge=0)
    """Of the user's own Prometheus, also this many queries at most: objectives, what alerting rules compare with a
    number, and rate, errors, duration, utilisation and saturation of what it has."""
    detectors: tuple[str, ...] = ("seasonal_residual", "ridge_ar", "window_covariance")
    train_window_s: float = 14 * 86400.0
    min_points: int = 120
    max_series: int = 20_000
    retrain_cron: str = "17 3 * * *"
    load_budget: LoadSettings = LoadSettings()
