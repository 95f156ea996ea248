"""OTLP metrics with data points, resources and scopes left as bytes, and Prometheus' native histogram.

https://github.com/open-telemetry/opentelemetry-proto (metrics/v1) and
https://github.com/prometheus/prometheus/blob/main/prompb/types.proto.
"""

from __future__ import annotations

from typing import Any

from aiops.ingest.messages import message_classes

_POINTS = ("gauge", 5), ("sum", 7), ("histogram", 9), ("exponential_histogram", 10), ("summary", 11)
SHAPES = tuple(name for name, _ in _POINTS)

_classes = message_classes(
    "aiops.otlp",
    {
        "Request": [("resource_metrics", 1, "*ResourceMetrics")],
        "ResourceMetrics": [("resource", 1, "bytes"), ("scope_metrics", 2, "*ScopeMetrics")],
        "ScopeMetrics": [("scope", 1, "bytes"), ("metrics", 2, "*Metric"), ("schema_url", 3, "string")],
        "Metric": [
            ("name", 1, "string"),
            ("description", 2, "string"),
            ("unit", 3, "string"),
            *((name, number, "Points") for name, number in _POINTS),
        ],
        "Points": [("data_points", 1, "*bytes"), ("aggregation_temporality", 2, "int32"), ("is_monotonic", 3, "bool")],
        "Span": [("offset", 1, "sint32"), ("length", 2, "uint32")],
        "Histogram": [
            ("count_int", 1, "?uint64"),
            ("sum", 3, "double"),
            ("schema", 4, "sint32"),
            ("zero_threshold", 5, "double"),
            ("zero_count_int", 6, "?uint64"),
            ("negative_spans", 8, "*Span"),
            ("negative_deltas", 9, "*sint64"),
            ("positive_spans", 11, "*Span"),
            ("positive_deltas", 12, "*sint64"),
            ("reset_hint", 14, "int32"),
            ("timestamp", 15, "int64"),
        ],
    },
)
OuterMetrics: Any = _classes["Request"]
NativeMessage: Any = _classes["Histogram"]
