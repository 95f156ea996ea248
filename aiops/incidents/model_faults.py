"""Incidents that a model caused: marked as the model's when the version that raised them is rolled back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from aiops.core.errors import AiopsError
from aiops.core.incident import Incident, IncidentStatus
from aiops.core.model import Deployment
from aiops.core.principal import SYSTEM, Principal

log = logging.getLogger(__name__)

FALSE_ALARMS = ("alerts", "alone", "agreement", "precision")
"""Guards whose breach says that the candidate's alarms are false; the others say nothing against them."""
_LOOKED_AT = 500


class Incidents(Protocol):
    def list(
        self, principal: Principal, status: IncidentStatus | None = None, limit: int = 50, since_ms: int = 0
    ) -> Sequence[Incident]: ...

    def note(self, incident_id: str, principal: Principal, text: str) -> Incident: ...

    def resolve(self, incident_id: str, principal: Principal, reason: str = "") -> Incident: ...


class ModelFaults:
    """Thread-safe as far as the incidents are."""

    def __init__(self, incidents: Incidents) -> None:
        self._incidents = incidents

    def blame(self, deployment: Deployment) -> str:
        """Note on each incident that the candidate's anomalies opened or joined that they were its, and close those
        that are nothing else where its alarms were found false; returns the first such incident's id, or ``""``."""
        reference = f"{deployment.model}/{deployment.candidate}"
        false = deployment.reason.split(":", 1)[0] in FALSE_ALARMS
        first = ""
        found = self._incidents.list(SYSTEM, limit=_LOOKED_AT, since_ms=deployment.started_ms)
        for incident in sorted(found, key=lambda i: (i.opened_ms, i.id)):
            own = [s for s in incident.signals if s.alert.anomaly is not None and s.alert.anomaly.model == reference]
            if not own:
                continue
            whole = len(own) == len(incident.signals)
            try:
                self._mark(incident, deployment, reference, f"{len(own)} of {len(incident.signals)}", whole and false)
            except AiopsError as error:
                log.warning("the incident %s could not be marked as the model's: %s", incident.id, error)
                continue
            if whole and false:
                first = first or incident.id
        return first

    def _mark(self, incident: Incident, deployment: Deployment, reference: str, part: str, close: bool) -> None:
        if close:
            text = f"caused by model {reference}, which was rolled back: {deployment.reason}"
            self._incidents.note(incident.id, SYSTEM, text)
            if incident.active:
                self._incidents.resolve(incident.id, SYSTEM, f"caused by model {reference}")
        else:
            self._incidents.note(
                incident.id,
                SYSTEM,
                f"{part} signals were raised by model {reference}, which was rolled back: {deployment.reason}",
            )
