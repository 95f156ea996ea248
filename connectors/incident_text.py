"""An incident in plain words, for receivers that show text. Support, like ``http``."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from aiops.core.incident import CauseCandidate, Incident, IncidentStatus, Notification, NotificationEvent
from aiops.core.untrusted import Untrusted

_WORDS = {
    NotificationEvent.OPENED: "opened",
    NotificationEvent.UPDATED: "updated",
    NotificationEvent.ACKNOWLEDGED: "acknowledged",
    NotificationEvent.RESOLVED: "resolved",
    NotificationEvent.TEST: "test",
}


def subject(incident: Incident) -> str:
    """The same for all of an incident's messages, so that they stay one thread."""
    simulated = "[simulated] " if incident.simulated else ""
    return Untrusted(f"{simulated}{incident.id}: {incident.title}").display(200)


def news(notification: Notification) -> str:
    """One line: what happened."""
    incident = notification.incident
    word = _WORDS[notification.event]
    by = f" by {incident.assignee}" if notification.event is NotificationEvent.ACKNOWLEDGED else ""
    if incident.status is IncidentStatus.MERGED:
        word = f"merged into {incident.merged_into}"
    return Untrusted(f"{word.capitalize()}{by}: {incident.title}").display(300)


def facts(incident: Incident) -> list[tuple[str, str]]:
    """Name and value of what on-call looks at first."""
    found = [
        ("Status", incident.status.value),
        ("Severity", incident.severity.value),
        ("Service", Untrusted(incident.service).display(200) or "unknown"),
        ("Since", moment(incident.opened_ms)),
    ]
    if incident.resolved_ms is not None:
        found.append(("Resolved", moment(incident.resolved_ms)))
    if incident.assignee:
        found.append(("Assignee", Untrusted(incident.assignee).display(100)))
    return found


def causes(incident: Incident, limit: int = 3) -> list[str]:
    """The ranked causes, a line each; the first line says when none is clear."""
    lines = [cause(c) for c in incident.candidates[:limit]]
    return lines if incident.clear_cause or not lines else ["No clear cause. The strongest candidates:", *lines]


def cause(candidate: CauseCandidate) -> str:
    text = f"{candidate.service} ({candidate.share:.0%})"
    if candidate.metric and math.isfinite(candidate.before) and math.isfinite(candidate.after):
        text += f": {candidate.metric} {candidate.before:.4g} to {candidate.after:.4g}"
    if candidate.reasons:
        text += "; " + "; ".join(candidate.reasons[:3])
    return Untrusted(text).display(400)


def signals(incident: Incident, limit: int = 10) -> list[str]:
    """What fires or fired, a line each."""
    lines = []
    for signal in incident.signals[:limit]:
        alert = signal.alert
        state = "firing" if alert.firing else "ended"
        summary = f": {alert.summary}" if alert.summary else ""
        lines.append(Untrusted(f"{alert.name} on {alert.service or 'unknown'} ({state}){summary}").display(300))
    left = len(incident.signals) - limit
    return [*lines, f"and {left} more"] if left > 0 else lines


def link(incident: Incident, public_url: str) -> str:
    """Where the incident can be seen; empty without a public address."""
    return f"{public_url.rstrip('/')}/api/v1/incidents/{incident.id}" if public_url else ""


def plain(notification: Notification, public_url: str = "") -> str:
    """The whole message as lines of text."""
    incident = notification.incident
    parts = [news(notification), ""]
    parts += [f"{name}: {value}" for name, value in facts(incident)]
    if found := causes(incident):
        parts += ["", "Likely cause:" if incident.clear_cause else "Causes:", *(f"- {line}" for line in found)]
    if found := signals(incident):
        parts += ["", "Signals:", *(f"- {line}" for line in found)]
    if address := link(incident, public_url):
        parts += ["", address]
    return "\n".join(parts) + "\n"


def moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
