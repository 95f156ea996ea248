"""No address beyond loopback without authentication."""

from __future__ import annotations

import ipaddress

from aiops.core.errors import ConfigError
from aiops.settings import ServerSettings


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and loopback addresses; false for every other name, whatever it resolves to.

    >>> is_loopback("127.0.0.2"), is_loopback("[::1]"), is_loopback("0.0.0.0"), is_loopback("box.lan")
    (True, True, False, False)
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refuse_unsafe_bind(server: ServerSettings) -> None:
    """Raises ``ConfigError`` for a host beyond loopback with ``auth: none``."""
    if server.auth == "none" and not is_loopback(server.host):
        raise ConfigError(
            f"server.host is {server.host}, which others can reach, but server.auth is none.",
            hint="Set server.auth to keys and create one with `aiops keys create`, or bind 127.0.0.1.",
        )
