"""How many spans a span that arrived stands for.

OpenTelemetry's consistent probability sampling: ``ot=th:<hex>`` in the tracestate is the rejection threshold, 56 bits
with trailing zeros left out (https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/).
"""

from __future__ import annotations

import re

from aiops.core.signals import Span, label

_MAX = 1 << 56
_THRESHOLD = re.compile(r"(?:^|,)\s*ot=(?:[^,]*;)?th:([0-9a-f]{1,14})(?=[;,\s]|$)")
_RANDOM = re.compile(r"(?:^|,)\s*ot=(?:[^,]*;)?rv:")
_PROBABILITY = ("sampling.probability", "sampler.probability")
_SAMPLED = "aiops.sampled"
MOST = 1e6
"""A count adjusted to more than this is taken as unknown."""


def adjusted_count(span: Span) -> float:
    """1 for a span that was not sampled, 1/p for one sampled with probability p, 0 where p is not known.

    >>> from aiops.core.untrusted import Untrusted
    >>> adjusted_count(Span("a", "b", "", Untrusted("x"), "server", 0, 1, trace_state="ot=th:c"))
    4.0
    """
    if span.trace_state:
        if found := _THRESHOLD.search(span.trace_state):
            threshold = int(found[1].ljust(14, "0"), 16)
            count = _MAX / (_MAX - threshold)
            return count if count <= MOST else 0.0
        if _RANDOM.search(span.trace_state):
            return 0.0
    for name in _PROBABILITY:
        if text := label(span.attributes, name):
            return _of_probability(text)
    if "true" in (label(span.attributes, _SAMPLED), label(span.resource, _SAMPLED)):
        return 0.0
    return 1.0


def _of_probability(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        return 0.0
    return 1.0 / share if 1.0 / MOST <= share <= 1.0 else 0.0
