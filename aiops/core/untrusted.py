"""Text that came from telemetry: data, never instruction."""

from __future__ import annotations

import re
from dataclasses import dataclass

DISPLAY_CAP = 500

# C0/C1 controls, zero-width characters, bidirectional overrides, tag characters.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


@dataclass(frozen=True, slots=True)
class Untrusted:
    """A string from a log line, span, label, alert or change event.

    Formatting it gives the safe form (one line, no control or zero-width characters, capped), so
    that an f-string cannot leak the raw text by accident. ``raw`` is for storage and matching only.
    """

    raw: str

    def display(self, cap: int = DISPLAY_CAP) -> str:
        """One safe line of at most ``cap`` characters, cut text ending in ``…``."""
        text = " ".join(_UNSAFE.sub(" ", self.raw[: cap * 4]).split())
        return text if len(text) <= cap else text[: cap - 1] + "…"

    def fenced(self, cap: int = DISPLAY_CAP) -> str:
        """The display form between guillemets, for a prompt; the fence cannot be closed from inside."""
        return "«" + self.display(cap).replace("«", "<").replace("»", ">") + "»"

    def __str__(self) -> str:
        return self.display()

    def __format__(self, spec: str) -> str:
        return format(self.display(), spec)

    def __bool__(self) -> bool:
        return bool(self.raw)
