"""The form of one log line: the key under which lines of one kind meet, and the words it shows.

What a word is depends on its neighbours as well as its shape: the value of ``key=``, quoted text, a unit after a
number, a weekday beside a date, hexadecimal pairs. In the key each value is ``<*>`` and a run of values is one, so
that lists of any length meet; a quantity said twice, ``1165 bytes (1.13 KB)``, is one value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aiops.core.signals import WILDCARD
from aiops.ingest.log_templates.words import DATE_WORDS, HEX_PAIR, SPLIT, UNITS, Kind, shape

_RUN = re.compile(r"<\*>(?:[\s,:./|_#-]*<\*>)+")
_UNIT = "\x01"
_QUANTITY = re.compile(r"<\*> \x01(?: \(<\*> \x01\))?")
_CONSTRUCTOR = ("=", "(", "{", "[")
_QUOTED_WORDS = 16


@dataclass(frozen=True, slots=True)
class Form:
    """What a line looks like.

    Attributes:
        key: separators and constant words as they are, values as ``<*>``; runs of values joined.
        shown: words at even and separators at odd places; a value that may yet be constant is written out.
    """

    key: str
    shown: tuple[str, ...]


def form(parts: Sequence[str]) -> Form:
    """The form of a line split by :data:`words.SPLIT`, white space in separators already single."""
    words, seps = list(parts[0::2]), [*parts[1::2], ""]
    shapes = [shape(word) for word in words]
    shown, kinds = [s[0] for s in shapes], [s[1] for s in shapes]
    last = len(words) - 1
    for i, word in enumerate(words):
        if not word or kinds[i] is Kind.VALUE:
            continue
        before, after = seps[i - 1] if i else "", seps[i]
        if i and _is_value_of_key(before, after, words[i - 1]):
            kinds[i] = Kind.SOFT
        elif word in DATE_WORDS:
            if _beside_value(i, before, after, kinds, " ") or (
                i < last - 1 and words[i + 1] in DATE_WORDS and kinds[i + 2] is Kind.VALUE
            ):
                kinds[i], shown[i] = Kind.VALUE, WILDCARD
        elif i and word in UNITS and kinds[i - 1] is Kind.VALUE and before == " ":
            kinds[i] = Kind.SOFT
            words[i] = _UNIT
        elif HEX_PAIR.match(word) and (
            _beside_value(i, before, after, kinds, ":-")
            or (i < last and before == after == ":" and HEX_PAIR.match(words[i + 1]))
        ):
            kinds[i], shown[i] = Kind.VALUE, WILDCARD
    pieces: list[str] = []
    keyed: list[str] = []
    i = 0
    while i <= last:
        end = _quote_end(i, seps, words)
        if end:
            text = "".join(w + s for w, s in zip(shown[i : end + 1], [*seps[i:end], ""], strict=True))
            pieces.append(WILDCARD if set(kinds[i : end + 1]) == {Kind.VALUE} else text)
            keyed.append(WILDCARD if text else "")
            i = end
        else:
            pieces.append(shown[i])
            keyed.append(_UNIT if words[i] == _UNIT else WILDCARD if kinds[i] is Kind.SOFT else shown[i])
        pieces.append(seps[i])
        keyed.append(seps[i])
        i += 1
    return Form(collapse("".join(keyed)), tuple(pieces[:-1]))


def collapse(key: str) -> str:
    """Runs of values as one.

    >>> collapse("from <*>:<*> to <*>, <*>, <*>; x=<*>")
    'from <*> to <*>; x=<*>'
    """
    if _UNIT in key:
        key = _QUANTITY.sub(WILDCARD, key).replace(_UNIT, WILDCARD)
    key = key.replace("<*> ()", "<*> (<*>)")
    return _RUN.sub(WILDCARD, key)


def split(line: str) -> list[str]:
    """Words at even and separators at odd places, white space within separators as one space."""
    parts = SPLIT.split(line)
    for i in range(1, len(parts), 2):
        separator = parts[i]
        if len(separator) > 1 or separator == "\t":
            parts[i] = " ".join(separator.split()) if separator.strip() == separator else _one_space(separator)
    return parts


def _one_space(separator: str) -> str:
    return re.sub(r"\s+", " ", separator)


def _is_value_of_key(before: str, after: str, key: str) -> bool:
    bare = before.rstrip(" ")
    return bare.endswith("=") and bool(key or len(bare) > 1) and not after.startswith(_CONSTRUCTOR)


def _beside_value(i: int, before: str, after: str, kinds: Sequence[Kind], separators: str) -> bool:
    return (i > 0 and before != "" and before in separators and kinds[i - 1] is Kind.VALUE) or (
        i < len(kinds) - 1 and after != "" and after in separators and kinds[i + 1] is Kind.VALUE
    )


def _quote_end(i: int, seps: Sequence[str], words: Sequence[str]) -> int:
    """The last word of a quotation that begins with word ``i``, or 0. An apostrophe within a word opens none."""
    if not i:
        return 0
    quote = seps[i - 1][-1:]
    if quote not in ('"', "'") or (quote == "'" and seps[i - 1] == "'" and words[i - 1]):
        return 0
    for j in range(i, min(i + _QUOTED_WORDS, len(words) - 1)):
        if seps[j][:1] == quote:
            return j
        if quote in seps[j]:
            return 0
    return 0
