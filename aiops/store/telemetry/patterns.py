"""Log lines by what they have in common: by template, or masked where they were stored before there were any."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aiops.core.series import Labels
from aiops.core.signals import OTHER_TEMPLATE, LogPattern
from aiops.core.untrusted import Untrusted
from aiops.store.telemetry.log_templates import LogTemplates

LINE_CAP = 2000
OTHER_LINES = "(other lines)"
"""What stands for lines past the cap on templates."""
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
    """Lines of one service that share a template, or their text where they have none.

    How many, their worst severity, first and last time (ns), the template's id, the first line and its resource.
    """

    service: str
    body: str
    count: int
    severity: int
    first_ns: int
    last_ns: int
    template_id: str = ""
    example: str = ""
    resource: Labels = ()


def group(lines: Iterable[Lines], limit: int, templates: LogTemplates) -> list[LogPattern]:
    """Patterns of counted lines, most frequent first: by template, and by masked text for lines without one."""
    groups: dict[tuple[str, str, str], Lines] = {}
    for line in lines:
        root = templates.root(line.template_id) if line.template_id else None
        id = root.template.id if root is not None else line.template_id
        text = (
            OTHER_LINES if id == OTHER_TEMPLATE else root.template.text.raw if root else mask(line.body or line.example)
        )
        key = line.service, id, text if not id else ""
        known = groups.get(key)
        oldest = line if known is None or line.first_ns < known.first_ns else known
        groups[key] = Lines(
            line.service,
            text,
            line.count + (known.count if known else 0),
            max(line.severity, known.severity if known else 0),
            oldest.first_ns,
            max(line.last_ns, known.last_ns if known else line.last_ns),
            id,
            oldest.example,
            oldest.resource,
        )
    ranked = sorted(groups.values(), key=lambda g: (-g.count, g.service, g.body))[:limit]
    return [_pattern(g, templates) for g in ranked]


def _pattern(lines: Lines, templates: LogTemplates) -> LogPattern:
    known = templates.root(lines.template_id) if lines.template_id else None
    return LogPattern(
        lines.service,
        Untrusted(lines.body),
        lines.count,
        lines.severity,
        lines.first_ns // 1_000_000,
        lines.last_ns // 1_000_000,
        lines.template_id,
        Untrusted(lines.example[:LINE_CAP]),
        known.first_ms if known else 0,
        lines.resource,
    )
