"""Places in a query: line and column, and messages that name them."""

from __future__ import annotations

import re

from aiops.core.errors import QueryError


def error_at(text: str, start: int, message: str, hint: str = "") -> QueryError:
    """A parse error with line:column (in bytes), as Prometheus writes it; the hint quotes the place."""
    near = text[start : start + 30].split("\n")[0].strip()
    where = f"Near `{near}`." if near else "At the end of the query." if text.strip() else ""
    return QueryError(f"{place(text, start)}: parse error: {message}", hint=f"{where} {hint}".strip())


def place(text: str, start: int) -> str:
    """``line:column`` of a character offset; the column counts bytes from 1, as Prometheus has it."""
    start = max(0, min(start, len(text)))
    begin = text.rfind("\n", 0, start) + 1
    column = len(text[begin:start].encode("utf-8", "surrogateescape")) + 1
    return f"{text.count(chr(10), 0, start) + 1}:{column}"


def caret(text: str, message: str) -> str:
    """The line of a query that a message (``line:column: …``) means, and a caret under the place; empty without one.

    >>> print(caret("sum(\\n  x y\\n)", "2:5: parse error: unexpected identifier"))
      x y
        ^
    """
    found = re.match(r"(\d+):(\d+): ", message)
    lines = text.split("\n")
    if not found or int(found[1]) > len(lines):
        return ""
    line = lines[int(found[1]) - 1]
    before = line.encode("utf-8", "surrogateescape")[: int(found[2]) - 1].decode("utf-8", "replace")
    cut = max(0, len(before) - 100)
    blank = "".join(c if c == "\t" else " " for c in before[cut:])
    return f"{line[cut : cut + 160]}\n{blank}^"
