"""Masks the varying parts of log lines, so that lines of one kind group together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aiops.core.signals import LogPattern
from aiops.core.untrusted import Untrusted

LINE_CAP = 2000
_MASKS = (
    (re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<ip>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<hex>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{6,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r'"[^"]{0,200}"'), '"<str>"'),
    (re.compile(r"\d+(?:\.\d+)?"), "<n>"),
)


def mask(line: str) -> str:
    """The line with ids, addresses, times, quoted text and numbers replaced.

    >>> mask("took 12.5 ms for order 4711 from 10.0.0.7:8080")
    'took <n> ms for order <n> from <ip>'
    """
    text = line[:LINE_CAP]
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return text


@dataclass(frozen=True, slots=True)
class Lines:
    """Equal lines of one service: how many, their worst severity, first and last time (ns)."""

    service: str
    body: str
    count: int
    severity: int
    first_ns: int
    last_ns: int


def group(lines: Iterable[Lines], limit: int) -> list[LogPattern]:
    """Patterns of counted lines, most frequent first."""
    groups: dict[tuple[str, str], Lines] = {}
    for line in lines:
        key = line.service, mask(line.body)
        known = groups.get(key, line)
        groups[key] = Lines(
            *key,
            known.count + line.count if key in groups else line.count,
            max(known.severity, line.severity),
            min(known.first_ns, line.first_ns),
            max(known.last_ns, line.last_ns),
        )
    ranked = sorted(groups.values(), key=lambda g: (-g.count, g.service, g.body))[:limit]
    return [
        LogPattern(g.service, Untrusted(g.body), g.count, g.severity, g.first_ns // 1_000_000, g.last_ns // 1_000_000)
        for g in ranked
    ]
