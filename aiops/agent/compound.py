"""Questions that ask for several things at once: "p50, p95 and p99 of checkout", "cpu and memory of web-1"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiops.core.query import Plan

MOST = 4
_QUANTILE = r"(?:p\d{2,3}|\d{2}(?:th|st|nd|rd)?\s+percentiles?|median)"
_QUANTILES = re.compile(rf"\b({_QUANTILE}(?:\s*(?:,|/|&|\+|\band\b|\bor\b|\bvs\.?)\s*{_QUANTILE})+)\b", re.IGNORECASE)
_AND = re.compile(r"\s*(?:,\s*(?:and\s+)?|\s+and\s+|\s*&\s*|\s+as well as\s+|\s+plus\s+)", re.IGNORECASE)
_TAIL = re.compile(
    r"\s+(?:of|on|for|in|from|per|by|during|over|since|at|between|within|yesterday|today|last|this|now|right now)\b.*$",
    re.IGNORECASE | re.DOTALL,
)
_LEAD = re.compile(
    r"^\W*(?:(?:please|can you|could you)\s+)*(?:show(?: me)?|give me|get|what(?:'s| is| are| were| was)|tell me|plot"
    r"|graph|chart)?\s*(?:the\s+)?(?:current\s+)?",
    re.IGNORECASE,
)
_METRICAL = frozenset({"metric", "forecast", "compare"})


def of_quantiles(text: str) -> bool:
    """Whether several quantiles of one thing are asked for."""
    return _QUANTILES.search(text) is not None


def parts(text: str) -> tuple[str, ...]:
    """The questions that a question is made of, each whole by itself; none where it asks for one thing.

    >>> parts("p50, p95 and p99 of checkout")
    ('p50 of checkout', 'p95 of checkout', 'p99 of checkout')
    >>> parts("cpu and memory of web-1 in the last hour")
    ('cpu of web-1 in the last hour', 'memory of web-1 in the last hour')
    >>> parts("how slow is checkout?")
    ()
    """
    if (several := _QUANTILES.search(text)) is not None:
        found = re.findall(_QUANTILE, several.group(1), re.IGNORECASE)
        return tuple(f"{text[: several.start()]}{q}{text[several.end() :]}" for q in dict.fromkeys(found))[:MOST]
    bare = text.rstrip(" ?!.")
    lead = _LEAD.match(bare)
    start = lead.end() if lead is not None else 0
    tail = _TAIL.search(bare, start)
    named = bare[start : tail.start()] if tail is not None else bare[start:]
    heads = [head.strip() for head in _AND.split(named) if head.strip()]
    if not 1 < len(heads) <= MOST:
        return ()
    rest = tail.group(0) if tail is not None else ""
    return tuple(f"{head}{rest}" for head in heads)


def joined(whole: Plan, plans: Sequence[Plan], *, quantiles: bool) -> Plan:
    """One plan of all parts where each is understood better than the whole, and each is another; else the whole.

    Quantiles of one concept are understood together: as well as the best understood of them.
    """
    steps = [step for plan in plans for step in plan.steps]
    concepts = dict.fromkeys(plan.concept for plan in plans)
    if len({getattr(step, "promql", "") for step in steps if step.kind in _METRICAL}) != len(plans):
        return whole
    confidences = [plan.confidence for plan in plans]
    same = quantiles and len(concepts) == 1
    confidence = max(confidences) if same else min(confidences)
    if not (same or (all(plan.sure for plan in plans) and confidence > whole.confidence)):
        return whole
    return plans[0].model_copy(
        update={
            "steps": tuple(steps),
            "confidence": confidence,
            "sure": any(plan.sure for plan in plans),
            "concept": ", ".join(concepts)[:80],
            "candidates": tuple(dict.fromkeys(c for plan in plans for c in plan.candidates))[:10],
            "notes": tuple(dict.fromkeys(n for plan in plans for n in plan.notes))[:10],
        }
    )
