"""Words of a log line: where a line splits, and which words are values by their very shape."""

from __future__ import annotations

import re
from enum import IntEnum

from aiops.core.signals import WILDCARD

SPLIT = re.compile(r"""([\s:=()\[\],;{}|"'#]+)""")
"""Splits into words at even and separators at odd places."""


class Kind(IntEnum):
    """What a word is by its shape alone."""

    CONSTANT = 0
    DOTTED = 1
    """A dotted name, such as a class: a value where it varies, else part of the text."""
    SOFT = 2
    """A value for grouping, shown as long as it never varies."""
    VALUE = 3


_ONE_DIGIT_IN_A_WORD = re.compile(r"[A-Za-z$._/+-]*[A-Za-z]\d[A-Za-z$._/+-]*\Z")
_PREFIXED_NUMBER = re.compile(r"([A-Za-z]*[G-Zg-z][A-Za-z]*[.-])-?\d[\w.-]*\Z")
_AFTER_DOTS = re.compile(r"(.*\.\.)(.*)\Z", re.DOTALL)
_HOST = re.compile(
    r"(?!(?:com|org|net|io|java|javax|android)\.)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
    r"\.(com|net|org|edu|gov|mil|int|io|dev|local|lan|internal|localdomain|arpa|info|biz|[a-z]{2})\Z"
)
_TWO_LETTER_FILES = frozenset(
    {"py", "js", "so", "sh", "cc", "rb", "go", "md", "rs", "pl", "ts", "gz", "db", "pb", "cs", "ko"}
)
_DOTTED = re.compile(r"[A-Za-z_$][\w$-]*(?:\.[A-Za-z_$][\w$-]*)+\Z")
_BOOLEANS = frozenset({"true", "false", "True", "False", "TRUE", "FALSE"})
_NOTHING = frozenset({"null", "NULL", "None", "nil", "undefined", "NaN"})
_PATH_STARTS = ("/", "./", "../", "~/")
_DIGIT = re.compile(r"[0-9]").search

DATE_WORDS = frozenset(
    {
        "Jan",
        "Feb",
        "Mar",
        "Apr",
        "May",
        "Jun",
        "Jul",
        "Aug",
        "Sep",
        "Oct",
        "Nov",
        "Dec",
        "Mon",
        "Tue",
        "Wed",
        "Thu",
        "Fri",
        "Sat",
        "Sun",
        "AM",
        "PM",
        "UTC",
        "GMT",
        "PST",
        "PDT",
        "EST",
        "EDT",
        "CST",
        "CDT",
        "MST",
        "MDT",
        "CET",
        "CEST",
        "BST",
    }
)
UNITS = frozenset(
    {
        "B",
        "byte",
        "bytes",
        "kB",
        "KB",
        "MB",
        "GB",
        "TB",
        "KiB",
        "MiB",
        "GiB",
        "TiB",
        "kb",
        "mb",
        "gb",
        "ns",
        "us",
        "ms",
        "s",
        "sec",
        "secs",
        "second",
        "seconds",
        "m",
        "min",
        "mins",
        "minute",
        "minutes",
        "h",
        "hr",
        "hrs",
        "hour",
        "hours",
        "d",
        "day",
        "days",
        "%",
        "percent",
    }
)
HEX_PAIR = re.compile(r"[0-9A-Fa-f]{2,}\Z")


def shape(word: str) -> tuple[str, Kind]:
    """The word as a template shows it, and its kind.

    >>> shape("10.0.0.7"), shape("took")
    (('<*>', <Kind.VALUE: 3>), ('took', <Kind.CONSTANT: 0>))
    >>> shape("core.2275"), shape("SOCKS5")
    (('core.<*>', <Kind.SOFT: 2>), ('SOCKS5', <Kind.CONSTANT: 0>))
    """
    if word.isalpha():
        return _lettered(word)
    return _mixed(word)


def _lettered(word: str) -> tuple[str, Kind]:
    if word in _BOOLEANS:
        return WILDCARD, Kind.VALUE
    return (word, Kind.SOFT) if word in _NOTHING else (word, Kind.CONSTANT)


def _mixed(word: str) -> tuple[str, Kind]:
    if not word:
        return "", Kind.CONSTANT
    if word[0] in "0123456789" and word[-1] not in ".!?":
        return WILDCARD, Kind.VALUE
    if word[-1] in ".!?":
        bare = word.rstrip(".!?")
        shown, kind = shape(bare)
        return shown + word[len(bare) :], kind
    if ".." in word and (dots := _AFTER_DOTS.match(word)):
        shown, kind = shape(dots[2])
        return dots[1] + shown, Kind.CONSTANT if kind is Kind.VALUE else kind
    if len(word) > 1 and (word.startswith(_PATH_STARTS) or "://" in word or "@" in word.strip("@")):
        return WILDCARD, Kind.VALUE
    if _DIGIT(word):
        if _ONE_DIGIT_IN_A_WORD.match(word) and not _HOST.match(word):
            return word, Kind.CONSTANT
        prefixed = _PREFIXED_NUMBER.match(word)
        return (prefixed[1] + WILDCARD, Kind.SOFT) if prefixed else (WILDCARD, Kind.VALUE)
    if "." in word:
        host = _HOST.match(word)
        if "/" in word or (host and host[1] not in _TWO_LETTER_FILES):
            return WILDCARD, Kind.VALUE
        if _DOTTED.match(word):
            return word, Kind.DOTTED
    return word, Kind.CONSTANT
