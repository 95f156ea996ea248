"""What is watched of spans and logs by default: the series that :mod:`aiops.ingest.signal_series` makes.

Spans sampled at an unknown rate (``sampled="true"``) are left out, since their number says nothing.
Each: name, query with W for the rate window, kind, direction, unit, metrics needed, least, share.
"""

from __future__ import annotations

_CALLS, _TIMES = "traces_span_metrics_calls_total", "traces_span_metrics_duration_milliseconds_bucket"
_EDGE = "traces_service_graph_request"
_ASKED = 'span_kind=~"SPAN_KIND_SERVER|SPAN_KIND_CONSUMER",sampled=""'
_FAILED = f'{_ASKED},status_code="STATUS_CODE_ERROR"'
_BY = "by (service_name, span_name, job, simulated)"
_PAIR = "by (client, server, service_name, simulated)"
_LINES = "log_template_records_total"

SIGNAL_ENTRIES: tuple[tuple[str, str, str, str, str, tuple[str, ...], float, float], ...] = (
    ("operation_rate", f"sum {_BY} (rate({_CALLS}{{{_ASKED}}}[W]))", "traffic", "down", "req/s", (_CALLS,), 0.5, 0.5),
    (
        "operation_error_ratio",
        f"(sum {_BY} (rate({_CALLS}{{{_FAILED}}}[W])) or 0 * sum {_BY} (rate({_CALLS}{{{_ASKED}}}[W])))"
        f" / (sum {_BY} (rate({_CALLS}{{{_ASKED}}}[W])) > 0)",
        "errors",
        "up",
        "ratio",
        (_CALLS,),
        0.05,
        0.5,
    ),
    (
        "operation_latency_p95",
        "histogram_quantile(0.95, sum by (service_name, span_name, job, simulated, le) "
        f"(rate({_TIMES}{{{_ASKED}}}[W]))) / 1000",
        "latency",
        "up",
        "s",
        (_TIMES,),
        0.01,
        0.5,
    ),
    (
        "call_error_ratio",
        f'sum {_PAIR} (rate({_EDGE}_failed_total{{sampled=""}}[W]))'
        f' / (sum {_PAIR} (rate({_EDGE}_total{{sampled=""}}[W])) > 0)',
        "errors",
        "up",
        "ratio",
        (f"{_EDGE}_total", f"{_EDGE}_failed_total"),
        0.05,
        0.5,
    ),
    (
        "wire_time_p95",
        "histogram_quantile(0.95, sum by (client, server, service_name, simulated, le) "
        f'(rate({_EDGE}_wire_seconds_bucket{{sampled=""}}[W])))',
        "latency",
        "up",
        "s",
        (f"{_EDGE}_wire_seconds_bucket",),
        0.01,
        0.5,
    ),
    (
        "log_error_rate",
        f'sum by (service_name, job, simulated) (rate({_LINES}{{severity=~"error|fatal"}}[W]))',
        "errors",
        "up",
        "lines/s",
        (_LINES,),
        0.2,
        1.0,
    ),
    (
        "log_template_rate",
        f'sum by (service_name, template_id, job, simulated) (rate({_LINES}{{template_id!="other"}}[W]))',
        "other",
        "up",
        "lines/s",
        (_LINES,),
        0.5,
        1.0,
    ),
)
