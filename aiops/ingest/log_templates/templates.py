"""The templates of one source of lines, and how they widen and merge.

Templates only ever widen: two that turn out to be one become the older, whose id stays; the other's id leads to it.
Three things join templates: a word that varies (at least ``VARIES`` different ones where all else agrees, fewer
where they were seen to vary elsewhere), dotted names that vary, and a form that one of them has already.
Related: Drain (He et al., ICWS 2017) for the tree of fixed depth, Brain (Yu et al., TSC 2023) for merging by
what stays constant; here a hash of a form without one of its words stands for the tree.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from aiops.core.signals import OTHER_TEMPLATE, WILDCARD, LogTemplate
from aiops.core.untrusted import Untrusted
from aiops.ingest.log_templates.forms import Form, collapse, form, split
from aiops.ingest.log_templates.template import (
    Template,
    beside,
    constant_words,
    fits,
    fits_but,
    is_run,
    says_something,
    whole_of,
)
from aiops.ingest.log_templates.words import SPLIT, Kind, shape

VARIES = 4
"""Different words in one place that make it a value."""
VARIES_FIRST = 10
"""The same for the first word, which is mostly what the line is about."""
VARIES_DOTTED = 3
VARIES_KNOWN = 2
"""The same for words that were seen to vary in another template."""
KNOWN_SHARE = 0.7
RUN_ANCHORS = 3
"""Constant words that a template must have for a run of words in it to count as its value."""
ROUNDS = 4
RUN_NEAR = 200
"""Templates with the same first and last word past which runs are not looked for, since it takes their square."""
VOCABULARY = 20_000


class Templates:
    """The live templates of one source. Not thread-safe.

    Args:
        service: whose lines; part of every id.
        limit: live templates at most; lines of further ones are of the template ``other``.
    """

    def __init__(self, service: str, limit: int) -> None:
        self.service = service
        self.limit = limit
        self.live: dict[int, Template] = {}
        self.other = Template(OTHER_TEMPLATE, WILDCARD, None, "", -1)
        self._by_key: dict[str, Template] = {}
        self._by_hole: dict[tuple[int, int, int], Template] = {}
        self._wide: dict[int, list[Template]] = defaultdict(list)
        self._vocabulary: set[str] = set()
        self._order = 0
        self.unsettled = 0
        self.changed: dict[str, Template] = {}

    # ------------------------------------------------------------------ one line

    def of(self, seen: Form, example: str) -> Template:
        """The template of a form, made where there is none."""
        template = self._find(seen.key)
        if template is None:
            if len(self.live) >= self.limit:
                return self.other
            template = Template(self._id(seen.key), seen.key, seen.shown, example, self._order)
            self._add(template)
            self.unsettled += 1
        else:
            template.show_too(seen.shown)
        if template.dirty:
            self._note(template)
        return template

    def _id(self, key: str) -> str:
        return hashlib.blake2b(f"{self.service}\0{key}".encode("utf-8", "replace"), digest_size=6).hexdigest()

    def _find(self, key: str) -> Template | None:
        found = self._by_key.get(key)
        if found is not None:
            return found.root()
        tokens = SPLIT.split(key)
        size = len(tokens)
        whole = whole_of(tokens)
        for place in range(0, size, 2):
            word = tokens[place]
            if word and WILDCARD not in word:
                found = self._by_hole.get((size, place, whole ^ hash((place, word))))
                if found is not None and found.merged is None and fits_but(found.tokens, tokens, place):
                    self._by_key[key] = found
                    return found
        for found in self._wide.get(size, ()):
            if found.merged is None and fits(found.tokens, tokens):
                self._by_key[key] = found
                return found
        return None

    def _add(self, template: Template) -> None:
        self._order += 1
        self.live[template.order] = template
        self._register(template)

    def _register(self, template: Template) -> None:
        self._by_key[template.key] = template
        size, whole = len(template.tokens), whole_of(template.tokens)
        for place in range(0, size, 2):
            if template.tokens[place] == WILDCARD:
                self._by_hole.setdefault((size, place, whole ^ hash((place, WILDCARD))), template)
        if template.holes > 1 and template not in self._wide[size]:
            self._wide[size].append(template)

    def _note(self, template: Template) -> None:
        template.dirty = False
        self.changed[template.id] = template

    # ------------------------------------------------------------------ all of them

    def settle(self) -> bool:
        """Join templates that the lines so far show to be one; returns whether any were."""
        joined = False
        for _ in range(ROUNDS):
            changed = self._join_varying() | self._join_dotted() | self._join_runs()
            joined = joined or changed
            if not changed:
                break
        self.unsettled = 0
        return joined

    def _join_varying(self) -> bool:
        places: dict[tuple[int, int, int], list[Template]] = defaultdict(list)
        for template in self.live.values():
            tokens = template.tokens
            size, whole = len(tokens), whole_of(tokens)
            for place in range(0, size, 2):
                if tokens[place]:
                    places[size, place, whole ^ hash((place, tokens[place]))].append(template)
        joined = False
        groups = [(place, found) for (_, place, _), found in places.items() if len(found) > 1]
        groups.sort(key=lambda g: (-len(g[1]), g[0], g[1][0].order))
        for place, found in groups:
            first = found[0].tokens
            same = [t for t in found if len(t.tokens) == len(first) and fits_but(first, t.tokens, place)]
            live = {t.root().order: t.root() for t in same}
            if len(live) < 2 or not says_something(first, place):
                continue
            words = {t.tokens[place] for t in same}
            if not self._varies(words, place):
                continue
            self._learn(words)
            tokens = (*first[:place], WILDCARD, *first[place + 1 :])
            self._join(list(live.values()), "".join(tokens), 1)
            joined = True
        return joined | self._join_collapsing()

    def _varies(self, words: set[str], place: int) -> bool:
        if WILDCARD in words:
            return True
        known = sum(word in self._vocabulary for word in words)
        if known >= KNOWN_SHARE * len(words):
            return len(words) >= VARIES_KNOWN
        return len(words) >= (VARIES if place else VARIES_FIRST)

    def _learn(self, words: Iterable[str]) -> None:
        if len(self._vocabulary) < VOCABULARY:
            self._vocabulary.update(w for w in words if WILDCARD not in w)

    def _join_collapsing(self) -> bool:
        """A word beside a value, ``host:<*>``, whose template is known without it."""
        joined = False
        for template in list(self.live.values()):
            if template.merged is not None:
                continue
            tokens = template.tokens
            for place in range(0, len(tokens), 2):
                word = tokens[place]
                if not word or WILDCARD in word or not beside(tokens, place):
                    continue
                key = collapse("".join((*tokens[:place], WILDCARD, *tokens[place + 1 :])))
                wider = self._by_key.get(key)
                wider = wider.root() if wider is not None else None
                if wider is not None and wider is not template and wider.key == key and says_something(tokens, place):
                    self._join([wider, template], key, 0)
                    joined = True
                    break
        return joined

    def _join_dotted(self) -> bool:
        groups: dict[str, list[Template]] = defaultdict(list)
        for template in self.live.values():
            tokens = template.tokens
            if any("." in word and shape(word)[1] is Kind.DOTTED for word in tokens[::2]):
                plain = (WILDCARD if "." in t and shape(t)[1] is Kind.DOTTED else t for t in tokens)
                groups[collapse("".join(plain))].append(template)
        joined = False
        for key, found in groups.items():
            wider = self._by_key.get(key)
            wider = wider.root() if wider is not None else None
            if wider is not None and wider.key == key and wider not in found:
                found.append(wider)
            elif len(found) < VARIES_DOTTED:
                continue
            if len(found) > 1 and says_something(SPLIT.split(key), -1):
                self._join(found, key, 1)
                joined = True
        return joined

    def _join_runs(self) -> bool:
        """A value of several words: templates that are another one with a run of words in a value's place."""
        ends: dict[tuple[str, str], list[Template]] = defaultdict(list)
        for template in self.live.values():
            ends[template.tokens[0], template.tokens[-1]].append(template)
        joined = False
        for narrow in list(self.live.values()):
            if narrow.merged is not None or len(narrow.tokens) < 5:
                continue
            near = ends[narrow.tokens[0], narrow.tokens[-1]]
            if not 2 <= len(near) <= RUN_NEAR or constant_words(narrow.tokens) < RUN_ANCHORS:
                continue
            for place in range(2, len(narrow.tokens) - 2, 2):
                if narrow.tokens[place] != WILDCARD:
                    continue
                longer = [
                    t for t in near if t.merged is None and t is not narrow and is_run(narrow.tokens, t.tokens, place)
                ]
                after = len(narrow.tokens) - place - 1
                runs = [{*t.tokens[place : len(t.tokens) - after : 2]} - {WILDCARD} for t in longer]
                if len(longer) < VARIES:
                    longer = [t for t, run in zip(longer, runs, strict=True) if run <= self._vocabulary]
                if longer:
                    self._join([narrow, *longer], narrow.key, 0)
                    joined = True
                    break
        return joined

    def _join(self, found: Sequence[Template], key: str, holes: int) -> None:
        key = collapse(key)
        known = self._by_key.get(key)
        roots = {t.root().order: t.root() for t in found}
        if known is not None and known.root().key == key:
            roots[known.root().order] = known.root()
        oldest = roots[min(roots)]
        for order, template in sorted(roots.items()):
            if template is oldest:
                continue
            oldest.show_too(template.shown)
            oldest.holes = max(oldest.holes, template.holes)
            template.merged = oldest
            del self.live[order]
            self._note(template)
        oldest.holes += holes
        oldest.key, oldest.tokens = key, tuple(SPLIT.split(key))
        self._register(oldest)
        self._note(oldest)

    # ------------------------------------------------------------------ memory

    def forget(self, before: int) -> list[Template]:
        """Drop templates last used before a line's number; their ids stay in what was stored."""
        gone = [t for t in self.live.values() if t.used < before]
        for template in gone:
            del self.live[template.order]
        if gone:
            self._by_key = {k: r for k, t in self._by_key.items() if (r := t.root()).order in self.live}
            self._by_hole.clear()
            self._wide.clear()
            for template in list(self.live.values()):
                self._register(template)
        return gone

    def describe(self, template: Template) -> LogTemplate:
        into = template.merged.root().id if template.merged is not None else ""
        return LogTemplate(
            template.id,
            self.service,
            Untrusted(template.text),
            template.key,
            template.holes,
            into,
            Untrusted(template.example),
        )

    def restore(self, rows: Iterable[LogTemplate]) -> None:
        """Take up what :meth:`describe` gave, oldest first."""
        for row in rows:
            if row.merged_into or row.id == OTHER_TEMPLATE or len(self.live) >= self.limit:
                continue
            shown = None if row.text.raw == row.key else form(split(row.text.raw)).shown
            template = Template(row.id, row.key, shown, row.example.raw, self._order)
            template.holes, template.dirty = row.holes, False
            self._add(template)
