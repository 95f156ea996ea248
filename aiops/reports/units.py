"""One scale for a whole axis; single values are worded as answers are.

Units are UCUM-like: ``s``, ``By``, ``1``, ``%``, ``By/s``, ``/s``, ``USD``; ``ratio`` is a share of one, in percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aiops.agent import units as worded

_TIME = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d"))
_BYTES = ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"), (2.0**40, "TiB"), (2.0**50, "PiB"))
_COUNT = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"))
_ALIASES = {
    "seconds": "s", "second": "s", "bytes": "By", "byte": "By", "B": "By", "percent": "%", "milliseconds": "ms",
    "1/s": "/s",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scale:
    """``value / factor`` is shown with ``suffix``."""

    factor: float
    suffix: str


def humanise(value: float, unit: str) -> str:
    """One value with its unit, as answers word it.

    >>> humanise(0.0123, "seconds"), humanise(12.34, "1/s")
    ('12.3 ms', '12.3/s')
    """
    return worded.humanise(value, _ALIASES.get(unit, unit))


def whole_of(peak: float, unit: str) -> float:
    """What a full bar stands for where values are parts of a whole (100 %), else 0."""
    whole = {"ratio": 1.0, "%": 100.0}.get(unit, 0.0)
    return whole if 0.05 * whole <= peak <= whole else 0.0


def is_money(unit: str) -> bool:
    """An ISO 4217 code by its form."""
    return len(unit) == 3 and unit.isalpha() and unit.isupper()


def scale_for(largest: float, unit: str) -> Scale:
    """One scale for an axis whose largest magnitude is ``largest``."""
    unit = _ALIASES.get(unit, unit)
    steps: tuple[tuple[float, str], ...]
    base, per = (unit[:-2], "/s") if unit.endswith("/s") and len(unit) > 2 else (unit, "")
    if base == "ms":
        steps, base_factor = _TIME, 1e-3
    elif base == "s" and not per:
        steps, base_factor = _TIME, 1.0
    elif base == "By":
        steps, base_factor = _BYTES, 1.0
    elif base == "ratio":
        return Scale(0.01, "%" + per)
    elif base == "%":
        return Scale(1.0, "%" + per)
    else:
        word = "°C" if base == "Cel" else base.strip("{}") if base != "1" else ""
        factor, prefix = _pick(_COUNT if largest >= 10_000 else _COUNT[:1], largest)
        return Scale(factor, " ".join(p for p in (prefix, word + per) if p))
    factor, suffix = _pick(steps, largest * base_factor)
    return Scale(factor / base_factor, suffix + per)


def _pick(steps: tuple[tuple[float, str], ...], largest: float) -> tuple[float, str]:
    if not math.isfinite(largest) or largest <= 0:
        return next((s for s in steps if s[0] == 1.0), steps[0])
    best = steps[0]
    for step in steps:
        # A time just over a minute reads better as 75 s than as 1.25 min.
        if largest >= step[0] * (2.0 if step[1] in ("min", "h", "d") else 1.0):
            best = step
    return best
