"""Follow-ups: "and per instance?", "only prod", "why?" take what they leave out from the question before."""

from __future__ import annotations

import re

from aiops.agent import time_phrases
from aiops.agent.ports import ConversationStore
from aiops.agent.words import content
from aiops.core.conversation import Speaker
from aiops.core.query import Question

_FOLLOW = re.compile(
    r"^\W*(?:and|but|or|also|now|only|just|what about|how about|same|per|by|for|in|on|why|since|then|ok(?:ay)?)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\b(?:it|its|those|them|they|same)\b|\b(?:this|that|there)\b(?!\s+\w)", re.IGNORECASE)
LOOK_BACK = 8


def is_follow_up(text: str) -> bool:
    """Whether a question leans on the one before: it begins like one, or is short and points back."""
    words = content(text)
    return (_FOLLOW.search(text) is not None and len(words) <= 4) or (
        len(words) <= 2 and _PRONOUN.search(text) is not None
    )


def in_context(question: Question, store: ConversationStore | None) -> tuple[Question, str]:
    """The question with the words of the one before where it is a follow-up, and a note saying so."""
    if store is None or not question.conversation or not is_follow_up(question.text):
        return question, ""
    asked = [m.text for m in store.messages(question.conversation, LOOK_BACK) if m.speaker is Speaker.PERSON]
    start = next((i for i in range(len(asked) - 1, -1, -1) if not is_follow_up(asked[i])), None)
    if start is None:
        return question, ""
    whole = asked[start]
    for text in (*asked[start + 1 :], question.text):
        whole = _joined(whole, text, question)
    joined = Question(whole, question.principal, question.asked_ms, question.conversation, question.zone)
    return joined, f"Taken as a follow-up: {whole}"


def _joined(base: str, text: str, question: Question) -> str:
    """What is said last comes first: where both name a service or a grouping, the first one found counts."""
    phrase = time_phrases.find(text, question.asked_ms, question.zone)
    if phrase.window is not None or phrase.horizon_s is not None:
        base = " ".join(time_phrases.find(base, question.asked_ms, question.zone).rest.split())
    return f"{text.strip().rstrip(' ?.!')}: {base.strip()}"
