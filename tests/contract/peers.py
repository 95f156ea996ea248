"""A loopback HTTP server that plays an outside provider: scripted answers, every request kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.loopback import Answer, Received, serving

__all__ = ["Answer", "Peer", "peer"]


@dataclass
class Peer:
    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: deque[Answer] = field(default_factory=deque)
    usual: Answer = field(default_factory=Answer)

    def then(self, *answers: Answer) -> None:
        """What to answer next; afterwards the usual again."""
        self.answers.extend(answers)

    def answer(self, request: Received) -> Answer:
        self.received.append(request)
        return self.answers.popleft() if self.answers else self.usual


@contextmanager
def peer(usual: Answer | None = None) -> Iterator[Peer]:
    state = Peer(usual=usual or Answer())
    with serving(state.answer) as state.url:
        yield state
