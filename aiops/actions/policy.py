"""What may be proposed, and who may approve it."""

from __future__ import annotations

from aiops.actions.catalogue import Parameters, SilenceParameters
from aiops.core.action import Action, ActionProposal
from aiops.core.errors import Conflict, Forbidden, InvalidInput
from aiops.core.incident import Alert, Incident, SignalKind
from aiops.core.principal import Principal, Role
from aiops.incidents.correlation import host_of, service_of

MEASURED = frozenset({SignalKind.ALERT, SignalKind.ANOMALY, SignalKind.RULE})
PROPOSERS = frozenset({Role.RESPONDER, Role.APPROVER, Role.ADMIN})
APPROVERS = frozenset({Role.APPROVER, Role.ADMIN})


def trigger(action: Action, parameters: Parameters, incident: Incident) -> tuple[str, ...]:
    """Fingerprints of the measured signals, firing now, that justify the action on its target.

    Raises:
        Conflict: the incident is over.
        Forbidden: no signal of the incident was measured on that target.
        InvalidInput: a silence that is wider than the alert it answers.
    """
    if not incident.active:
        raise Conflict(f"Incident {incident.id} is {incident.status.value}; no action is due.")
    measured = [s.alert for s in incident.signals if s.alert.kind in MEASURED and s.alert.firing]
    on_target = [a for a in measured if action.target in _names(a)]
    if not on_target:
        raise Forbidden(
            f"Nothing that fires in incident {incident.id} was measured on '{action.target}'.",
            hint="An action needs a measured signal on that very target.",
        )
    if isinstance(parameters, SilenceParameters):
        if "alertname" not in parameters.pairs:
            raise InvalidInput("A silence must name the alert: a matcher on 'alertname' is missing.")
        wanted = parameters.pairs.items()
        on_target = [a for a in on_target if a.kind is not SignalKind.ANOMALY and wanted <= dict(a.labels).items()]
        if not on_target:
            raise InvalidInput(f"No alert that fires on '{action.target}' has these labels.")
    return tuple(sorted(a.fingerprint for a in on_target))


def check_proposer(principal: Principal) -> None:
    """Raises ``Forbidden`` for a viewer."""
    if principal.role not in PROPOSERS:
        raise Forbidden(f"The role {principal.role.value} may not propose actions.")


def check_approver(proposal: ActionProposal, principal: Principal) -> None:
    """Raises ``Forbidden``: not a person who can approve, not the role, or the proposer himself."""
    if not principal.can_approve:
        raise Forbidden(
            "Approving needs an authenticated person.", hint="Use an API key with the role approver, or Slack."
        )
    if principal.role not in APPROVERS:
        raise Forbidden(f"The role {principal.role.value} may not approve actions.")
    if principal.name == proposal.proposer:
        raise Forbidden("Whoever proposed an action may not approve it.")


def _names(alert: Alert) -> set[str]:
    return {service_of(alert), alert.service, host_of(alert)} - {""}
