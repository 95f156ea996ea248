"""Steps that are not metrics: incidents, explanations, changes, logs, traces, discovery, actions."""

from __future__ import annotations

import re
from typing import Literal

from aiops.agent.words import content, group, raw_tokens
from aiops.core.query import (
    ActionProposalStep,
    ChangeStep,
    DiscoverStep,
    ExplainStep,
    IncidentStep,
    LogStep,
    PlanStep,
    Question,
    TraceStep,
    Window,
)

_INCIDENTS = re.compile(
    r"\b(incidents?|alerts?|outages?|on fire|firing|any(?:thing)? (?:wrong|problems?|issues?|broken)"
    r"|(?:everything|all|things|we|(?:the|our) (?:shop|app|application|system|site|website|platform|stack|production))"
    r" (?:is |are )?(?:ok|okay|fine|healthy|alright|good|up|running|working|green)\b"
    r"|what(?:'s|s| is) (?:broken|wrong|going on|happening)(?! with)|are we ok"
    r"|any(?:thing|body)? (?:weird|strange|odd|unusual|suspicious|off|going on|happening)"
    r"|what (?:all )?happened)\b"
    r"|^\W*(?:status|root cause|why)\W*$"
)
_HAPPENED = re.compile(r"\bwhat (?:all )?happened\b")
CHANGED = group("change")
AROUND_CHANGE = group("around change")
"""What may stand beside a word of change in a question about deploys and configuration, and nothing else."""
_STILL = r"chang|deploy|releas|roll"
"""What is left of a question about changes when "since the last deploy" is taken out as its time."""
_EXPLAIN = re.compile(
    r"\b(wrong|why|root cause|investigate|diagnose|troubleshoot|debug|explain|what happened|problem|issues?|broken"
    r"|going on|cause|failing|crash\w*|down|up with|healthy|ok|okay|matter)\b"
)


def read(
    question: Question, rest: str, window: Window | None, intent: str, service: str, topic: str
) -> tuple[tuple[PlanStep, ...], float] | None:
    """Steps and confidence; ``None`` where a metric is asked for.

    Args:
        rest: the question without its time phrase; ``topic`` also without names of things.
        service: the live service that it names, or empty.
    """
    low, words = question.text.lower(), set(content(topic))
    if intent == "action" and (action := _action(question.text, service)):
        return (action,), 0.8
    if (words & CHANGED and words <= CHANGED | AROUND_CHANGE) or (intent == "change" and re.search(_STILL, rest)):
        span = window or Window(last_s=7 * 86400.0 if re.search(r"\b(?:last|latest|when|history)\b", low) else 86400.0)
        return (ChangeStep(title="changes", service=service, window=span),), 0.85
    if intent == "discover":
        of_services = re.search(r"\bservices?\b|\bcall|\bdepend", low) is not None and "metric" not in low
        what: Literal["services", "metrics"] = "services" if of_services else "metrics"
        return (DiscoverStep(title=f"known {what}", what=what, words=" ".join(content(rest))[:200]),), 0.7
    if intent == "logs":
        return (_logs(question, rest, window, service),), _logs_confidence(words, service, rest)
    if intent == "traces" or re.search(r"\bslow\w*\s+(?:operations?|transactions?|spans?)\b", low):
        return (TraceStep(title="slowest spans", service=service, window=window or Window()),), (
            0.5 if re.search(r"\b(?:fail\w*|errors?|erroring)\b", low) else 0.75
        )
    past = window is not None and window.end_ms is not None and window.end_ms < question.asked_ms
    if _HAPPENED.search(low) and (past or not service):
        shown = IncidentStep(title="incidents", service=service, window=window or Window(last_s=86400.0))
        return (shown, ChangeStep(title="changes", service=service, window=shown.window)), 0.8
    if match := re.search(r"\binc-?\d+\b", low):
        one = match.group(0).upper()
        return (ExplainStep(title=f"incident {one}", incident_id=one, window=window or Window()),), 0.9
    if service and not words and intent not in ("metrics", "cost"):
        return (ExplainStep(title=f"what is wrong with {service}", service=service, window=window or Window()),), 0.65
    asks_why = intent in ("investigate", "clarify", "state") and _EXPLAIN.search(low) is not None
    if (
        service
        and asks_why
        and not re.search(r"^\W*(?:any|are|is|were|list|show|which|how many)\b.*\b(?:incident|alert)", low)
    ):
        return (ExplainStep(title=f"what is wrong with {service}", service=service, window=window or Window()),), 0.9
    if _INCIDENTS.search(low):
        over = re.search(r"\b(?:resolved|closed|past|history|were|was|happened|had)\b", low)
        shown = IncidentStep(
            title="incidents", service=service, active_only=not over and window is None,
            resolved_only=re.search(r"\b(?:resolved|closed|over|fixed)\b", rest) is not None,
            window=window or Window(last_s=(7 if over else 1) * 86400.0),
        )  # fmt: skip
        return (shown,), 0.85
    return None


def _logs(question: Question, rest: str, window: Window | None, service: str) -> LogStep:
    low = rest.lower()
    error = re.search(r"\berrors?|exceptions?|stack ?traces?|fail\w*", low)
    warning = re.search(r"\bwarn\w*", low)
    patterns = re.search(r"\bpatterns?|templates?|most (?:common|frequent)|top\b", low)
    return LogStep(
        title="log lines" + (f" of {service}" if service else ""), service=service, contains=_quoted(question.text),
        min_severity=17 if error else 13 if warning else 0, patterns=bool(patterns), window=window or Window(),
    )  # fmt: skip


_LOG_WORDS = group("log")


def _logs_confidence(words: set[str], service: str, rest: str) -> float:
    if words <= _LOG_WORDS or _quoted(rest):
        return 0.9
    return 0.8 if service else 0.55


def _quoted(text: str) -> str:
    match = re.search(r"[\"“'‘`]([^\"”'’`]{2,100})[\"”'’`]", text)
    return match.group(1) if match else ""


def _action(text: str, service: str) -> ActionProposalStep | None:
    match = re.search(
        r"\b(restart|reboot|roll ?back|scale|silence|mute|drain|cordon|kill)\b\s*(.*)", text, re.IGNORECASE
    )
    if match is None:
        return None
    verb = match.group(1).lower().replace(" ", "")
    action = {"mute": "silence", "reboot": "restart", "kill": "restart"}.get(verb, verb)
    words = [
        w
        for w in raw_tokens(match.group(2))
        if w not in ("the", "service", "pod", "a", "for", "alert", "alerts", "on", "of")
    ]
    target = service or (words[0] if words else "")
    return (
        ActionProposalStep(title=f"{action} {target}", action=action, target=target, reason=text[:300])
        if target
        else None
    )
