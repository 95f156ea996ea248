"""Who is told of an incident: receivers, their matchers, and the paging rule."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import re2

from aiops.core.errors import ConfigError
from aiops.core.incident import Incident, SignalKind
from aiops.core.series import Labels, Matcher, MatchOp
from aiops.incidents.correlation import service_of
from aiops.settings import ReceiverSettings

PAGING = frozenset({SignalKind.ALERT, SignalKind.RULE})
"""Kinds of signal that people declared worth waking for; anomalies, costs and findings are not."""
_MATCHER = re.compile(r'^\s*([a-zA-Z_][a-zA-Z0-9_.]*)\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*$', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Route:
    """A receiver by its configured name.

    Attributes:
        pages: it wakes people, so it is told only of incidents that an alert or a rule has joined.
        matchers: all must hold for the incident's labels or those of one of its signals. ``service`` is the
            incident's or the signal's, so that the team of a symptom hears of it too when the cause lies elsewhere.
    """

    name: str
    pages: bool = False
    matchers: tuple[Matcher, ...] = ()

    def wants(self, incident: Incident) -> bool:
        """Whether this receiver is to be told of ``incident`` as it stands."""
        if self.pages and not any(s.alert.kind in PAGING for s in incident.signals):
            return False
        if not self.matchers:
            return True
        own = {"severity": incident.severity.value, "incident": incident.id}
        own["simulated"] = "true" if incident.simulated else ""
        return any(
            all(
                _holds(m, {**dict(s.alert.labels), "alertname": s.alert.name, **own, "service": service})
                for m in self.matchers
            )
            for s in incident.signals
            for service in {incident.service, service_of(s.alert) or incident.service}
        )


def routes_of(receivers: Mapping[str, ReceiverSettings], pages: Mapping[str, bool]) -> list[Route]:
    """The routes of all receivers; ``pages`` says of each whether its kind wakes people. Raises ``ConfigError``."""
    return [
        route_of(name, pages[name] if entry.pages is None else entry.pages, entry.matchers)
        for name, entry in receivers.items()
    ]


def route_of(name: str, pages: bool, matchers: Sequence[str] = ()) -> Route:
    """From settings. Raises ``ConfigError`` for a matcher that cannot be read."""
    return Route(name, pages, tuple(parse_matcher(text, name) for text in matchers))


def parse_matcher(text: str, receiver: str = "") -> Matcher:
    """``severity="critical"``, ``service=~"a|b"``, with ``=``, ``!=``, ``=~`` or ``!~``."""
    found = _MATCHER.match(text)
    if not found:
        raise ConfigError(
            f"Receiver '{receiver}': '{text}' is not a matcher.", hint='Write for example severity=~"warning|critical".'
        )
    name, op, value = found.groups()
    if op in ("=~", "!~"):
        try:
            re2.compile(value)
        except re2.error as error:
            raise ConfigError(f"Receiver '{receiver}': '{value}' is not a regular expression.") from error
    return Matcher(name, MatchOp(op), value)


def _holds(matcher: Matcher, labels: Mapping[str, str]) -> bool:
    value = labels.get(matcher.name, "")
    match matcher.op:
        case MatchOp.EQUAL:
            return value == matcher.value
        case MatchOp.NOT_EQUAL:
            return value != matcher.value
        case MatchOp.REGEX:
            return re2.fullmatch(matcher.value, value) is not None
        case MatchOp.NOT_REGEX:
            return re2.fullmatch(matcher.value, value) is None


def visible(incident: Incident, scope: tuple[Matcher, ...] | None) -> bool:
    """An incident is seen by who may see any of its signals; a signal lacking a scoped label is invisible."""
    return scope is None or any(in_scope(signal.alert.labels, scope) for signal in incident.signals)


def in_scope(labels: Labels, scope: Sequence[Matcher] | None) -> bool:
    """Whether a caller of that scope may see a row; one lacking a label of the scope is invisible."""
    own = dict(labels)
    return all(bool(own.get(m.name)) and _holds(m, own) for m in scope or ())
