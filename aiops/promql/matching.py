"""Regular expressions as Prometheus has them: RE2, fully anchored, ``.`` matches newlines."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import re2

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.dot_nl = True
_OPTIONS.max_mem = 8 << 20
_GO_WORDS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid character class": "invalid character class range",
    "trailing \\": "trailing backslash at end of expression",
    "bad named capture group": "invalid named capture",
    "invalid named capture group": "invalid named capture",
}
"""RE2's complaints in the words of Go's regexp."""
_TEMPLATE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")


@lru_cache(maxsize=1024)
def compile_regex(pattern: str) -> Any:
    """A compiled RE2 pattern; use ``fullmatch``. Raises ``ValueError`` saying what is wrong."""
    try:
        return re2.compile(pattern, _OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        said = error.args[0] if error.args else error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        what, _, where = text.partition(": ")
        raise ValueError(f"{_GO_WORDS.get(what, what)}{f': `{where}`' if where else ''}") from None


def expand(template: str, match: Any) -> str:
    """Go's ``Regexp.Expand``: ``$1``, ``${1}``, ``$name``; unknown groups are empty, ``$$`` is a dollar."""

    def one(found: re.Match[str]) -> str:
        name = found.group(1) or found.group(2)
        if name is None:
            return "$"
        try:
            return match.group(int(name) if name.isdigit() else name) or ""
        except (IndexError, KeyError, re2.error):
            return ""

    return _TEMPLATE.sub(one, template)
