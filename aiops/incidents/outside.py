"""What people do to our incidents in another system, such as PagerDuty, done here as well."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from aiops.core.errors import Conflict, NotFound
from aiops.core.incident import Incident, IncidentStatus, IncidentUpdate, UpdateKind
from aiops.core.principal import Principal, Role
from aiops.incidents.lifecycle import IncidentService

log = logging.getLogger(__name__)


def synchronise(incidents: IncidentService, updates: Sequence[IncidentUpdate], source: str) -> int:
    """Apply updates; the number that changed something.

    An incident that is not ours, or an echo of what we told that system ourselves, changes nothing.

    Args:
        source: configured name of the inbound source, shown before the actor's name.

    Raises:
        TransientError: the state store is away; send it again, repeats do no harm.
    """
    return sum(_apply(incidents, update, source) for update in updates)


def _apply(incidents: IncidentService, update: IncidentUpdate, source: str) -> bool:
    by = Principal(f"{source}:{update.actor or 'unknown'}", Role.RESPONDER)
    try:
        before = incidents.get(update.incident_id, by)
        return _done(incidents, update, before, by) is not before
    except (NotFound, Conflict) as error:
        log.debug("%s: nothing to do: %s", source, error)
        return False


def _done(incidents: IncidentService, update: IncidentUpdate, before: Incident, by: Principal) -> Incident:
    match update.kind:
        case UpdateKind.ACKNOWLEDGED:
            if before.status is IncidentStatus.ACKNOWLEDGED:
                return before
            return incidents.acknowledge(before.id, by, known_to=update.known_to)
        case UpdateKind.RESOLVED:
            return incidents.resolve(before.id, by, update.text.display(), known_to=update.known_to)
        case UpdateKind.ASSIGNED:
            return incidents.assign(before.id, update.text.display(), by)
        case UpdateKind.NOTED:
            return incidents.note(before.id, by, update.text.display(4_000) or "(empty)")
