"""A clock whose lead (ms) comes from a file, so that tests move the time of a running service by replacing it."""

from __future__ import annotations

import os
import time
from pathlib import Path


class LeadClock:
    """The machine's time plus what stands in a file; ms UTC."""

    def __init__(self, place: Path) -> None:
        self.place = place
        if not place.exists():
            self.set(0)

    def set(self, lead_ms: int) -> None:
        fresh = self.place.with_suffix(".new")
        fresh.write_text(str(lead_ms))
        fresh.replace(self.place)

    def lead(self) -> int:
        return int(self.place.read_text())

    def advance(self, ms: int) -> None:
        self.set(self.lead() + ms)

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.lead()


def inject() -> None:
    """Before anything else binds the machine's clock as a default."""
    from aiops.core import ports

    ports.system_clock = LeadClock(Path(os.environ["CLOCK_LEAD_FILE"]))
