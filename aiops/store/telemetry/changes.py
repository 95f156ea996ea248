"""From which time on samples have changed since a moment: lets answers about the past be kept."""

from __future__ import annotations

import bisect
import threading

NOTHING_MS = 1 << 62
EVERYTHING_MS = -(1 << 62)
MOST = 4096
"""Changes told apart; of older ones neighbours are told as one."""


class ChangeLog:
    """Thread-safe. Versions count up by one a change; a change reaches back to a time.

    Only changes that no later one reaches beyond are kept, so their times ascend.
    """

    def __init__(self) -> None:
        self._version = 0
        self._versions: list[int] = []
        self._lows: list[int] = []
        self._lock = threading.Lock()

    @property
    def version(self) -> int:
        """To be taken before reading."""
        return self._version

    def record(self, low_ms: int) -> None:
        """Samples at ``low_ms`` or later have changed. To be called once readers see them."""
        with self._lock:
            self._version += 1
            while self._lows and self._lows[-1] >= low_ms:
                self._lows.pop()
                self._versions.pop()
            self._lows.append(low_ms)
            self._versions.append(self._version)
            if len(self._lows) > MOST:
                half = MOST // 2
                self._lows[:half] = self._lows[0:half:2]
                self._versions[:half] = self._versions[1:half:2]

    def since(self, version: int) -> int:
        """The earliest time (ms) of a change after ``version``; :data:`NOTHING_MS` where there was none."""
        with self._lock:
            at = bisect.bisect_right(self._versions, version)
            return self._lows[at] if at < len(self._lows) else NOTHING_MS
