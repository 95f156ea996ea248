"""What each role may do, in code and denied by default."""

from __future__ import annotations

from enum import StrEnum

from aiops.core.errors import Forbidden
from aiops.core.principal import Principal, Role


class Permission(StrEnum):
    READ = "read"
    """Query telemetry, see incidents, costs, models, actions within the scope."""
    ASK = "ask"
    """Ask the assistant, which may cost money."""
    RESPOND = "respond"
    """Acknowledge, resolve, annotate and merge incidents."""
    WRITE_TELEMETRY = "write_telemetry"
    """Send samples, logs, traces and changes."""
    SEND_ALERTS = "send_alerts"
    """Send alerts and changes through webhooks."""
    PROPOSE = "propose"
    """Propose a remedial action."""
    APPROVE = "approve"
    """Approve or reject a proposed action."""
    OPERATE = "operate"
    """See and steer deliveries and jobs."""
    ADMIN = "admin"
    """Read the audit trail, move model aliases, manage keys."""


_VIEWER = frozenset({Permission.READ, Permission.ASK})
_RESPONDER = _VIEWER | {
    Permission.RESPOND,
    Permission.WRITE_TELEMETRY,
    Permission.SEND_ALERTS,
    Permission.PROPOSE,
    Permission.OPERATE,
}
_APPROVER = _RESPONDER | {Permission.APPROVE}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.RESPONDER: _RESPONDER,
    Role.APPROVER: _APPROVER,
    Role.ADMIN: _APPROVER | {Permission.ADMIN},
}

UNSCOPED_ONLY = frozenset({Permission.WRITE_TELEMETRY, Permission.SEND_ALERTS, Permission.OPERATE, Permission.ADMIN})
"""What a label scope cannot restrict is refused to scoped principals."""


def allowed(principal: Principal, permission: Permission) -> bool:
    """Whether the principal has the permission."""
    if permission is Permission.APPROVE and not principal.can_approve:
        return False
    if principal.scope is not None and permission in UNSCOPED_ONLY:
        return False
    return permission in PERMISSIONS.get(principal.role, frozenset())


def require(principal: Principal, permission: Permission) -> None:
    """Raises ``Forbidden`` naming what is missing."""
    if allowed(principal, permission):
        return
    if permission is Permission.APPROVE and not principal.can_approve:
        raise Forbidden(
            "Approving needs a person who is signed in.", hint="Create a key with `aiops keys create --role approver`."
        )
    if principal.scope is not None and permission in UNSCOPED_ONLY and permission in PERMISSIONS[principal.role]:
        raise Forbidden(f"'{principal.name}' is limited to a label scope, which '{permission.value}' does not allow.")
    raise Forbidden(f"The role {principal.role.value} of '{principal.name}' does not include '{permission.value}'.")
