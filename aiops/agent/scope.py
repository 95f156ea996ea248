"""What the assistant answers about at all: the gate before planning."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from aiops.agent.words import content, fold, group

FOREIGN = (
    "I don't know that; I can only answer about what is watched here: hosts, services and their requests, logs, "
    "traces, incidents, changes and costs."
)
NO_ORDERS = (
    "I don't take that as a question: my rules cannot be changed in a question, I keep no secrets to show, and I "
    "delete nothing."
)
EXAMPLES = (
    "what is wrong right now?",
    "which hosts are low on disk?",
    "what changed today?",
    "what did we spend this week?",
)

HELP = (
    "I can answer about hosts, services and their requests, logs, traces, incidents, changes and costs, each with the "
    "query and the data behind it. Ask in your own words."
)
_HELP = re.compile(
    r"^\W*(?:help|help me|usage|\?+|what (?:can|do) (?:i|you|we) (?:do|ask|answer|know)(?: (?:for me|here|you|about))?"
    r"|how (?:do i|can i|does this) (?:use this|ask|work)|what are you(?: for)?|who are you)\W*$",
    re.IGNORECASE,
)

_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass|skip)\b.{0,40}\b(?:instructions?|rules?|prompts?|polic(?:y"
    r"|ies)|guard\w*"
    r"|previous|above)\b"
    r"|^\W*(?:system|assistant|developer)\s*:|\byou are now\b|\bpretend (?:to be|you)\b|\bact as (?:a|an|my)\b"
    r"|\b(?:reveal|show|print|give|tell|display|repeat|dump)\b.{0,40}\b(?:passwords?|secrets?|credentials?|api keys?"
    r"|private keys?|system prompt|your (?:prompt|instructions))\b"
    r"|^\W*(?:(?:please|now|and)\s+)*(?:drop|delete|truncate|wipe|erase|destroy)\b|\bdrop (?:all |the )?tables?\b"
    r"|\brm -rf\b",
    re.IGNORECASE,
)
_TASKS = re.compile(
    r"^\W*(?:(?:please|can you|could you|pls)\s+)*(?:(?:write|compose|draft|generate|code|implement|refactor"
    r"|translate|sing"
    r"|recommend|book|order|buy|cook|draw)\s+(?:me\s+)?(?:a|an|some|this|my|the|us|\w+\s+to)\b"
    r"|(?:e-?mail|text|call|phone|message|ping|write to|inform)\s+(?:my|the|our|him|her|them|everyone)\b"
    r"|tell me (?:a|an|another) \w+$|tell us (?:a|an) \w+$)"
    r"|^\W*(?:hi|hello|hey|thanks?(?: you)?|good (?:morning|evening|night)|bye)\W*$"
    r"|\b(?:you|your|yourself)\b.*\b(?:name|old|love|feel|feeling|born|favou?rite|human|alive)\b"
    r"|\b(?:old|name|love|feel|human|alive)\b.*\byou(?:rself)?\b",
    re.IGNORECASE,
)
_WEAK = group("weak")
"""Words that fit many things, none of them by itself: without a companion they name no concept."""


_DOING = re.compile(
    r"^\W*(?:(?:please|can you|could you|pls)\s+)*(?:ack|acknowledge|resolve|assign|create|add|build|enable|disable"
    r"|update|make|upgrade|install|deploy|close(?!\s+to)|set up|configure)\s+(?!.*\?)",
    re.IGNORECASE,
)
LOOKS_ONLY = (
    "I only look things up and propose actions for approval. Incidents are acknowledged and resolved in the console "
    "or with the command line."
)


def refusal(text: str) -> str:
    """What to say to orders about the assistant itself and to tasks of another kind; empty for a question."""
    if _ORDERS.search(text):
        return NO_ORDERS
    if _DOING.search(text):
        return LOOKS_ONLY
    return FOREIGN if _TASKS.search(text) else ""


def asks_for_help(text: str) -> bool:
    """Whether a question is about what can be asked."""
    return _HELP.search(text) is not None


def is_thin(asked: Collection[str], known: Collection[str]) -> bool:
    """Whether what is understood of a question is only words that fit anything, beside words that nothing knows.

    Args:
        asked: folded content words of the question without names of things.
        known: those that the best concept is spoken of with.
    """
    understood = set(asked) & set(known)
    return not (understood - _WEAK) and bool(set(asked) - understood)


def is_vague(asked: Collection[str]) -> bool:
    """Whether a question consists of such words alone."""
    plain = {fold(w) for w in ("slow", "full", "hot", "fast")}
    return bool(asked) and set(asked) <= _WEAK - plain


def spelled(word: str, vocabulary: Collection[str]) -> str:
    """The known word that a misspelled one stands for; empty where none is near or several are as near."""
    if len(word) < 5 or not word.isalpha():
        return ""
    same_letters = [w for w in vocabulary if w != word and len(w) == len(word) and sorted(w) == sorted(word)]
    if len(same_letters) == 1:
        return same_letters[0]
    near = difflib.get_close_matches(word, [w for w in vocabulary if w[:1] == word[:1]], n=2, cutoff=0.86)
    return near[0] if near and (len(near) == 1 or content(near[0]) == content(near[1])) else ""
