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


PRIVATE_SUFFIXES = (".internal", ".local", ".lan", ".home.arpa", ".svc", ".cluster.local")


def is_private(host: str) -> bool:
    """True for this machine, private addresses, bare names and suffixes that the public DNS does not have.

    >>> [is_private(h) for h in ("127.0.0.1", "10.1.2.3", "llm", "vllm.ml.svc", "api.example.org", "8.8.8.8")]
    [True, True, True, True, False, False]
    """
    if is_loopback(host):
        return True
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(PRIVATE_SUFFIXES))


def refuse_unsafe_bind(server: ServerSettings) -> None:
    """Raises ``ConfigError`` for a host beyond loopback with ``auth: none``."""
    if server.auth == "none" and not is_loopback(server.host):
        raise ConfigError(
            f"server.host is {server.host}, which others can reach, but server.auth is none.",
            hint="Set server.auth to keys and create one with `aiops keys create`, or bind 127.0.0.1.",
        )
