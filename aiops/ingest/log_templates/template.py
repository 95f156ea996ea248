"""One template, and what its words say of two templates being one."""

from __future__ import annotations

from collections.abc import Sequence

from aiops.core.signals import WILDCARD
from aiops.ingest.log_templates.words import SPLIT

RUN_WORDS = 6
"""Words of one value at most."""


class Template:
    """One template; follow :meth:`root` after any merge."""

    __slots__ = ("dirty", "example", "holes", "id", "key", "merged", "order", "shown", "tokens", "used")

    def __init__(self, id: str, key: str, shown: tuple[str, ...] | None, example: str, order: int) -> None:
        self.id = id
        self.key = key
        self.tokens = tuple(SPLIT.split(key))
        self.shown = shown
        self.example = example
        self.order = order
        self.holes = 0
        self.merged: Template | None = None
        self.used = 0
        self.dirty = True

    def root(self) -> Template:
        found = self
        while found.merged is not None:
            found = found.merged
        return found

    @property
    def text(self) -> str:
        return self.key if self.shown is None else "".join(self.shown)

    def show_too(self, shown: tuple[str, ...] | None) -> None:
        """Widen the text so that it fits another line of the template."""
        mine = self.shown
        if mine is None or mine == shown:
            return
        if shown is None or len(shown) != len(mine) or shown[1::2] != mine[1::2]:
            self.shown = None
        else:
            self.shown = tuple(a if a == b else WILDCARD for a, b in zip(mine, shown, strict=True))
        self.dirty = self.dirty or self.shown != mine


def whole_of(tokens: Sequence[str]) -> int:
    whole = 0
    for place in range(len(tokens)):
        whole ^= hash((place, tokens[place]))
    return whole


def fits_but(a: Sequence[str], b: Sequence[str], place: int) -> bool:
    return len(a) == len(b) and all(i == place or x == y for i, (x, y) in enumerate(zip(a, b, strict=True)))


def fits(wide: Sequence[str], tokens: Sequence[str]) -> bool:
    return all(x == y or (x == WILDCARD and i % 2 == 0) for i, (x, y) in enumerate(zip(wide, tokens, strict=True)))


def is_run(narrow: Sequence[str], tokens: Sequence[str], place: int) -> bool:
    """Whether ``tokens`` are ``narrow`` with words between single spaces where it has the value in ``place``."""
    after = len(narrow) - place - 1
    size = len(tokens) - place - after
    return (
        1 < size < 2 * RUN_WORDS
        and tuple(tokens[:place]) == tuple(narrow[:place])
        and tuple(tokens[len(tokens) - after :]) == tuple(narrow[place + 1 :])
        and all(t == " " for t in tokens[place + 1 : place + size : 2])
        and all(tokens[place : place + size : 2])
    )


def constant_words(tokens: Sequence[str]) -> int:
    return sum(len(t) > 1 and WILDCARD not in t and any(c.isalpha() for c in t) for t in tokens[::2])


def says_something(tokens: Sequence[str], place: int) -> bool:
    """Whether a word of letters is left beside the one in ``place``."""
    return any(
        i != place and len(t) > 1 and t != WILDCARD and any(c.isalpha() for c in t)
        for i, t in enumerate(tokens)
        if i % 2 == 0
    )


def beside(tokens: Sequence[str], place: int) -> bool:
    return (place > 1 and tokens[place - 2].endswith(WILDCARD)) or (
        place + 2 < len(tokens) and tokens[place + 2].startswith(WILDCARD)
    )
