"""Alerts, incidents, ranked causes and the notifications that tell of them. Times are ms UTC."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum

from aiops.core.anomaly import Anomaly
from aiops.core.series import Labels, Matcher
from aiops.core.signals import label
from aiops.core.untrusted import Untrusted


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


_CRITICAL = "critical crit page fatal emergency error high p1 p2 sev1 sev2"
_INFO = "info informational notice none low debug p5 sev5"
_SEVERITIES = dict.fromkeys(_CRITICAL.split(), Severity.CRITICAL) | dict.fromkeys(_INFO.split(), Severity.INFO)


def severity_named(word: str) -> Severity:
    """What the ``severity`` label of an alert means; a warning where the word is not known.

    >>> severity_named("Page").value
    'critical'
    """
    return _SEVERITIES.get(word.lower(), Severity.WARNING)


class SignalKind(StrEnum):
    """Where a signal came from; an incident made of ``ANOMALY`` alone never pages by default."""

    ALERT = "alert"
    ANOMALY = "anomaly"
    RULE = "rule"
    COST = "cost"
    SECURITY = "security"


class IncidentStatus(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    MERGED = "merged"


def fingerprint(labels: Labels) -> str:
    """Stable 16-hex-digit id of a label set."""
    text = json.dumps(labels, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Alert:
    """A signal at the one door of incidents: an outside alert, an anomaly, a rule, a cost overrun.

    ``fingerprint`` identifies the alert across updates; ``ends_ms`` is ``None`` while it fires.
    """

    fingerprint: str
    kind: SignalKind
    name: str
    labels: Labels
    severity: Severity
    starts_ms: int
    updated_ms: int
    ends_ms: int | None = None
    summary: Untrusted = field(default=Untrusted(""))
    source: str = ""
    link: str = ""
    annotations: tuple[tuple[str, Untrusted], ...] = ()
    anomaly: Anomaly | None = None
    expires_ms: int | None = None
    """When a firing alert ends by itself unless the sender repeats it; ``None`` where it promises no repeats."""

    @property
    def firing(self) -> bool:
        return self.ends_ms is None

    @property
    def service(self) -> str:
        if self.anomaly is not None and self.anomaly.service:
            return self.anomaly.service
        for name in ("service", "service_name", "app", "job", "instance"):
            if found := label(self.labels, name):
                return found
        return ""


@dataclass(frozen=True, slots=True)
class IncidentSignal:
    """An alert on an incident, and the stored reason why it was linked."""

    alert: Alert
    reason: str
    linked_ms: int


@dataclass(frozen=True, slots=True)
class CauseCandidate:
    """One ranked cause with its evidence.

    ``share`` is in [0, 1] and sums to at most 1 over the candidates; the rest is "none of these".
    ``path`` leads from the cause to the symptom along the call graph.
    """

    service: str
    share: float
    metric: str = ""
    before: float = float("nan")
    after: float = float("nan")
    first_deviation_ms: int | None = None
    path: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    query: str = ""
    change: str = ""


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    time_ms: int
    actor: str
    event: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """One fault as on-call sees it. ``clear_cause`` is false when the ranking is too weak to name one."""

    id: str
    status: IncidentStatus
    severity: Severity
    title: str
    service: str
    opened_ms: int
    updated_ms: int
    resolved_ms: int | None = None
    merged_into: str = ""
    assignee: str = ""
    signals: tuple[IncidentSignal, ...] = ()
    candidates: tuple[CauseCandidate, ...] = ()
    clear_cause: bool = False
    timeline: tuple[TimelineEntry, ...] = ()
    simulated: bool = False
    paged: bool = False
    told: tuple[str, ...] = ()
    """Receivers told of it since it last opened, sorted; the resolve goes to all of them."""

    affected: tuple[str, ...] = ()
    """Services that call the clear cause, directly or through others, the nearest first."""
    muted: str = ""
    """Why nobody is told of it at the moment; empty where somebody is, or would be."""
    cause_service: str = ""
    """The service last named as a clear cause; title and service are its, also while later rankings are weak."""

    @property
    def active(self) -> bool:
        return self.status in (IncidentStatus.OPEN, IncidentStatus.ACKNOWLEDGED)


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that all ``matchers`` hold for wake nobody between ``starts_ms`` and ``ends_ms``."""

    id: str
    matchers: tuple[Matcher, ...]
    starts_ms: int
    ends_ms: int
    author: str
    comment: str
    created_ms: int

    def active(self, now_ms: int) -> bool:
        return self.starts_ms <= now_ms < self.ends_ms


@dataclass(frozen=True, slots=True)
class Shift:
    """``person`` is on call in ``[start_ms, end_ms)``."""

    person: str
    start_ms: int
    end_ms: int


class UpdateKind(StrEnum):
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    ASSIGNED = "assigned"
    NOTED = "noted"


@dataclass(frozen=True, slots=True)
class IncidentUpdate:
    """What happened to one of our incidents in another system, done there by ``actor``.

    ``known_to`` are receivers that lead to that system: they are not told of it again.
    """

    incident_id: str
    kind: UpdateKind
    actor: str
    text: Untrusted = field(default=Untrusted(""))
    """A note's words, or the new assignee's name."""
    known_to: tuple[str, ...] = ()


class NotificationEvent(StrEnum):
    OPENED = "opened"
    UPDATED = "updated"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    TEST = "test"


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Notification:
    """What a receiver is told; ``incident`` is the snapshot of the moment.

    ``id`` is the idempotency key of one delivery, ``dedup_key`` (the incident id) that of the thread.
    ``thread`` is what the receiver returned for the incident's first message (Slack ``ts``), if any.
    """

    id: str
    receiver: str
    event: NotificationEvent
    incident: Incident
    created_ms: int
    dedup_key: str
    thread: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outbox's row as people see it."""

    notification: Notification
    status: DeliveryStatus
    attempts: int
    next_attempt_ms: int
    last_error: str = ""
    delivered_ms: int | None = None
