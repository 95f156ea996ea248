"""What alerts teach about services: which share a place, and which fire together time and again.

Counted online from the starts of alerts, in memory; deterministic for the same alerts in the same order. Callers
serialise calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

TOGETHER_MS = 300_000
"""Starts this close together are counted as one occasion."""
EPISODE_MS = 1_800_000
"""A service that starts to fire again sooner than this has the same occasion still."""
LEAST_TIMES, LEAST_SHARE, LEAST_LIFT = 3, 0.5, 3.0
RECENT = 500
"""Starts within the last minutes that a new one is compared with at most."""
PLACES, PAIRS = 20_000, 50_000
"""Values of places and pairs of services that are remembered at most; the rarest are forgotten first."""


class Companions:
    """Learns by :meth:`learn` and answers for two services or one place."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], set[str]] = {}
        self._lately: dict[tuple[str, str], dict[str, int]] = {}
        self._last: dict[str, int] = {}
        self._recent: deque[tuple[int, str]] = deque(maxlen=RECENT)
        self._times: dict[str, int] = {}
        self._together: dict[tuple[str, str], list[int]] = {}
        self._since_ms: int | None = None
        self._now_ms = 0

    def learn(self, service: str, places: Iterable[tuple[str, str]], starts_ms: int) -> None:
        """One alert that begins to fire; out of order is fine, it only counts for less."""
        if not service:
            return
        places = tuple(places)
        for place in places:
            self._at.setdefault(place, set()).add(service)
        self._since_ms = starts_ms if self._since_ms is None else min(self._since_ms, starts_ms)
        self._now_ms = max(self._now_ms, starts_ms)
        before = self._last.get(service)
        self._last[service] = max(starts_ms, before or 0)
        if before is None or starts_ms - before > EPISODE_MS:
            self._times[service] = self._times.get(service, 0) + 1
        while self._recent and self._now_ms - self._recent[0][0] > TOGETHER_MS:
            self._recent.popleft()
        for other in sorted({o for at, o in self._recent if abs(starts_ms - at) <= TOGETHER_MS} - {service}):
            pair = (min(service, other), max(service, other))
            count = self._together.setdefault(pair, [0, -EPISODE_MS * 2])
            if starts_ms - count[1] > EPISODE_MS:
                count[0] += 1
            count[1] = max(count[1], starts_ms)
        self._recent.append((starts_ms, service))
        for place in places:
            self._lately.setdefault(place, {})[service] = starts_ms
        if len(self._together) > PAIRS:
            self._together = {p: c for p, c in self._together.items() if c[0] > 1}
        if len(self._at) > PLACES:
            self._at = {p: s for p, s in self._at.items() if len(s) > 1}
            self._lately = {p: s for p, s in self._lately.items() if p in self._at}

    def services_at(self, place: tuple[str, str]) -> int:
        """Distinct services that were seen to fire with that label and value; the fewer, the more it says."""
        return len(self._at.get(place, ()))

    def lately_at(self, place: tuple[str, str], now_ms: int) -> list[str]:
        """Services with that label and value that began to fire within five minutes of ``now_ms``, by name."""
        return sorted(s for s, began in self._lately.get(place, {}).items() if abs(now_ms - began) <= TOGETHER_MS)

    def times(self, a: str, b: str) -> tuple[int, int]:
        """(how often both fired within five minutes, how often the rarer one fired); (0, 0) unless that is habit.

        Habit is at least :data:`LEAST_TIMES` times, half of the time, and far more often than by chance.
        """
        count = self._together.get((min(a, b), max(a, b)))
        if count is None or count[0] < LEAST_TIMES or self._since_ms is None:
            return 0, 0
        fewer, more = sorted((self._times[a], self._times[b]))
        span = max(self._now_ms - self._since_ms, 1)
        by_chance = fewer * min(1.0, more * 2 * TOGETHER_MS / span)
        if count[0] < LEAST_SHARE * fewer or count[0] < LEAST_LIFT * by_chance:
            return 0, 0
        return min(count[0], fewer), fewer
