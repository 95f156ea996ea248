"""Questions about money: sums, month-end forecast, budgets, unusual days; filtered by what the bill holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiops.agent import time_phrases
from aiops.agent.words import content, group, raw_tokens
from aiops.core.query import CostStep, Question, Window

Bill = Mapping[str, Sequence[str]]
"""FOCUS column to its values in the stored bills, those with most spent first."""

_FORECAST = re.compile(
    r"\b(?:forecast\w*|predict\w*|month.?end|end of (?:the |this )?month|project(?:ed|ion)\w*|expect\w*"
    r"|estimat\w*|will|going to"
    r"|gonna|budgets?|on track|overspend\w*|run rate)\b"
)
_UNUSUAL = re.compile(
    r"\b(?:anomal\w+|unusual\w*|spik\w+|unexpected\w*|jump\w*|surpris\w+|outliers?|weird|strange|why .*\b(?:up"
    r"|rise|rose|increas\w+"
    r"|higher|so (?:much|high|expensive)|more))\b"
)
_GROUPS = (
    (r"\bregions?\b", "RegionId"), (r"\b(?:accounts?|teams?|subscriptions?|projects?)\b", "SubAccountName"),
    (r"\bresources?\b", "ResourceId"), (r"\bcategor(?:y|ies)\b", "ServiceCategory"),
    (r"\bproviders?\b", "ServiceProviderName"),
)  # fmt: skip
_GROUPED = "|".join(pattern for pattern, _ in _GROUPS)
"""A forecast is of the whole, so that one asked for by group is answered in part only."""
COLUMN_WORDS = {
    "ServiceName": "service", "RegionId": "region", "SubAccountName": "account", "ResourceId": "resource",
    "ServiceCategory": "category", "ServiceProviderName": "provider",
}  # fmt: skip
_OF_MONEY = group("money")
OURSELVES = "aiops"
"""The service under which the assistant books what its own models cost."""
_OURSELVES = re.compile(
    r"\b(?:(?:the|this|our|your) )?(?:assistant|aiops|copilot)(?: itself| yourself)?\b"
    r"|\byourself\b|\b(?:do|did|will|have) you(?= (?:cost|spen[dt])\b)"
)


@dataclass(frozen=True, slots=True)
class Money:
    """A cost step, or what to say instead of one."""

    step: CostStep | None
    confidence: float = 0.0
    clarify: str = ""


def read(question: Question, rest: str, window: Window | None, back_s: float | None, bill: Bill) -> Money:
    """The step for a question about money. ``rest`` is the question without its time phrase."""
    low = question.text.lower()
    ours = OURSELVES in bill.get("ServiceName", ()) and _OURSELVES.search(rest.lower())
    if ours:
        rest = _OURSELVES.sub(OURSELVES, rest.lower())
    where, left = _filters(rest, bill)
    if left and bill:
        typed = {word.lower(): word for word in re.findall(r"[\w.-]+", question.text)}
        return Money(None, clarify=_unmatched([typed.get(word, word) for word in left], bill))
    sure = 0.9 if not left else 0.45
    of = f" of {', '.join(where.values())}" if where else ""
    group = next((column for pattern, column in _GROUPS if re.search(pattern, low)), "ServiceName")
    if ours and group == "ServiceName":
        group = "ResourceId"
    if _UNUSUAL.search(low) and not re.search(r"\bbudget|\bforecast", low):
        step = CostStep(
            title="unusual cost" + of, what="anomalies", group_by=(group,), where=where,
            window=window or Window(last_s=14 * 86400.0),
        )  # fmt: skip
        return Money(step, min(sure, 0.85))
    month = _window("this month", question)
    if _FORECAST.search(low) and (window is None or window.end_ms is None):
        if re.search(r"\b(?:per|by|each)\b", rest) and re.search(_GROUPED, low):
            sure = min(sure, 0.5)
        return Money(
            CostStep(title="expected cost of the month" + of, what="forecast", where=where, window=month), sure
        )
    if window is None and back_s is not None:
        window = _window("this week" if back_s >= 7 * 86400 else "yesterday", question)
        if back_s > 8 * 86400:
            window = month
    if re.search(r"\bthis (week|month|year)\b", low) and back_s is not None:
        match = re.search(r"\bthis (?:week|month|year)\b", low)
        window = _window(match.group(0), question) if match else window
    title = "cost by " + COLUMN_WORDS[group] + of
    return Money(CostStep(title=title, group_by=(group,), where=where, window=window or month), sure)


def _window(words: str, question: Question) -> Window:
    found = time_phrases.find(words, question.asked_ms, question.zone).window
    return found or Window(words=words)


def _filters(rest: str, bill: Bill) -> tuple[dict[str, str], list[str]]:
    """Values of the bill that the question names, and words that neither it nor the language of money knows."""
    low = " ".join(raw_tokens(rest))
    where: dict[str, str] = {}
    taken: set[str] = set()
    for column, values in bill.items():
        whole = [v for v in values if len(v) > 2 and re.search(rf"\b{re.escape(v.lower())}\b", low)]
        if whole and column not in where:
            where[column] = max(whole, key=len)
            taken |= {p for w in raw_tokens(where[column]) for p in (w, *content(w))}
    left = [w for w in dict.fromkeys(_words(low)) if w[0] not in taken and w[1] not in taken and w[1] not in _OF_MONEY]
    for column, values in bill.items():
        if column in where:
            continue
        folded = {v: set(content(v)) for v in values}
        for word in list(left):
            named = [v for v, parts in folded.items() if word[1] in parts]
            if len(named) == 1:
                where[column] = named[0]
                left = [w for w in left if w[1] not in folded[named[0]]]
                break
    return where, [w[0] for w in left]


def _words(low: str) -> list[tuple[str, str]]:
    return [(word, folded) for word in raw_tokens(low) for folded in content(word)[:1]]


def _unmatched(left: Sequence[str], bill: Bill) -> str:
    said = ", ".join(f"'{word.upper() if len(word) <= 3 else word}'" for word in left[:3])
    have = [*bill.get("ServiceName", ())][:8]
    text = f"Nothing in the bill matches {said}."
    return f"{text} Its services are {', '.join(have)}."[:300] if have else text
