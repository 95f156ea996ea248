"""Words of a question: normalised, folded by meaning, stripped to what carries content."""

from __future__ import annotations

import re
from functools import cache

from aiops.agent.concepts import load_words

_TOKEN = re.compile(r"[a-z0-9_]+(?:[./:-][a-z0-9_]+)*%?", re.IGNORECASE)

STOP = frozenset(
    [
        "a",
        "about",
        "again",
        "all",
        "also",
        "am",
        "an",
        "and",
        "any",
        "anyone",
        "anything",
        "are",
        "as",
        "at",
        "back",
        "be",
        "been",
        "being",
        "but",
        "by",
        "can",
        "could",
        "currently",
        "did",
        "do",
        "does",
        "doing",
        "done",
        "each",
        "else",
        "even",
        "ever",
        "every",
        "everything",
        "far",
        "few",
        "find",
        "for",
        "from",
        "get",
        "gets",
        "getting",
        "give",
        "given",
        "go",
        "goes",
        "going",
        "return",
        "returns",
        "returning",
        "got",
        "had",
        "has",
        "have",
        "having",
        "here",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "just",
        "know",
        "let",
        "like",
        "look",
        "looking",
        "lot",
        "lots",
        "made",
        "make",
        "many",
        "may",
        "me",
        "might",
        "more",
        "most",
        "much",
        "my",
        "near",
        "need",
        "no",
        "not",
        "now",
        "of",
        "off",
        "on",
        "one",
        "ones",
        "only",
        "or",
        "other",
        "our",
        "out",
        "over",
        "own",
        "per",
        "please",
        "quite",
        "really",
        "right",
        "s",
        "same",
        "see",
        "seems",
        "she",
        "should",
        "show",
        "shows",
        "side",
        "so",
        "some",
        "someone",
        "soon",
        "still",
        "such",
        "tell",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "thing",
        "things",
        "this",
        "those",
        "through",
        "to",
        "today",
        "too",
        "under",
        "up",
        "us",
        "very",
        "want",
        "was",
        "way",
        "we",
        "well",
        "were",
        "what",
        "whats",
        "when",
        "where",
        "whether",
        "which",
        "while",
        "who",
        "whole",
        "will",
        "with",
        "within",
        "would",
        "yet",
        "you",
        "your",
        "am",
        "im",
        "its",
        "lately",
        "anymore",
        "display",
        "check",
        "list",
        "plot",
        "graph",
        "chart",
        "trend",
        "percent",
        "percentage",
        "amount",
        "level",
        "levels",
        "value",
        "values",
        "number",
        "count",
        "rate",
        "last",
        "past",
        "ago",
        "hour",
        "hours",
        "minute",
        "minutes",
        "day",
        "days",
        "week",
        "weeks",
        "month",
        "months",
        "second",
        "seconds",
        "yesterday",
        "tonight",
        "recently",
        "recent",
        "moment",
        "since",
        "during",
        "between",
        "until",
        "before",
        "after",
        "top",
        "highest",
        "lowest",
        "worst",
        "biggest",
        "largest",
        "high",
        "low",
        "above",
        "below",
        "exceed",
        "exceeds",
        "exceeding",
        "less",
        "least",
        "greater",
        "fewer",
    ]
)
"""Words that say nothing about which concept is meant; numbers, windows and comparisons are slots, read elsewhere."""


@cache
def _folded() -> dict[str, str]:
    return {word: group[0] for group in load_words().same for word in group}


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 5 and word.endswith("ing"):
        return word[:-3]
    if len(word) > 4 and word.endswith("ed"):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def fold(word: str) -> str:
    """The word that stands for all of one meaning."""
    table = _folded()
    if word in table:
        return table[word]
    stem = _stem(word)
    return table.get(stem, stem.rstrip("e") if len(stem) > 4 else stem)


def raw_tokens(text: str) -> list[str]:
    """Lower-case words as written; names keep their dots, slashes, colons and dashes."""
    return [t.lower() for t in _TOKEN.findall(text.replace("’", "'").replace("'s ", " "))]


def content(text: str) -> list[str]:
    """Folded words that carry content, compound words also in their parts, in order."""
    out: list[str] = []
    for token in raw_tokens(text):
        parts = [p for p in re.split(r"[./:_-]", token.rstrip("%")) if p]
        for part in [token, *parts] if len(parts) > 1 else parts:
            if part in STOP or part.isdigit() or (len(part) < 2):
                continue
            out.append(fold(part))
    return out


@cache
def group(name: str) -> frozenset[str]:
    """A named group of the word table, as written and folded."""
    words = load_words().groups[name]
    return frozenset((*words, *map(fold, words)))


@cache
def _domain_words() -> dict[str, frozenset[str]]:
    return {name: frozenset(fold(w) for w in words) for name, words in load_words().domains.items()}


def domains_of(tokens: list[str]) -> frozenset[str]:
    """Domains that a question names by their own words."""
    have = set(tokens)
    return frozenset(name for name, words in _domain_words().items() if words & have)
