"""What one question may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuestionLimits:
    """Characters asked, calls to the LLM and seconds of each, steps of the plan."""

    text: int = 2000
    llm_calls: int = 6
    llm_seconds: float = 30.0
    steps: int = 8
