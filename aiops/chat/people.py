"""Who a chat user is: the configured role of a surface's user id."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiops.core.errors import ConfigError
from aiops.core.principal import Principal, Role
from aiops.settings import PluginSettings

PrincipalOf = Callable[[str, str], Principal | None]
"""(surface, user id) to principal; ``None`` where the user may not even ask."""


def principal_mapping(surfaces: Mapping[str, PluginSettings]) -> PrincipalOf:
    """From the options ``users`` (user id to role) and ``others`` (role of the rest, empty refuses them).

    A user who is not listed never approves, whatever the role of ``others``.

    Raises:
        ConfigError: a role that does not exist.
    """
    listed: dict[tuple[str, str], Role] = {}
    others: dict[str, Role | None] = {}
    for surface, settings in surfaces.items():
        options = settings.options
        for user, role in dict(options.get("users") or {}).items():
            listed[surface, str(user)] = _role(surface, str(role))
        rest = options.get("others", Role.VIEWER.value)
        others[surface] = _role(surface, str(rest)) if rest else None

    def principal(surface: str, user: str) -> Principal | None:
        name = f"{surface}:{user}"
        if (role := listed.get((surface, user))) is not None:
            return Principal(name, role)
        rest = others.get(surface)
        return Principal(name, rest, can_approve=False) if rest is not None else None

    return principal


def _role(surface: str, text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        known = ", ".join(r.value for r in Role)
        raise ConfigError(f"connectors.chat.{surface}: '{text}' is not a role.", hint=f"Roles: {known}.") from error
