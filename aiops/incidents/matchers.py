"""Matchers in Alertmanager's syntax, and whether they hold for labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import re2

from aiops.core.errors import InvalidInput
from aiops.core.incident import Alert, Incident
from aiops.core.series import Labels, Matcher, MatchOp
from aiops.incidents.correlation import service_of

_MATCHER = re.compile(r'^\s*([a-zA-Z_][a-zA-Z0-9_.]*)\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*$', re.DOTALL)


def parse_matcher(text: str) -> Matcher:
    """``severity="critical"``, ``service=~"a|b"``, with ``=``, ``!=``, ``=~`` or ``!~``. Raises ``InvalidInput``."""
    found = _MATCHER.match(text)
    if not found:
        raise InvalidInput(f"'{text}' is not a matcher.", hint='Write for example severity=~"warning|critical".')
    name, op, value = found.groups()
    if op in ("=~", "!~"):
        try:
            re2.compile(value)
        except re2.error as error:
            raise InvalidInput(f"'{value}' is not a regular expression.") from error
    return Matcher(name, MatchOp(op), value)


def parse_matchers(texts: Sequence[str]) -> tuple[Matcher, ...]:
    return tuple(parse_matcher(text) for text in texts)


def hold(matchers: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether all hold; a missing label is the empty string."""
    return all(holds(m, labels) for m in matchers)


def holds(matcher: Matcher, labels: Mapping[str, str]) -> bool:
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


def labels_of_alert(alert: Alert) -> dict[str, str]:
    """What matchers see of an alert: its labels, ``alertname``, ``severity``, ``service`` and ``kind``."""
    own = {"alertname": alert.name, "severity": alert.severity.value, "kind": alert.kind.value}
    return {"service": service_of(alert) or alert.service, **dict(alert.labels), **own}


def visible(incident: Incident, scope: tuple[Matcher, ...] | None) -> bool:
    """An incident is seen by who may see any of its signals; a signal lacking a scoped label is invisible."""
    return scope is None or any(in_scope(signal.alert.labels, scope) for signal in incident.signals)


def in_scope(labels: Labels, scope: Sequence[Matcher] | None) -> bool:
    """Whether a caller of that scope may see a row; one lacking a label of the scope is invisible."""
    own = dict(labels)
    return all(bool(own.get(m.name)) and holds(m, own) for m in scope or ())
