"""API keys as the state store keeps them. Times are ms UTC."""

from __future__ import annotations

from dataclasses import dataclass

from aiops.core.principal import Role
from aiops.core.series import Matcher


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret: ``digest`` is the SHA-256 (hex) of the whole key text.

    ``id`` is the public part of the key text, by which it is looked up, listed and revoked.
    """

    id: str
    name: str
    role: Role
    digest: str
    created_ms: int
    scope: tuple[Matcher, ...] | None = None
    expires_ms: int | None = None
    revoked_ms: int | None = None

    def usable(self, now_ms: int) -> bool:
        """Neither revoked nor past its expiry."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)
