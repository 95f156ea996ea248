"""Label scopes as people write them: ``team="shop"``, ``namespace=~"a|b"``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiops.core.errors import InvalidInput
from aiops.core.series import Matcher, MatchOp

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^"\s]*))\s*')
_ESCAPE = re.compile(r"\\(.)")


def parse_scope(texts: Iterable[str]) -> tuple[Matcher, ...] | None:
    """Matchers of a key's scope, all of which must hold; ``None`` (everything) for no text at all.

    Raises:
        InvalidInput: a text that is no matcher, a bad regex, or a matcher that an absent label satisfies.
    """
    matchers = tuple(_matcher(text) for text in texts)
    return matchers or None


def _matcher(text: str) -> Matcher:
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise InvalidInput(f"'{text}' is not a label matcher.", hint="""Write it like team="shop" or env=~"a|b".""")
    name, op, quoted, plain = found.groups()
    value = plain if quoted is None else _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], quoted)
    if op in ("=~", "!~"):
        import re2

        try:
            re2.compile(value)
        except re2.error as error:
            raise InvalidInput(f"'{text}' holds a bad regular expression.", hint="RE2 syntax applies.") from error
    if op == "=" and value == "":
        raise InvalidInput(f"'{text}' can never match: a row that lacks a label of the scope is invisible.")
    return Matcher(name, MatchOp(op), value)
