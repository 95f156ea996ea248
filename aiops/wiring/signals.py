"""What is made of logs and spans: templates, series, and signals of templates."""

from __future__ import annotations

from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.log_signals import LogSignals
from aiops.ingest.log_templates.miner import MinerState, TemplateMiner
from aiops.ingest.signal_series import SignalSeries
from aiops.settings import Settings
from aiops.store.telemetry.log_templates import KnownTemplate
from aiops.store.telemetry.store import TelemetryStore
from aiops.wiring.lifetime import Lifetime


def mine_logs(settings: Settings, store: TelemetryStore) -> None:
    """Give every stored line a template, going on with those that are known."""
    known, limit = store.log_templates(), settings.signals.templates_per_service
    newest: dict[str, list[KnownTemplate]] = {}
    for found in sorted(known.all(), key=lambda k: -k.last_ms):
        newest.setdefault(found.template.service, []).append(found)
    kept = sorted((k for rows in newest.values() for k in rows[:limit]), key=lambda k: (k.first_ms, k.template.id))
    store.mine_logs_with(TemplateMiner(MinerState(tuple(k.template for k in kept), known.headers()), limit))


def signal_series(settings: Settings, store: TelemetryStore, lifetime: Lifetime) -> SignalSeries:
    """Started; nothing is counted where ``signals.series_limit`` is 0."""
    step_ms = max(round(settings.detection.scrape_interval_s * 1000), 1000)
    series = SignalSeries(store, limit=settings.signals.series_limit, step_ms=step_ms, grace_ms=min(step_ms, 5000))
    if settings.signals.series_limit:
        store.when_stored(series.note)
        series.start()
        lifetime.on_stop(series.stop)
    return series


def log_signals(settings: Settings, store: TelemetryStore, incidents: IncidentService, lifetime: Lifetime) -> None:
    """Started, where ``signals.log_signals`` asks for it."""
    if settings.signals.log_signals:
        step_ms = round(settings.detection.step_s * 1000)
        watching = LogSignals(store, incidents, settings.signals, settings.incidents, step_ms=step_ms)
        watching.start()
        lifetime.on_stop(watching.stop)
