"""What kind of thing a metric measures, and which way is bad, from its name alone."""

from __future__ import annotations

import itertools
import re
from enum import StrEnum


class MetricKind(StrEnum):
    LATENCY = "latency"
    ERRORS = "errors"
    SATURATION = "saturation"
    TRAFFIC = "traffic"
    NODE = "node"
    """Of the machine under a service: it only breaks ties."""
    OTHER = "other"


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    BOTH = "both"


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_GOOD = _set("success succeeded availability available uptime healthy up ready apdex")
_ERRORS = _set(
    "error errors err fail failed failure failures exception exceptions fault faults 5xx 4xx 500 503 timeout timeouts "
    "rejected dropped restarts restart"
)
_LATENCY = _set("latency duration durations rt delay wait p50 p90 p95 p99 elapsed")
_SATURATION = _set(
    "cpu memory mem heap throttled throttling throttle queue queued pool saturation utilization utilisation load rss "
    "threads disk filesystem fds gc lag backlog oom inflight connections waiting"
)
_TRAFFIC = _set(
    "request requests rps qps ops throughput workload calls count bytes received receive transmit transmitted sent "
    "network net packets syscall syscalls reads writes read write messages rate hits"
)


_CLIENT = _set("client upstream outbound egress")


def is_client_side(name: str) -> bool:
    """Whether a latency is measured by the caller, the way to the callee included.

    >>> is_client_side("http_client_request_duration_seconds"), is_client_side("PodServerLatencyP95(s)")
    (True, False)
    """
    return any(word.lower() in _CLIENT for word in _WORDS.findall(name))


_OWN = _set("cpu memory mem heap disk filesystem fds oom rss throttled throttling gc")


def is_own_resource(name: str) -> bool:
    """Whether a metric or alert is of a resource that a service uses up itself, which no slow callee can cause.

    >>> is_own_resource("HighCPUUsage"), is_own_resource("QueueGrowing")
    (True, False)
    """
    return any(word.lower() in _OWN for word in _WORDS.findall(name))


def metric_kind(name: str) -> tuple[MetricKind, Direction]:
    """Kind and bad direction.

    >>> metric_kind("PodSuccessRate(%)")
    (<MetricKind.ERRORS: 'errors'>, <Direction.DOWN: 'down'>)
    >>> metric_kind("container_cpu_usage_seconds_total")[0]
    <MetricKind.SATURATION: 'saturation'>
    """
    pieces = _WORDS.findall(name)
    words = {w.lower() for w in pieces}
    words |= {a.lower() + b.lower() for a, b in itertools.pairwise(pieces) if len(a) == 1 or b.isdigit()}
    if words & {"node", "host", "machine"} and not words & _LATENCY:
        return MetricKind.NODE, Direction.BOTH
    if words & _GOOD and not words & _LATENCY:
        return MetricKind.ERRORS, Direction.DOWN
    if words & _ERRORS:
        return MetricKind.ERRORS, Direction.UP
    if words & _LATENCY or {"response", "time"} <= words:
        return MetricKind.LATENCY, Direction.UP
    if words & _SATURATION:
        return MetricKind.SATURATION, Direction.UP
    if words & _TRAFFIC:
        return MetricKind.TRAFFIC, Direction.BOTH
    return MetricKind.OTHER, Direction.BOTH
