"""What is watched: the default list, and the entries a user sets instead.

Rate, errors and duration per service by OpenTelemetry's names in Prometheus form; saturation per host by
node_exporter's; containers, connection pools and queues; operations, calls and log lines by
:mod:`aiops.incidents.signal_watch`. Every query aggregates, so that its result is a gauge,
rate, ratio or quantile, never a raw counter, and keeps the ``simulated`` label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from aiops.incidents.metric_kinds import MetricKind, metric_kind
from aiops.incidents.signal_watch import SIGNAL_ENTRIES
from aiops.settings import DetectionSettings

KINDS = ("latency", "errors", "traffic", "saturation", "cost", "other")


@dataclass(frozen=True, slots=True)
class WatchEntry:
    """One watched query.

    Attributes:
        name: short name of what it measures; part of every series id.
        step_ms: its model's step.
        kind: one of ``KINDS``.
        direction: which way is bad: up, down, both.
        needs: metric names without which it is not asked; empty means always asked.
        least: a deviation smaller than this, in the unit, is no incident.
        share: nor is one smaller than this share of the expected value.
        found: by looking at what the source has; not of the default list, nor named by the user.
    """

    name: str
    query: str
    step_ms: int
    kind: str
    direction: str
    unit: str
    needs: tuple[str, ...] = ()
    least: float = 0.0
    share: float = 0.1
    found: bool = False

    @property
    def metric(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")


MOST_RULES = 50
"""Recording rules watched at most."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SPARE = frozenset(["free", "avail", "available", "idle", "headroom", "remaining", "left", "spare"])
_USED = frozenset(["used", "busy", "utilization", "utilisation", "saturation", "pressure", "throttled"])
_HTTP = "http_server_request_duration_seconds"
_BY_SERVICE = "by (service_name, job, simulated)"
_BY_CONTAINER = "by (service_name, simulated)"
_OF_SERVICE = '{service_name!=""}'
_REAL_FS = '{fstype!~"tmpfs|ramfs|overlay|squashfs|devtmpfs|iso9660"}'
# Each: name, query with W for the rate window, kind, direction, unit, metrics needed, least, share.
_DEFAULTS: tuple[tuple[str, str, str, str, str, tuple[str, ...], float, float], ...] = (
    (
        "request_rate",
        f"sum {_BY_SERVICE} (rate({_HTTP}_count[W]))",
        "traffic",
        "down",
        "req/s",
        (f"{_HTTP}_count",),
        0.2,
        0.4,
    ),
    (
        "error_ratio",
        f'(sum {_BY_SERVICE} (rate({_HTTP}_count{{http_response_status_code=~"5.."}}[W]))'
        f" or 0 * sum {_BY_SERVICE} (rate({_HTTP}_count[W])))"
        f" / (sum {_BY_SERVICE} (rate({_HTTP}_count[W])) > 0)",
        "errors",
        "up",
        "ratio",
        (f"{_HTTP}_count",),
        0.02,
        0.5,
    ),
    (
        "latency_p95",
        f"histogram_quantile(0.95, sum by (service_name, job, simulated, le) (rate({_HTTP}_bucket[W])))",
        "latency",
        "up",
        "s",
        (f"{_HTTP}_bucket",),
        0.005,
        0.4,
    ),
    (
        "container_cpu",
        f"sum {_BY_CONTAINER} (rate(container_cpu_usage_seconds_total{_OF_SERVICE}[W]))",
        "saturation",
        "up",
        "cores",
        ("container_cpu_usage_seconds_total",),
        0.1,
        0.5,
    ),
    (
        "container_memory_ratio",
        f"sum {_BY_CONTAINER} (container_memory_working_set_bytes{_OF_SERVICE})"
        f" / (sum {_BY_CONTAINER} (container_spec_memory_limit_bytes{_OF_SERVICE}) > 0)",
        "saturation",
        "up",
        "ratio",
        ("container_memory_working_set_bytes", "container_spec_memory_limit_bytes"),
        0.1,
        0.2,
    ),
    (
        "db_pool_ratio",
        f'sum {_BY_CONTAINER} (db_client_connections_usage{{state="used",service_name!=""}})'
        f" / (sum {_BY_CONTAINER} (db_client_connections_max{_OF_SERVICE}) > 0)",
        "saturation",
        "up",
        "ratio",
        ("db_client_connections_usage", "db_client_connections_max"),
        0.15,
        0.3,
    ),
    (
        "queue_depth",
        f"sum {_BY_CONTAINER} (messaging_queue_depth{_OF_SERVICE})",
        "saturation",
        "up",
        "messages",
        ("messaging_queue_depth",),
        20.0,
        0.5,
    ),
    (
        "cpu_busy_ratio",
        '1 - avg by (instance, simulated) (rate(node_cpu_seconds_total{mode="idle"}[W]))',
        "saturation",
        "up",
        "ratio",
        ("node_cpu_seconds_total",),
        0.15,
        0.3,
    ),
    (
        "memory_used_ratio",
        "1 - sum by (instance, simulated) (node_memory_MemAvailable_bytes)"
        " / sum by (instance, simulated) (node_memory_MemTotal_bytes)",
        "saturation",
        "up",
        "ratio",
        ("node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"),
        0.1,
        0.2,
    ),
    (
        "filesystem_used_ratio",
        f"1 - min by (instance, mountpoint, simulated) (node_filesystem_avail_bytes{_REAL_FS})"
        f" / max by (instance, mountpoint, simulated) (node_filesystem_size_bytes{_REAL_FS})",
        "saturation",
        "up",
        "ratio",
        ("node_filesystem_avail_bytes", "node_filesystem_size_bytes"),
        0.05,
        0.1,
    ),
    (
        "disk_busy_ratio",
        'max by (instance, device, simulated) (rate(node_disk_io_time_seconds_total{device!~"loop.*|ram.*"}[W]))',
        "saturation",
        "up",
        "ratio",
        ("node_disk_io_time_seconds_total",),
        0.2,
        0.3,
    ),
)


def default_watch(step_ms: int, rate_window_ms: int) -> tuple[WatchEntry, ...]:
    """The default list at a step; counters are read over ``rate_window_ms``, at least one step."""
    length = max(rate_window_ms, step_ms)
    window = f"[{length // 1000}s]" if length % 1000 == 0 else f"[{length}ms]"
    return tuple(
        WatchEntry(name, query.replace("[W]", window), step_ms, kind, direction, unit, needs, least, share)
        for name, query, kind, direction, unit, needs, least, share in (*_DEFAULTS, *SIGNAL_ENTRIES)
    )


def watch_list(settings: DetectionSettings) -> tuple[WatchEntry, ...]:
    """The user's entries, or the default list where there are none."""
    if not settings.watch:
        return default_watch(round(settings.step_s * 1000), round(settings.scrape_interval_s * 4000))
    return tuple(
        WatchEntry(
            name=entry.name or name_of(entry.query),
            query=entry.query,
            step_ms=round(entry.step_s * 1000),
            kind=entry.kind,
            direction=entry.direction,
            unit=entry.unit,
            least=(0.02 if entry.unit == "ratio" else 0.0) if entry.least is None else entry.least,
            share=entry.share,
        )
        for entry in settings.watch
    )


def entries_for(queries: Sequence[str], settings: DetectionSettings) -> tuple[WatchEntry, ...]:
    """Entries for PromQL that a person names on the spot, watched both ways at the default list's step.

    Kind and direction come from the words of the query where they say it.
    """
    step_ms = round(settings.step_s * 1000)
    return tuple(_read_entry(name_of(query), query, step_ms) for query in dict.fromkeys(queries))


def rule_entries(metrics: Iterable[str], step_ms: int) -> tuple[WatchEntry, ...]:
    """Entries for the results of the user's recording rules: names of the form ``level:metric:operations``.

    A rule was written because someone looks at it; its series are few and need no function. ``_bucket``, ``_sum`` and
    ``_count`` of recorded histograms are left out.
    """
    recorded = [m for m in sorted(metrics) if ":" in m.strip(":") and not m.endswith(("_bucket", "_sum", "_count"))]
    return tuple(_read_entry(name, name, step_ms, (name,)) for name in recorded[:MOST_RULES])


def _read_entry(name: str, query: str, step_ms: int, needs: tuple[str, ...] = ()) -> WatchEntry:
    kind, direction = meaning(query)
    ratio = "ratio" if "ratio" in _words(query) else ""
    return WatchEntry(name, query, step_ms, kind, direction, ratio, needs, 0.02 if ratio else 0.0)


def meaning(query: str) -> tuple[str, str]:
    """Kind and bad direction of what a query measures, by its words.

    Less of what is free is bad, more of it is no incident; less traffic may be one, more may be too; fewer errors,
    quicker answers and idler processors are none.

    >>> meaning("node_filesystem_avail_bytes"), meaning("rate(http_requests_total[5m])"), meaning("sum(errors_total)")
    (('saturation', 'down'), ('traffic', 'both'), ('errors', 'up'))
    """
    words = _words(query)
    kind, direction = metric_kind(query)
    if kind is MetricKind.ERRORS or kind is MetricKind.LATENCY:
        return kind.value, direction.value
    if words & _SPARE:
        flipped = "up" if re.search(r"\b1\s*-", query) else "down"
        return "saturation", flipped
    if words & _USED:
        return "saturation", "up"
    return (kind.value if kind.value in KINDS else "other"), direction.value


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}


def name_of(query: str) -> str:
    """A short, stable name of a user's query: its longest word, and a digest that tells it from others.

    >>> name_of("sum(rate(my_requests_total[5m]))")
    'my_requests_total_2b16'
    """
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", query)
    longest = max(words, key=len, default="query")
    return f"{longest}_{hashlib.sha256(query.encode()).hexdigest()[:4]}"


def present(entries: Collection[WatchEntry], metrics: Collection[str]) -> tuple[WatchEntry, ...]:
    """Those whose metrics all exist."""
    known = set(metrics)
    return tuple(entry for entry in entries if known.issuperset(entry.needs))
