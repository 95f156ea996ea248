"""OpenTelemetry names in Prometheus form, by the compatibility specification.

https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/ as Prometheus 3 does it, with its
four translation strategies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
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
_NOT_TOKEN = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_NAME = re.compile(r"[^a-zA-Z0-9:_]+")
_NOT_LABEL = re.compile(r"[^a-zA-Z0-9_]")
IDENTIFYING = ("service.name", "service.namespace", "service.instance.id")


class Strategy(StrEnum):
    """How names are translated; the words are Prometheus' ``otlp.translation_strategy``."""

    ESCAPE_WITH_SUFFIXES = "UnderscoreEscapingWithSuffixes"
    KEEP_WITH_SUFFIXES = "NoUTF8EscapingWithSuffixes"
    ESCAPE_WITHOUT_SUFFIXES = "UnderscoreEscapingWithoutSuffixes"
    KEEP = "NoTranslation"

    @property
    def escapes(self) -> bool:
        return self in (Strategy.ESCAPE_WITH_SUFFIXES, Strategy.ESCAPE_WITHOUT_SUFFIXES)

    @property
    def suffixes(self) -> bool:
        return self in (Strategy.ESCAPE_WITH_SUFFIXES, Strategy.KEEP_WITH_SUFFIXES)


@lru_cache(maxsize=20_000)
def metric_name(name: str, unit: str, kind: str, strategy: Strategy = Strategy.ESCAPE_WITH_SUFFIXES) -> str:
    """The Prometheus name, empty where nothing is left of it; ``kind`` is a word such as ``counter`` or ``gauge``.

    >>> metric_name("http.server.request.duration", "s", "histogram")
    'http_server_request_duration_seconds'
    >>> metric_name("system.cpu.utilization", "1", "gauge")
    'system_cpu_utilization_ratio'
    >>> metric_name("requests", "{request}", "counter")
    'requests_total'
    >>> metric_name("requests.served", "By/s", "gauge", Strategy.KEEP_WITH_SUFFIXES)
    'requests.served_bytes_per_second'
    """
    if strategy is Strategy.KEEP:
        return name
    if strategy is Strategy.KEEP_WITH_SUFFIXES:
        return _suffixed(name, unit, kind)
    if strategy is Strategy.ESCAPE_WITH_SUFFIXES:
        text = "_".join(_tokens(name, unit, kind))
    else:
        text = "_".join(t for t in _NOT_NAME.split(name) if t)
    if not text.strip("_"):
        return text if text == name else ""
    return f"_{text}" if text[0].isdigit() else text


def _tokens(name: str, unit: str, kind: str) -> list[str]:
    tokens = [t for t in _NOT_TOKEN.split(name) if t]
    main, per = (_clean(word) for word in _unit_words(unit))
    if main in tokens:
        main = ""
    per = "" if per == "per_" else per.removesuffix("_")
    tokens += [word for word in (main.removesuffix("_") if per else main, per) if word]
    if kind == "counter":
        tokens = [*(t for t in tokens if t != "total"), "total"]
    elif kind == "gauge" and unit == "1":
        tokens = [*(t for t in tokens if t != "ratio"), "ratio"]
    return tokens


def _suffixed(name: str, unit: str, kind: str) -> str:
    """Suffixes on a name that keeps its characters; one that is there already is not repeated."""
    ends: list[str] = []
    if unit == "1" and kind == "gauge":
        name, ends = _without(name, "ratio"), ["ratio"]
    if kind == "counter":
        name, ends = _without(name, "total"), ["total"]
    main, per = _unit_words(unit)
    if per:
        name, ends = _without(name, per), [per, *ends]
    if main and not name.endswith(main):
        name = f"{name}_{main}"
    return "_".join([name, *ends])


def _without(name: str, suffix: str) -> str:
    """The name less a suffix and the character before it."""
    return name[: -len(suffix) - 1] if name.endswith(suffix) and len(name) > len(suffix) + 1 else name


def unit_word(unit: str) -> str:
    """The unit in words, as metric metadata names it."""
    return "_".join(word for word in (_clean(word) for word in _unit_words(unit)) if word).strip("_")


def _unit_words(unit: str) -> tuple[str, str]:
    """The unit's own word and that of its ``per``; either may be empty."""
    main, _, per = unit.partition("/")
    main, per = main.strip(), per.strip()
    word = "" if "{" in main or "}" in main else _UNITS.get(main, main)
    per = "" if "{" in per or "}" in per else _PER.get(per, per)
    return word, f"per_{per}" if per else ""


def _clean(word: str) -> str:
    return re.sub("__+", "_", _NOT_TOKEN.sub("_", word)).removeprefix("_")


@lru_cache(maxsize=20_000)
def label_name(name: str, strategy: Strategy = Strategy.ESCAPE_WITH_SUFFIXES) -> str:
    """
    >>> label_name("http.response.status_code"), label_name("2xx")
    ('http_response_status_code', 'key_2xx')
    """
    if not strategy.escapes:
        return name
    text = _NOT_LABEL.sub("_", name)
    if text != name and not text.strip("_"):
        return ""
    if text[:1].isdigit():
        return f"key_{text}"
    if text.startswith("_") and not text.startswith("__"):
        return f"key{text}"
    return text


def labels_from(
    attributes: Iterable[tuple[str, str]], strategy: Strategy = Strategy.ESCAPE_WITH_SUFFIXES
) -> dict[str, str]:
    """Attributes as labels; values of names that come out the same are joined by ``;`` in the order of names."""
    labels: dict[str, str] = {}
    for name, value in sorted(attributes):
        key = label_name(name, strategy)
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
