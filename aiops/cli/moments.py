"""Times as people type them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from aiops.core.errors import InvalidInput

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)(?:\s+ago)?")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment_ms(text: str, now_ms: int) -> int:
    """ms UTC of ``now``, ``3d`` or ``12h`` (ago), an ISO 8601 date or time (UTC where it says no zone), or seconds.

    >>> moment_ms("2h", 7_200_000), moment_ms("1970-01-01T00:01", 0), moment_ms("1970-01-01T02:00+02:00", 5)
    (0, 60000, 0)

    Raises:
        InvalidInput: anything else.
    """
    words = text.strip().lower()
    if words in ("", "now"):
        return now_ms
    if found := _AGO.fullmatch(words):
        return now_ms - round(float(found[1]) * _UNITS[found[2]] * 1000)
    if re.fullmatch(r"\d{9,11}", words):
        return int(words) * 1000
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise InvalidInput(
            f"'{text}' is no time.", hint="Write 2026-11-20T14:00Z, 2026-11-20, or 3d for ago."
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
