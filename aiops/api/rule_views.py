"""Rules and their alerts in the JSON of Prometheus' HTTP API, as far as a caller may see them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from aiops.api.services import Component, ComponentState
from aiops.core.errors import InvalidInput
from aiops.core.principal import Principal
from aiops.core.series import Matcher, MatchOp
from aiops.incidents.matchers import in_scope
from aiops.promql.matching import compile_regex
from aiops.promql.parse import parse
from aiops.rules.alerting import AlertState
from aiops.rules.engine import GroupStatus, RuleEngine, RuleStatus
from aiops.rules.evaluate import AlertView, Outcome

NEVER = "0001-01-01T00:00:00Z"


def groups_data(
    groups: Sequence[GroupStatus],
    caller: Principal,
    *,
    kind: str = "",
    rules: Sequence[str] = (),
    names: Sequence[str] = (),
    files: Sequence[str] = (),
    matching: Sequence[Sequence[Matcher]] = (),
    alerts: bool = True,
) -> dict[str, Any]:
    """The ``data`` of ``/api/v1/rules``.

    Args:
        kind: ``alert`` or ``record``; empty for both.
        rules, names, files: wanted rule names, group names and files; empty for all.
        matching: selectors, one of which a rule's labels must match; templates in labels match nothing but themselves.
        alerts: whether rules show their alerts.
    """
    found = []
    for status in groups:
        if (names and status.group.name not in names) or (files and status.group.file not in files):
            continue
        wanted = [
            _rule(r, caller, alerts)
            for r in status.rules
            if (not rules or r.rule.name in rules)
            and kind in ("", "alert" if r.rule.alert else "record")
            and (not matching or any(all(_matches(dict(r.labels), m) for m in matchers) for matchers in matching))
        ]
        if wanted or not (kind or rules or matching):
            found.append(
                {
                    "name": status.group.name,
                    "file": status.group.file,
                    "rules": wanted,
                    "interval": status.interval_ms / 1000,
                    "limit": status.group.limit,
                    **_times(status.outcome),
                }
            )
    return {"groups": found}


def page_of(data: dict[str, Any], limit: str, token: str) -> dict[str, Any]:
    """``limit`` groups of ``/api/v1/rules`` from the one that ``token`` names, and the token of the next page."""
    if not (limit or token):
        return data
    if not limit:
        raise InvalidInput('invalid parameter "group_limit": group_limit needs to be set when group_next_token is set')
    if not (limit.isascii() and limit.isdigit() and int(limit) > 0):
        raise InvalidInput('invalid parameter "group_limit": group_limit needs to be a valid number greater than 0')
    groups = data["groups"]
    tokens = [_token(group) for group in groups]
    if token and token not in tokens:
        raise InvalidInput('invalid parameter "group_next_token": the groups changed; ask for the first page again')
    first = tokens.index(token) if token else 0
    last = first + int(limit)
    return {"groups": groups[first:last], **({"groupNextToken": tokens[last]} if last < len(groups) else {})}


def _token(group: dict[str, Any]) -> str:
    return hashlib.sha256(f"{group['file']};{group['name']}".encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _matches(labels: dict[str, str], matcher: Matcher) -> bool:
    value = labels.get(matcher.name, "")
    if matcher.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
        return (value == matcher.value) == (matcher.op is MatchOp.EQUAL)
    return (compile_regex(matcher.value).fullmatch(value) is not None) == (matcher.op is MatchOp.REGEX)


def alerts_data(groups: Sequence[GroupStatus], caller: Principal) -> dict[str, Any]:
    """The ``data`` of ``/api/v1/alerts``: what is pending or fires."""
    return {"alerts": [_alert(a) for g in groups for r in g.rules for a in _seen(r.alerts, caller)]}


def rule_components(engine: RuleEngine) -> list[Component]:
    """How rules do, as ``/readyz`` shows it; nothing where there are none."""
    count = sum(len(group.rules) for group in engine.status())
    if not count:
        return []
    if failing := engine.failing():
        more = f" and {len(failing) - 3} more" if len(failing) > 3 else ""
        return [Component("rules", ComponentState.DEGRADED, f"failing: {', '.join(failing[:3])}{more}")]
    return [Component("rules", ComponentState.READY, f"{count} rules")]


def _rule(status: RuleStatus, caller: Principal, alerts: bool) -> dict[str, Any]:
    rule, outcome = status.rule, status.outcome
    error = outcome.error if caller.scope is None or not outcome.error else "the evaluation failed"
    common = {
        "name": rule.name,
        "query": _canonical(rule.expr),
        "labels": dict(status.labels),
        "health": outcome.health.value,
        **({"lastError": error} if error else {}),
        **_times(outcome),
    }
    if rule.record:
        return {**common, "type": "recording"}
    seen = _seen(status.alerts, caller)
    states = {a.state for a in seen}
    order = (AlertState.FIRING, AlertState.PENDING)
    return {
        "state": next((s.value for s in order if s in states), AlertState.INACTIVE.value),
        **common,
        "duration": rule.for_ms / 1000,
        "keepFiringFor": rule.keep_firing_for_ms / 1000,
        "annotations": dict(rule.annotations),
        **({"alerts": [_alert(a) for a in seen]} if alerts else {}),
        "type": "alerting",
    }


@lru_cache(4096)
def _canonical(expr: str) -> str:
    return str(parse(expr))


def _alert(alert: AlertView) -> dict[str, Any]:
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "state": alert.state.value,
        "activeAt": _time(alert.active_ms),
        **({"keepFiringSince": _time(alert.kept_since_ms)} if alert.kept_since_ms else {}),
        "value": exponent_text(alert.value),
    }


def exponent_text(value: float) -> str:
    """Go's ``'e', -1``: shortest digits, always with an exponent."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    for digits in range(17):
        text = f"{value:.{digits}e}"
        if float(text) == value:
            return text
    return f"{value:.17e}"


def _times(outcome: Outcome) -> dict[str, Any]:
    return {"evaluationTime": outcome.took_s, "lastEvaluation": _time(outcome.at_ms) if outcome.at_ms else NEVER}


def _time(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _seen(alerts: Sequence[AlertView], caller: Principal) -> list[AlertView]:
    return [a for a in alerts if in_scope(a.labels, caller.scope)]
