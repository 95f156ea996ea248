"""Conversations with the assistant as they are remembered. Times are ms UTC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aiops.core.evidence import Answer


class Speaker(StrEnum):
    PERSON = "person"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; ``answer_id`` is set on the assistant's turns."""

    conversation: str
    speaker: Speaker
    text: str
    time_ms: int
    answer_id: str = ""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer and who asked for it."""

    answer: Answer
    asked_by: str
    asked_ms: int
    conversation: str = ""


@dataclass(frozen=True, slots=True)
class SavedQuestion:
    """A question kept under a name that everyone may use; ``zone`` is an IANA name, empty for the service's."""

    name: str
    text: str
    zone: str
    author: str
    saved_ms: int


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person thought of an answer."""

    answer_id: str
    principal: str
    helpful: bool
    note: str
    time_ms: int
