"""What can happen to an incident: pure functions from one snapshot to the next."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from aiops.core.incident import (
    Alert,
    CauseCandidate,
    Incident,
    IncidentSignal,
    IncidentStatus,
    Severity,
    TimelineEntry,
)
from aiops.incidents.correlation import is_simulated, service_of
from aiops.incidents.wording import cause_headline, cause_summary, headline

SIGNAL_CAP = 200
"""Signals kept on an incident; later ones are only written to the timeline."""
TIMELINE_HEAD, TIMELINE_TAIL = 50, 250
LATE_MS = 60_000
"""A firing alert delivered this long after its own end is an echo, not a new start."""

_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


def worse(a: Severity, b: Severity) -> bool:
    return _RANK[a] > _RANK[b]


def noted(incident: Incident, now_ms: int, actor: str, event: str, detail: str = "") -> Incident:
    """With one more timeline entry; the middle of a very long timeline is dropped."""
    timeline = (*incident.timeline, TimelineEntry(now_ms, actor, event, detail))
    if len(timeline) > TIMELINE_HEAD + TIMELINE_TAIL:
        timeline = timeline[:TIMELINE_HEAD] + timeline[-TIMELINE_TAIL:]
    return replace(incident, timeline=timeline, updated_ms=max(now_ms, incident.updated_ms))


def opened(incident_id: str, alert: Alert, now_ms: int) -> Incident:
    title = headline(alert)
    return Incident(
        id=incident_id,
        status=IncidentStatus.OPEN,
        severity=alert.severity,
        title=title,
        service=service_of(alert) or alert.service,
        opened_ms=now_ms,
        updated_ms=now_ms,
        signals=(IncidentSignal(alert, "opened the incident", now_ms),),
        timeline=(TimelineEntry(now_ms, sender(alert), "opened", title),),
        simulated=is_simulated(alert.labels),
    )


def joined(incident: Incident, alert: Alert, reason: str, now_ms: int) -> Incident:
    changed = noted(incident, now_ms, sender(alert), "signal joined", f"{headline(alert)} ({reason})")
    if len(changed.signals) < SIGNAL_CAP:
        changed = replace(changed, signals=(*changed.signals, IncidentSignal(alert, reason, now_ms)))
    return _retitled(_at_least(changed, alert.severity))


def refreshed(incident: Incident, alert: Alert, now_ms: int) -> Incident:
    """The held signal of that fingerprint brought up to date; the same object when nothing is new."""
    held = held_signal(incident, alert.fingerprint).alert
    if alert == held or (alert.updated_ms < held.updated_ms and alert.firing):
        return incident
    if not held.firing and not (alert.firing and starts_anew(alert, held)):
        return incident
    if held.firing:
        alert = replace(alert, starts_ms=min(alert.starts_ms, held.starts_ms))
    changed = _at_least(_with_alert(incident, alert), alert.severity)
    if held.firing != alert.firing:
        word = "signal fires again" if alert.firing else "signal ended"
        changed = noted(changed, now_ms, sender(alert), word, headline(alert))
    return _retitled(replace(changed, updated_ms=max(now_ms, changed.updated_ms)))


def starts_anew(alert: Alert, held: Alert) -> bool:
    """Whether a firing alert is a new start of an ended one, not a late echo from a second sender."""
    end = held.ends_ms if held.ends_ms is not None else held.updated_ms
    return alert.starts_ms > end or alert.updated_ms - end > LATE_MS


def reopened(incident: Incident, alert: Alert, reason: str, now_ms: int) -> Incident:
    """Open again; nobody counts as told, so that each receiver hears of it anew."""
    kept = tuple(s for s in incident.signals if s.alert.fingerprint != alert.fingerprint)[: SIGNAL_CAP - 1]
    changed = replace(
        incident,
        status=IncidentStatus.OPEN,
        resolved_ms=None,
        told=(),
        signals=(*kept, IncidentSignal(alert, reason, now_ms)),
    )
    return _retitled(_at_least(noted(changed, now_ms, sender(alert), "reopened", reason), alert.severity))


def expired(incident: Incident, now_ms: int, silence_ms: int) -> Incident:
    """Signals past their ``expires_ms``, or silent for ``silence_ms``, end; the same object if none did."""
    for signal in incident.signals:
        alert = signal.alert
        limit = alert.expires_ms if alert.expires_ms is not None else alert.updated_ms + silence_ms
        if alert.firing and now_ms >= limit:
            incident = _with_alert(incident, replace(alert, ends_ms=limit))
            incident = noted(incident, now_ms, sender(alert), "signal ended", f"{headline(alert)} (no longer repeated)")
    return incident


def muted(incident: Incident, why: str, now_ms: int, actor: str) -> Incident:
    """With the reason why nobody is told; the same object when that is known already."""
    if why == incident.muted:
        return incident
    event, detail = ("muted", why) if why else ("audible again", incident.muted)
    return noted(replace(incident, muted=why), now_ms, actor, event, detail)


def quiet_since(incident: Incident) -> int | None:
    """When the last signal ended, or ``None`` while one fires."""
    ends = [s.alert.ends_ms for s in incident.signals]
    known = [e for e in ends if e is not None]
    return max(known, default=incident.opened_ms) if len(known) == len(ends) else None


def flaps(incident: Incident, since_ms: int) -> int:
    return sum(1 for e in incident.timeline if e.event == "reopened" and e.time_ms >= since_ms)


def held_signal(incident: Incident, fingerprint: str) -> IncidentSignal:
    return next(s for s in incident.signals if s.alert.fingerprint == fingerprint)


def explained(
    incident: Incident, candidates: tuple[CauseCandidate, ...], clear_cause: bool, now_ms: int, actor: str
) -> Incident:
    """With newly ranked causes; a clear one lends the incident its service and title.

    The timeline tells of a ranking that names another cause than the last, and of a new title.
    """
    changed = replace(incident, candidates=candidates, clear_cause=clear_cause)
    if clear_cause and candidates:
        changed = _retitled(replace(changed, cause_service=candidates[0].service))
    if verdict(changed) != verdict(incident):
        changed = noted(changed, now_ms, actor, "causes ranked", cause_summary(changed))
    if changed.service != incident.service:
        changed = noted(changed, now_ms, actor, "attributed", f"to {changed.service}: {changed.title}")
    return changed


def verdict(incident: Incident) -> tuple[bool, str]:
    """What a ranking says: whether the cause is clear, and the first candidate's service."""
    return incident.clear_cause, incident.candidates[0].service if incident.candidates else ""


def services_of(incident: Incident) -> frozenset[str]:
    """The service that the incident bears and the one whose signal opened it."""
    return frozenset({incident.service, *(service_of(s.alert) for s in incident.signals[:1])} - {""})


def absorbed(target: Incident, source: Incident, actor: str, now_ms: int, reason: str = "") -> Incident:
    """``target`` with the signals of a merged incident."""
    words = f"took in {source.id}: {source.title}" + (f" ({reason})" if reason else "")
    own = {s.alert.fingerprint for s in target.signals}
    moved = tuple(
        replace(s, reason=f"merged from {source.id}: {s.reason}")
        for s in source.signals
        if s.alert.fingerprint not in own
    )
    changed = replace(target, signals=(target.signals + moved)[:SIGNAL_CAP])
    return _at_least(noted(changed, now_ms, actor, "merged", words), source.severity)


def divided(
    source: Incident, moved: Set[str], new_id: str, actor: str, reason: str, now_ms: int
) -> tuple[Incident, Incident]:
    """A new incident with the signals of the ``moved`` fingerprints, and ``source`` without them."""
    words = f": {reason}" if reason else ""
    out = [s for s in source.signals if s.alert.fingerprint in moved]
    first = min(out, key=lambda s: (s.alert.starts_ms, s.alert.fingerprint)).alert
    made = replace(opened(new_id, first, now_ms), opened_ms=min(now_ms, max(source.opened_ms, first.starts_ms)))
    made = replace(made, signals=tuple(replace(s, reason=f"split from {source.id} by {actor}{words}") for s in out))
    for signal in out:
        made = _at_least(made, signal.alert.severity)
    made = noted(_retitled(made), now_ms, actor, "split", f"from {source.id}{words}")
    kept = tuple(s for s in source.signals if s.alert.fingerprint not in moved)
    gone = source.cause_service and source.cause_service not in {service_of(s.alert) for s in kept}
    left = replace(
        source,
        signals=kept,
        severity=max((s.alert.severity for s in kept), key=_RANK.__getitem__),
        cause_service="" if gone else source.cause_service,
        candidates=() if gone else source.candidates,
        clear_cause=source.clear_cause and not gone,
    )
    return made, _retitled(noted(left, now_ms, actor, "split", f"{len(out)} signals to {new_id}{words}"))


def sender(alert: Alert) -> str:
    return alert.source or f"system:{alert.kind.value}"


def _with_alert(incident: Incident, alert: Alert) -> Incident:
    signals = tuple(
        replace(s, alert=alert) if s.alert.fingerprint == alert.fingerprint else s for s in incident.signals
    )
    return replace(incident, signals=signals)


def _at_least(incident: Incident, severity: Severity) -> Incident:
    return replace(incident, severity=severity) if worse(severity, incident.severity) else incident


def _retitled(incident: Incident) -> Incident:
    """Title and service are those of the cause once one was clear, before that those of the lead signal.

    The lead is the worst, then longest-lasting signal at its latest figures; an alert goes before an anomaly.
    """
    firing = [s.alert for s in incident.signals if s.alert.firing]
    cause = incident.cause_service
    if cause:
        firing = [a for a in firing if service_of(a) == cause]
        incident = replace(incident, service=cause)
    if firing:
        lead = min(firing, key=lambda a: (-_RANK[a.severity], a.anomaly is not None, a.starts_ms, a.fingerprint))
        service = cause or service_of(lead) or lead.service or incident.service
        return replace(incident, title=headline(lead), service=service)
    found = next((c for c in incident.candidates[:1] if c.service == cause), None)
    return replace(incident, title=cause_headline(found)) if found is not None else incident
