"""Rate limits: a moving window per principal, and per address for failed sign-ins."""

from __future__ import annotations

import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from aiops.core.errors import LimitExceeded

FAILURES_PER_MINUTE = 60


class RateLimits:
    """Counts in memory: a restart forgives, which costs an attacker nothing that matters.

    Args:
        per_minute: requests that one principal may make in any 60 s; 0 means no limit.
    """

    def __init__(self, per_minute: int, failures_per_minute: int = FAILURES_PER_MINUTE) -> None:
        storage = MemoryStorage()
        self._requests = RateLimitItemPerMinute(per_minute) if per_minute > 0 else None
        self._failures = RateLimitItemPerMinute(failures_per_minute)
        self._counter = SlidingWindowCounterRateLimiter(storage)
        self._window = MovingWindowRateLimiter(storage)

    def check(self, principal: str) -> None:
        """Count one request. Raises ``LimitExceeded`` with the seconds until one is free."""
        if self._requests is None or self._counter.hit(self._requests, "request", principal):
            return
        reset = self._counter.get_window_stats(self._requests, "request", principal).reset_time
        raise LimitExceeded(
            f"More than {self._requests.amount} requests a minute.", retry_after_s=max(1.0, reset - time.time())
        )

    def failed(self, address: str) -> None:
        """Count one failed sign-in; a good key is never held up by others' bad ones.

        Raises:
            LimitExceeded: too many from this address within a minute.
        """
        if not self._window.hit(self._failures, "failure", address):
            raise LimitExceeded("Too many failed sign-ins from this address.", retry_after_s=60.0)
