"""The audit trail's entry. Times are ms UTC."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to which thing.

    ``hash`` is SHA-256 (hex) over ``previous_hash`` and the entry's canonical JSON, so that a changed,
    inserted or removed row breaks the chain.
    """

    sequence: int
    time_ms: int
    actor: str
    action: str
    subject: str
    detail: tuple[tuple[str, str], ...]
    previous_hash: str
    hash: str
