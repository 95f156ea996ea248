"""Prometheus' text formats: text 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/) and OpenMetrics
1.0 (https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md).

A scrape brings the same series again and again. So the text before a value is handed on as it is, for the caller to
look up; :func:`labels_of_series` reads it once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from aiops.core.series import METRIC_NAME, Labels, MetricMetadata, labels_of
from aiops.core.untrusted import Untrusted

OPENMETRICS = "application/openmetrics-text"
TEXT = "text/plain"
ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
TYPES = frozenset(
    {"counter", "gauge", "histogram", "summary", "untyped", "unknown", "info", "stateset", "gaugehistogram"}
)
_QUOTED = r'"(?:\\.|[^"\\])*"'
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(rf"[ \t]*(?:([a-zA-Z_][a-zA-Z0-9_]*)|({_QUOTED}))[ \t]*(?:=[ \t]*({_QUOTED})[ \t]*)?(,|(?=\}}))")
_SERIES = re.compile(rf"[ \t]*(?:[a-zA-Z_:][a-zA-Z0-9_:]*)?[ \t]*(?:\{{(?:[^\"}}]|{_QUOTED})*\}})?")
_COMMENT = re.compile(rf"#[ \t]+(HELP|TYPE|UNIT)[ \t]+({_QUOTED}|[^ \t]+)[ \t]*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class BadExposition(ValueError):
    """A text that is not what its type says; the message names the line."""


@dataclass(slots=True)
class TextExemplar:
    """An exemplar beside a sample: its series as text, its labels, value, and time (ms; 0 where there is none)."""

    series: str
    labels: Labels
    value: float
    ts: int


@dataclass(slots=True)
class Exposition:
    """What a text holds. ``series``, ``values`` and ``times`` run in parallel; a time is ms, ``None`` where the line
    has none."""

    series: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    times: list[int | None] = field(default_factory=list)
    exemplars: list[TextExemplar] = field(default_factory=list)
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)


def parse(text: str, *, openmetrics: bool) -> Exposition:
    """Read a whole text. Raises ``BadExposition`` for the first line that is wrong; nothing of the text counts then."""
    out = Exposition()
    series, values, times = out.series, out.values, out.times
    ended = False
    for number, given in enumerate(text.split("\n"), 1):
        line = given if openmetrics else given.strip(" \t\r")
        if not line:
            if openmetrics and not ended and number <= text.count("\n"):
                raise _bad(number, "an empty line", line)
            continue
        if ended:
            raise _bad(number, "data after # EOF", line)
        if line[0] == "#":
            if openmetrics and line == "# EOF":
                ended = True
            else:
                _comment(line, out.metadata)
            continue
        try:
            if openmetrics and " # " in line:
                line = _take_exemplar(line, out)
            end = line.rfind("}") + 1
            if end:
                name, rest = line[:end], line[end:].split()
            else:
                name, *rest = line.split()
            values.append(go_number(rest[0]))
            if len(rest) == 1:
                times.append(None)
            elif len(rest) == 2:
                times.append(round(go_number(rest[1]) * 1000) if openmetrics else int(rest[1]))
            else:
                raise ValueError(line)
        except (ValueError, IndexError, OverflowError):
            raise _bad(number, "no sample", line) from None
        series.append(name)
    if openmetrics and not ended:
        raise BadExposition("data does not end with # EOF")
    return out


def go_number(text: str) -> float:
    """A number as Go reads it. Raises ``ValueError``."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float.fromhex(text) if "x" in text[:3].lower() else float(text)


def labels_of_series(text: str) -> Labels:
    """``name{label="value"}``, or ``{"a name", "a label"="value"}``, as labels. Raises ``BadExposition``."""
    text = text.strip(" \t")
    pairs: dict[str, str] = {}
    match = _NAME.match(text)
    if match:
        pairs[METRIC_NAME] = match[0]
    at = match.end() if match else 0
    rest = text[at:].lstrip(" \t")
    if not rest and match:
        return tuple(pairs.items())
    if not (rest.startswith("{") and rest.endswith("}")):
        raise _wrong(text)
    _read_pairs(rest, pairs, text)
    if not pairs.get(METRIC_NAME):
        raise _wrong(text)
    return labels_of(pairs)


def _read_pairs(text: str, pairs: dict[str, str], whole: str) -> None:
    """The pairs between braces; a quoted word without a value is the metric's name."""
    at = 1
    while text[at:].strip(" \t") != "}":
        match = _LABEL.match(text, at)
        if match is None:
            raise _wrong(whole)
        name = match[1] if match[2] is None else unquoted(match[2])
        if match[3] is None:
            if match[2] is None or METRIC_NAME in pairs:
                raise _wrong(whole)
            name, value = METRIC_NAME, name
        else:
            value = unquoted(match[3])
        if not name or name in pairs:
            raise _wrong(whole)
        pairs[name] = value
        at = match.end()


def unquoted(text: str) -> str:
    """A quoted text with its escapes undone; a backslash before any other letter stays."""
    simple = {"n": "\n", '"': '"', "\\": "\\"}
    return _ESCAPE.sub(lambda m: simple.get(m[1], m[0]), text[1:-1]) if "\\" in text else text[1:-1]


def _take_exemplar(line: str, out: Exposition) -> str:
    """The line without its exemplar, which goes to ``out``; a ``#`` within a label value is none."""
    match = _SERIES.match(line)
    start = match.end() if match else 0
    at = line.find(" # {", start)
    if at < 0:
        return line
    rest = line[at + 3 :]
    end = rest.rfind("}") + 1
    pairs: dict[str, str] = {}
    _read_pairs(rest[:end], pairs, line)
    words = rest[end:].split()
    if not 1 <= len(words) <= 2:
        raise ValueError(line)
    ts = round(go_number(words[1]) * 1000) if len(words) == 2 else 0
    out.exemplars.append(TextExemplar(line[:start], labels_of(pairs), go_number(words[0]), ts))
    return line[:at]


def _comment(line: str, metadata: dict[str, MetricMetadata]) -> None:
    match = _COMMENT.match(line)
    if match is None:
        return
    word, text = match[1], match[3]
    name = unquoted(match[2]) if match[2].startswith('"') else match[2]
    held = metadata.get(name, MetricMetadata(name))
    if word == "TYPE":
        kind = text.strip().lower()
        if kind not in TYPES:
            raise BadExposition(f"invalid metric type {Untrusted(kind).display(40)!r}")
        metadata[name] = MetricMetadata(name, "unknown" if kind == "untyped" else kind, held.unit, held.help)
    elif word == "UNIT":
        metadata[name] = MetricMetadata(name, held.type, text.strip(), held.help)
    else:
        metadata[name] = MetricMetadata(name, held.type, held.unit, unquoted(f'"{text}"'))


def _bad(number: int, what: str, line: str) -> BadExposition:
    return BadExposition(f"line {number}: {what}: {Untrusted(line).display(120)}")


def _wrong(text: str) -> BadExposition:
    return BadExposition(f"not a series: {Untrusted(text).display(120)}")
