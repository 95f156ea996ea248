"""Silences as people set, list and end them; those in force are held in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from aiops.core.errors import Conflict, Forbidden, InvalidInput
from aiops.core.incident import Silence
from aiops.core.ports import Clock, system_clock
from aiops.core.principal import Principal
from aiops.core.series import MatchOp
from aiops.incidents.matchers import holds, parse_matchers
from aiops.settings import IncidentSettings
from aiops.store.state.silences import SilenceRepository

KEPT_MS = 30 * 86_400_000
READ_AGAIN_MS = 15_000
"""How old the list in memory may be: another service may share the database."""
COMMENT_CAP = 1_000


class Silences:
    """Thread-safe.

    Raises (all methods):
        TransientError: the state store is away.
    """

    def __init__(self, repository: SilenceRepository, settings: IncidentSettings, clock: Clock = system_clock) -> None:
        self._repository = repository
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._held: tuple[Silence, ...] = ()
        self._read_ms = -READ_AGAIN_MS

    def create(
        self, matchers: Sequence[str], principal: Principal, *, duration_s: float, comment: str, starts_ms: int = 0
    ) -> Silence:
        """From now, or from ``starts_ms``, for ``duration_s``; never beyond the principal's label scope.

        Raises:
            InvalidInput: no matcher, one that cannot be read, matchers that hold for everything, no comment, or a
                duration that is not allowed.
        """
        parsed = (*parse_matchers(matchers), *(principal.scope or ()))
        now = self._clock()
        if not any(not holds(m, {}) for m in parsed):
            raise InvalidInput(
                "A silence must not hold for every alert.",
                hint='Give a matcher that asks for something: service="web".',
            )
        if not comment.strip():
            raise InvalidInput("A silence needs a comment that says why.")
        if not 0 < duration_s <= self._settings.silence_max_s:
            most = self._settings.silence_max_s / 3600
            raise InvalidInput(f"A silence lasts between a second and {most:g} h (incidents.silence_max_s).")
        starts = max(starts_ms, now)
        made = Silence(
            self._repository.next_id(), parsed, starts, starts + int(duration_s * 1000), principal.name,
            comment.strip()[:COMMENT_CAP], now,
        )  # fmt: skip
        self._keep(made)
        return made

    def end(self, silence_id: str, principal: Principal) -> Silence:
        """End it now.

        Raises:
            NotFound: there is none of that id.
            Forbidden: it reaches beyond the principal's label scope.
            Conflict: it is over.
        """
        found, now = self._repository.get(silence_id), self._clock()
        if principal.scope is not None and not set(principal.scope) <= set(found.matchers):
            raise Forbidden(f"Silence {silence_id} reaches beyond your scope.")
        if found.ends_ms <= now:
            raise Conflict(f"Silence {silence_id} is over.")
        over = Silence(
            found.id, found.matchers, min(found.starts_ms, now), now, found.author, found.comment, found.created_ms
        )
        self._keep(over)
        return over

    def get(self, silence_id: str) -> Silence:
        """Raises ``NotFound``."""
        return self._repository.get(silence_id)

    def list(self, *, past: bool = False) -> tuple[Silence, ...]:
        """Those in force and to come; with ``past`` also those that ended in the last 30 days."""
        now = self._clock()
        return self._repository.ending_after(now - KEPT_MS if past else now)

    def active(self, now_ms: int) -> tuple[Silence, ...]:
        """Those in force, from memory."""
        with self._lock:
            stale = now_ms - self._read_ms >= READ_AGAIN_MS
        if stale:
            found = self._repository.ending_after(now_ms)
            with self._lock:
                self._held, self._read_ms = found, now_ms
        with self._lock:
            return tuple(s for s in self._held if s.active(now_ms))

    def forget_old(self) -> int:
        """Delete what ended long ago."""
        return self._repository.forget_before(self._clock() - KEPT_MS)

    def _keep(self, silence: Silence) -> None:
        self._repository.save(silence)
        with self._lock:
            self._held = (*(s for s in self._held if s.id != silence.id), silence)


def text_of(silence: Silence) -> list[str]:
    """Its matchers as they are written."""
    return [f'{m.name}{MatchOp(m.op).value}"{m.value}"' for m in silence.matchers]
