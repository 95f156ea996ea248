"""What a person asks."""

from __future__ import annotations

from dataclasses import dataclass

from aiops.core.principal import Principal


@dataclass(frozen=True, slots=True)
class Question:
    """A question in words. ``conversation`` ties follow-ups; ``zone`` is an IANA time zone name."""

    text: str
    principal: Principal
    asked_ms: int
    conversation: str = ""
    zone: str = "UTC"
