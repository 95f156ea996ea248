"""Log lines by template, as counters for the detectors."""

from __future__ import annotations

from collections.abc import Sequence

from aiops.core.series import MetricMetadata, labels_of
from aiops.core.signals import LogRecord
from aiops.ingest.event_series import EventSeries
from aiops.ingest.signal_labels import OTHER, base_labels

LOG_RECORDS = "log_template_records_total"
LOG_METADATA = (MetricMetadata(LOG_RECORDS, "counter", "", "Log lines by service, template and severity."),)
TEMPLATES = 200
"""Templates of a service with a series of their own; lines of further ones are of the template ``other``."""
SERVICES = 1000
_SEVERITIES = ("", "trace", "debug", "info", "warn", "error", "fatal")


def severity_word(number: int) -> str:
    """OpenTelemetry's short word of a severity number, empty where it is not set.

    >>> severity_word(18), severity_word(0)
    ('error', '')
    """
    return _SEVERITIES[(number + 3) // 4] if 0 < number <= 24 else ""


class TemplateCounts:
    """Adds log lines to series by their templates. Not thread-safe."""

    def __init__(self, series: EventSeries) -> None:
        self._series = series
        self._templates: dict[str, set[str]] = {}

    def add(self, records: Sequence[LogRecord], now_ms: int) -> None:
        for record in records:
            service = record.service
            if not service or not record.template_id:
                continue
            held = self._templates.setdefault(service, set()) if len(self._templates) < SERVICES else set()
            id = record.template_id
            if id not in held:
                if len(held) >= TEMPLATES or service not in self._templates:
                    id = OTHER
                else:
                    held.add(id)
            labels = labels_of(
                [
                    *base_labels(record.resource),
                    ("template_id", id),
                    ("severity", severity_word(record.severity_number)),
                ]
            )
            self._series.count(service, LOG_RECORDS, labels, min(record.time_unix_nano // 1_000_000, now_ms))
