"""The miner: log records in, the same records with the ids of their templates out.

Each service is mined apart, its header found from its first lines. Memory is bounded whatever comes: services,
templates, remembered forms and words have caps; past them templates unused for long give way, and lines of what
does not fit are of the template ``other``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiops.core.signals import LogRecord, LogTemplate
from aiops.ingest.log_templates.forms import form
from aiops.ingest.log_templates.header import Header, find_header
from aiops.ingest.log_templates.lines import message_of
from aiops.ingest.log_templates.template import Template
from aiops.ingest.log_templates.templates import Templates
from aiops.ingest.log_templates.words import SPLIT, Kind, shape

SERVICES = 256
TEMPLATES = 1000
"""Live templates of a service."""
FORMS = 8000
"""Masked lines remembered of a service."""
WORDS = 100_000
HEADER_LINES = (20, 200)
"""After how many lines a service's header is looked for, once more, and no more."""
FORMAT_LINES, FORMAT_SHARE = 1000, 0.8
"""Of so many lines this share without the known header means that the format changed."""
IDLE_LINES = 20_000
"""Lines of a service after which an unused template gives way when there is no room."""
SETTLE_SHARE = 0.05
SETTLE_LEAST = 8
OVERFLOW = "(other services)"


_SEPARATORS = frozenset(":=()[],;{}|\"'#")


class _Words(dict[str, str]):
    """A part of a line to what it is in a masked line; numbers and the like are not kept."""

    def __missing__(self, part: str) -> str:
        if not part or part[0] in _SEPARATORS or part[0].isspace():
            self[part] = found = _spaced(part) if part.strip() != part else " ".join(part.split())
            return found
        found, kind = shape(part)
        if (kind is not Kind.VALUE or part.isalpha()) and len(part) <= 64:
            if len(self) >= WORDS:
                self.clear()
            self[part] = found
        return found


def _spaced(part: str) -> str:
    inner = " ".join(part.split())
    if not inner:
        return " "
    return (" " if part[0].isspace() else "") + inner + (" " if part[-1].isspace() else "")


class SourceMiner:
    """Lines of one source to templates. Not thread-safe."""

    def __init__(self, service: str, words: _Words, limit: int = TEMPLATES) -> None:
        self.templates = Templates(service, limit)
        self.header: Header | None = None
        self.lines = 0
        self._words = words
        self._forms: dict[str, Template] = {}
        self._early: list[str] = []
        self._headed = False
        self._strange = self._stripped = 0

    def mine(self, lines: Sequence[str]) -> list[Template]:
        """A template a line; :meth:`Template.root` after later calls tells what became of it."""
        if not self._headed:
            self._look_for_header(lines)
        strip = self.header.message if self.header is not None else None
        whole = 0
        part_of, forms, split = self._words.__getitem__, self._forms, SPLIT.split
        number = self.lines
        found: list[Template] = []
        for line in lines:
            if strip is not None:
                message = strip(line)
                whole += message is line
                line = message if message[:1] != "{" else message_of(message).line
            parts = split(line)
            masked = "".join(map(part_of, parts))
            template = forms.get(masked)
            if template is None:
                template = self._first(masked, parts, line, number)
            elif template.merged is not None:
                forms[masked] = template = template.root()
            number += 1
            template.used = number
            found.append(template)
        self.lines = number
        if strip is not None:
            self._note_format(whole, len(lines))
        if self.templates.unsettled >= max(SETTLE_LEAST, SETTLE_SHARE * len(self.templates.live)):
            self.templates.settle()
        return found

    def _first(self, masked: str, parts: list[str], line: str, number: int) -> Template:
        for i in range(1, len(parts), 2):
            parts[i] = self._words[parts[i]]
        seen = form(parts)
        template = self.templates.of(seen, line)
        if template is self.templates.other and self._make_room(number):
            template = self.templates.of(seen, line)
        if template is not self.templates.other:
            if len(self._forms) >= FORMS:
                for old in list(self._forms)[: FORMS // 2]:
                    del self._forms[old]
            self._forms[masked] = template
        return template

    def _make_room(self, number: int) -> bool:
        if self.templates.unsettled and self.templates.settle() and len(self.templates.live) < self.templates.limit:
            return True
        gone = {t.order for t in self.templates.forget(number - IDLE_LINES)}
        if gone:
            self._forms = {m: t for m, t in self._forms.items() if t.root().order not in gone}
        return bool(gone)

    def _look_for_header(self, lines: Sequence[str]) -> None:
        before = len(self._early)
        self._early.extend(line for line in lines[: HEADER_LINES[1] - before] if line)
        now = len(self._early)
        for wanted in HEADER_LINES:
            if before < wanted <= now or (wanted == HEADER_LINES[0] and before < wanted < now):
                found = find_header(self._early)
                if found is not None:
                    self.use_header(found)
                    if before:
                        self.templates.forget(self.lines + 1)
                        self._forms.clear()
                    return
        if now >= HEADER_LINES[1]:
            self._headed = True
            self._early.clear()

    def _note_format(self, whole: int, lines: int) -> None:
        """Look for a header anew where lines do not have the known one any more."""
        self._strange += whole
        self._stripped += lines - whole
        if self._strange + self._stripped >= FORMAT_LINES:
            if self._strange > FORMAT_SHARE * (self._strange + self._stripped):
                self.header, self._headed = None, False
            self._strange = self._stripped = 0

    def use_header(self, header: Header | None) -> None:
        self.header, self._headed = header, True
        self._early.clear()


@dataclass(frozen=True, slots=True)
class MinerState:
    """What is kept over a restart: templates oldest first, and the header's pattern by service."""

    templates: tuple[LogTemplate, ...] = ()
    headers: Mapping[str, str] | None = None


class TemplateMiner:
    """Mines the records of all services; safe for threads."""

    def __init__(self, state: MinerState | None = None, templates_per_service: int = TEMPLATES) -> None:
        self._lock = threading.Lock()
        self._words = _Words()
        self._limit = templates_per_service
        self._sources: dict[str, SourceMiner] = {}
        if state is not None:
            self._restore(state)

    def _restore(self, state: MinerState) -> None:
        by_service: dict[str, list[LogTemplate]] = {}
        for row in state.templates:
            by_service.setdefault(row.service, []).append(row)
        for service, rows in by_service.items():
            self._source(service).templates.restore(rows)
        for service, pattern in (state.headers or {}).items():
            self._source(service).use_header(Header(pattern))

    def mine(self, records: Sequence[LogRecord]) -> tuple[LogRecord, ...]:
        """The records with their template's id; fields of JSON and logfmt bodies become attributes.

        A body's level counts where the record has none.
        """
        read = [_read(record) for record in records]
        by_service: dict[str, list[int]] = {}
        for i, (record, _) in enumerate(read):
            by_service.setdefault(record.service, []).append(i)
        ids = [""] * len(read)
        with self._lock:
            for service, places in by_service.items():
                source = self._source(service)
                for i, template in zip(places, source.mine([read[i][1] for i in places]), strict=True):
                    ids[i] = template.root().id
        return tuple(replace(record, template_id=id) for (record, _), id in zip(read, ids, strict=True))

    def changes(self) -> tuple[LogTemplate, ...]:
        """Templates that are new, wider or merged since the last call, for the store to keep."""
        with self._lock:
            found: list[LogTemplate] = []
            for source in self._sources.values():
                changed, source.templates.changed = source.templates.changed, {}
                found += [source.templates.describe(t) for t in changed.values()]
            return tuple(found)

    def headers(self) -> dict[str, str]:
        """The pattern of each service's header, where it has one."""
        with self._lock:
            return {name: s.header.pattern for name, s in self._sources.items() if s.header is not None}

    def _source(self, service: str) -> SourceMiner:
        found = self._sources.get(service)
        if found is None:
            if len(self._sources) >= SERVICES:
                service = OVERFLOW
            found = self._sources.setdefault(service, SourceMiner(service, self._words, self._limit))
        return found


def _read(record: LogRecord) -> tuple[LogRecord, str]:
    message = message_of(record.body.raw)
    if message.attributes or (message.severity and not record.severity_number):
        known = dict(record.attributes)
        attributes = tuple(sorted({**dict(message.attributes), **known}.items()))
        record = replace(record, attributes=attributes, severity_number=record.severity_number or message.severity)
    return record, message.line


def templates_of(lines: Iterable[str]) -> list[tuple[str, str]]:
    """(id, text) a line of one source, once all of them are seen; for benchmarks and one-off reports."""
    source = SourceMiner("", _Words())
    found = source.mine([message_of(line).line for line in lines])
    source.templates.settle()
    text = {t: (t.root().id, t.root().text) for t in set(found)}
    return [text[t] for t in found]
