"""Who asks, and what they may see. Enforced by the store and PromQL; decided in ``aiops.access``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aiops.core.series import Matcher


class Role(StrEnum):
    VIEWER = "viewer"
    RESPONDER = "responder"
    APPROVER = "approver"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Attributes:
        name: stable id, such as ``key:ab12``, ``slack:U123``, ``system:detector``.
        role: what it may do.
        scope: matchers that every row it sees must satisfy, ANDed; ``None`` means everything.
            A row lacking a label of the scope is invisible.
        can_approve: false for the unauthenticated loopback principal.
    """

    name: str
    role: Role
    scope: tuple[Matcher, ...] | None = None
    can_approve: bool = True


LOCAL = Principal("local", Role.ADMIN, can_approve=False)
"""The caller on loopback when no auth is configured: everything but approving."""

SYSTEM = Principal("system:aiops", Role.ADMIN, can_approve=False)
"""The service itself."""
