"""What must be undone, in the reverse order of what was done."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Lifetime:
    """A stack of ways to stop parts; a part that does not stop cleanly is logged and holds up no other."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def on_stop(self, *undo: Callable[[], object]) -> None:
        """The last one given runs first."""
        self._undo += undo

    def stop(self) -> None:
        """Safe to call twice."""
        while self._undo:
            undo = self._undo.pop()
            try:
                undo()
            except Exception:
                log.exception("a part did not stop cleanly")
