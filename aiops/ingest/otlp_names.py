"""OpenTelemetry names in Prometheus form, by the compatibility specification.

https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/ as Prometheus' own
translator does it, with suffixes for unit and type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from aiops.core.series import Labels

_UNITS = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
    "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes",
    "TiBy": "tibibytes", "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius",
    "Hz": "hertz", "1": "", "%": "percent",
}  # fmt: skip
_PER = {"s": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_NOT_NAME = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_LABEL = re.compile(r"[^a-zA-Z0-9_]")


@lru_cache(maxsize=20_000)
def metric_name(name: str, unit: str, kind: str) -> str:
    """The Prometheus name; ``kind`` is ``counter``, ``gauge`` or another of Prometheus' words.

    >>> metric_name("http.server.request.duration", "s", "histogram")
    'http_server_request_duration_seconds'
    >>> metric_name("system.cpu.utilization", "1", "gauge")
    'system_cpu_utilization_ratio'
    >>> metric_name("requests", "{request}", "counter")
    'requests_total'
    """
    tokens = [t for t in _NOT_NAME.split(name) if t]
    main, _, per = unit.partition("/")
    if (word := _unit(main, _UNITS)) and word not in tokens:
        tokens.append(word)
    if (word := _unit(per, _PER)) and word not in tokens:
        tokens += ["per", word]
    if kind == "counter":
        tokens = [*(t for t in tokens if t != "total"), "total"]
    elif kind == "gauge" and main == "1" and not per:
        tokens = [*(t for t in tokens if t != "ratio"), "ratio"]
    text = "_".join(tokens)
    return f"_{text}" if text[:1].isdigit() else text


def unit_word(unit: str) -> str:
    """The unit in words, as metric metadata names it."""
    main, _, per = unit.partition("/")
    words = [_unit(main, _UNITS)]
    if per and (word := _unit(per, _PER)):
        words += ["per", word]
    return "_".join(w for w in words if w)


def _unit(unit: str, words: dict[str, str]) -> str:
    unit = unit.strip()
    if "{" in unit or "}" in unit:
        return ""
    return "_".join(t for t in _NOT_NAME.split(words.get(unit, unit)) if t)


@lru_cache(maxsize=20_000)
def label_name(name: str) -> str:
    """
    >>> label_name("http.response.status_code"), label_name("2xx")
    ('http_response_status_code', 'key_2xx')
    """
    text = _NOT_LABEL.sub("_", name)
    if text[:1].isdigit():
        return f"key_{text}"
    if text.startswith("_") and not text.startswith("__"):
        return f"key{text}"
    return text


def labels_from(attributes: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Attributes as labels; values of names that come out the same are joined by ``;`` in the order of names."""
    labels: dict[str, str] = {}
    for name, value in sorted(attributes):
        key = label_name(name)
        if key and value:
            labels[key] = f"{labels[key]};{value}" if key in labels else value
    return labels


def identity(resource: Labels) -> dict[str, str]:
    """``job`` and ``instance`` of a resource."""
    known = dict(resource)
    service, namespace = known.get("service.name", ""), known.get("service.namespace", "")
    job = f"{namespace}/{service}" if namespace and service else service
    found = {"job": job, "instance": known.get("service.instance.id", "")}
    return {k: v for k, v in found.items() if v}
