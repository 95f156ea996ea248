"""What stands before the message in the lines of one source: time, host, process, level, component.

Found by the statistics of the first lines' columns, for no format in particular: a header is the longest run of
leading columns that look alike in nearly all lines, has a time in it, and ends in a column that is plainly
no part of a sentence (a time, a number, a level, one same word, a name before a colon or a bar).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

LEVELS = frozenset(
    {
        "trace",
        "debug",
        "info",
        "information",
        "notice",
        "warn",
        "warning",
        "error",
        "err",
        "severe",
        "crit",
        "critical",
        "alert",
        "emerg",
        "fatal",
        "panic",
        "fine",
        "finer",
        "finest",
        "verbose",
        "log",
        "v",
        "d",
        "i",
        "w",
        "e",
        "f",
    }
)
MAX_COLUMNS = 14
ALIKE = 0.9
"""Share of lines that must look alike in a column."""
MOSTLY = 0.7
FEW = 0.02
"""A column of at most this share of distinct values beside lines may be part of a header."""
_TIME = re.compile(
    r"[\[(<]?(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{2,4}|\d{1,2}:\d\d(?::\d\d)?|\d\d?[-/.]\d\d|\d{8}-"
    r"|\d{10}(?:\.\d+|\d{3}|\d{9})?(?=$|\D)|\d\d?/[A-Z][a-z]{2}/\d{4}:|\d{6}(?:$)|[IWEF]\d{4}$)"
)
_CLOCK = re.compile(r"\d\d:\d\d:\d\d")
_NUMBER = re.compile(r"[^A-Za-z]*\d[^A-Za-z]*\Z")
_MONTH = re.compile(r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\Z")
_PRIORITY = re.compile(r"<\d{1,3}>")
_BOX = r"\[[^\]\n]{1,200}\]"
_COLUMN = re.compile(rf"({_BOX}:?(?=\s)|\S*)\s+")


class Header:
    """A pattern that eats the header of a line; lines of another kind are left whole."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._match = re.compile(pattern).match

    def message(self, line: str) -> str:
        found = self._match(line)
        return line[found.end() :] if found else line


def find_header(lines: Sequence[str]) -> Header | None:
    """The header of most of ``lines``, or ``None`` where they begin with their message."""
    if barred := _barred(lines):
        return barred
    rows = [found for line in lines if len(found := _columns(line)) > 1]
    if len(rows) < max(MOSTLY * len(lines), 1):
        return None
    end = first = 0
    parts: list[str] = []
    for place in range(MAX_COLUMNS):
        here = [row[place] for row in rows if len(row) > place]
        if len(here) < ALIKE * len(rows):
            break
        verdict = _judge(here, after_strong=place == end)
        if verdict is None:
            break
        strong, time, pattern = verdict
        parts.append(pattern)
        first = first or (len(parts) if time else 0)
        if strong:
            end = len(parts)
    if not first:
        return None
    optional = parts[first:end]
    return Header("".join(parts[:first]) + "".join(f"(?:{p}" for p in optional) + ")?" * len(optional))


def _barred(lines: Sequence[str]) -> Header | None:
    """A header of fields between bars, which may hold spaces."""
    fields = timed = 0
    for place in range(MAX_COLUMNS):
        here = [row[place] for line in lines if len(row := line.split("|", MAX_COLUMNS)) > place + 1]
        if len(here) < ALIKE * len(lines):
            break
        fields = place + 1
        timed += sum(bool(_TIME.match(w.strip())) for w in here) >= ALIKE * len(here)
    return Header(r"[^|]*\|" * fields + r"\s*") if fields and timed else None


def _columns(line: str) -> list[str]:
    found: list[str] = []
    at = 0
    while len(found) < MAX_COLUMNS and (column := _COLUMN.match(line, at)):
        found.append(column[1])
        at = column.end()
    return found


def _judge(words: Sequence[str], *, after_strong: bool) -> tuple[bool, bool, str] | None:
    """(ends a header, holds a time, pattern) of one column, or ``None`` where it is part of the message.

    After a column that may as well be the message's first word, a number or one same name ends no header: the first
    lines may all be of one template.
    """
    n = len(words)
    timed = sum(bool(_TIME.match(w) or _PRIORITY.match(w)) for w in words) >= ALIKE * n
    if sum(w[:1] == "[" and w[-1:] in "]:" for w in words) >= ALIKE * n:
        timed = timed or sum(bool(_CLOCK.search(w)) for w in words) >= ALIKE * n
        return True, timed, rf"(?:{_BOX}|\[\S*\]):?\s+"
    if timed:
        return True, True, _alike(words) + r"\s+"
    if sum(bool(_MONTH.match(w)) for w in words) >= ALIKE * n:
        return True, True, r"[A-Z][a-z]{2}\s+"
    if sum(w.strip("[]()<>:,-").lower() in LEVELS for w in words) >= ALIKE * n:
        return True, False, r"\S+\s+"
    if sum(bool(_NUMBER.match(w)) for w in words) >= ALIKE * n:
        return after_strong, False, r"[^\sA-Za-z]+\s+"
    named = sum(w[-1:] in ":]" and len(w) > 1 for w in words)
    counts = Counter(words)
    if named >= ALIKE * n:
        return after_strong or len(counts) > 1, False, r"\S*[:\]]\s+"
    common, times = counts.most_common(1)[0]
    if times >= ALIKE * n and not any(c.isalnum() for c in common):
        return True, False, re.escape(common) + r"\s+"
    if len(counts) <= max(FEW * n, 8) or len({_outline(w) for w in words}) <= 2:
        return False, False, r"\S+\s+"
    return None


def _alike(words: Sequence[str]) -> str:
    """A pattern of words of one outline, or of any word with a digit."""
    outline, times = Counter(map(_outline, words)).most_common(1)[0]
    if times < ALIKE * len(words):
        return r"[^\s\d]*+\d\S*+"
    return re.escape(outline).replace("0", r"\d++").replace("a", "[A-Za-z]++")


def _outline(word: str) -> str:
    return re.sub(r"[0-9]+", "0", re.sub(r"[A-Za-z]+", "a", word))
