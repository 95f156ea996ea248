"""Plans of the offline planner over the demo's catalogue, and how a case compares with one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from aiops.agent import conversation
from aiops.agent.catalogue import KnownCatalogue, fold_name
from aiops.agent.planner_offline import OfflinePlanner
from aiops.core.conversation import Message, Speaker
from aiops.core.principal import LOCAL
from aiops.core.query import Plan, Question
from aiops.core.series import MetricMetadata

HERE = Path(__file__).parent
NOON = 1_773_230_400_000
"""Wednesday 2026-03-11 12:00 UTC."""
SERVICES = ("frontend", "cart", "catalog", "checkout", "inventory", "payment")
BILL = {
    "ServiceName": ("Compute", "Object Storage", "Managed Database", "Data Transfer"),
    "SubAccountName": ("shop-prod", "shop-staging", "platform"),
    "RegionId": ("eu-central-1", "us-east-1"),
}


def cases() -> list[dict[str, Any]]:
    return [
        {"fleet": path.stem.removeprefix("plans_"), **case}
        for path in sorted(HERE.joinpath("cases").glob("plans_*.yaml"))
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


def catalogue() -> KnownCatalogue:
    rows = json.loads(HERE.joinpath("catalogue.json").read_text(encoding="utf-8"))
    labels = {fold_name(r["name"]): r["labels"] for r in rows} | {r["name"]: r["labels"] for r in rows}
    return KnownCatalogue([MetricMetadata(r["name"], r["type"], "", r["help"]) for r in rows], labels)


class Asked:
    """A conversation in which one or more questions were asked before."""

    def __init__(self, before: str | list[str]) -> None:
        self._before = [before] if isinstance(before, str) else before

    def messages(self, conversation: str, limit: int = 20) -> tuple[Message, ...]:
        return tuple(Message(conversation, Speaker.PERSON, text, NOON) for text in self._before)


def plan(planner: OfflinePlanner, known: KnownCatalogue, case: dict[str, Any]) -> Plan:
    question = Question(case["ask"], LOCAL, NOON, "c1" if "after" in case else "")
    if "after" in case:
        question, _ = conversation.in_context(question, Asked(case["after"]))  # type: ignore[arg-type]
    return planner.plan(question, known, services=SERVICES, bill=lambda: BILL)


def misses(case: dict[str, Any], got: Plan) -> Iterator[str]:
    """What of a case the plan does not meet."""
    step = got.steps[0] if got.steps else None
    kind = step.kind if step is not None else "none"
    text = getattr(step, "promql", "")
    wanted = case.get("step", "metric")
    if len(got.steps) != case.get("steps", len(got.steps)):
        yield f"{len(got.steps)} steps"
    if kind != wanted:
        yield f"step {kind}, not {wanted}"
    concepts = case.get("concept", got.concept)
    if got.concept not in ([concepts] if isinstance(concepts, str) else concepts):
        yield f"concept {got.concept}, not {case['concept']}"
    for name, field in (("service", "service"), ("what", "what"), ("where", "where"), ("contains", "contains")):
        have = getattr(step, field, None)
        if name == "service" and kind == "action_proposal":
            have = getattr(step, "target", None)
        if name in case and have != case[name]:
            yield f"{name} {have}, not {case[name]}"
    if "group" in case and getattr(step, "group_by", ()) != (case["group"],):
        yield f"grouped by {getattr(step, 'group_by', ())}"
    if "window" in case and (step is None or case["window"] not in step.window.words):
        yield f"window {step.window.words if step else ''!r}"
    for name, field in (("horizon_h", "horizon_s"), ("back_h", "back_s")):
        if name in case:
            low, high = case[name] if isinstance(case[name], list) else (case[name], case[name])
            value = getattr(step, field, 0.0) / 3600
            if not low - 0.01 <= value <= high + 0.01:
                yield f"{field} of {value:.1f} h"
    if "threshold" in case:
        limit = getattr(step, "threshold", None)
        if limit is None or abs(limit.value - case["threshold"]) > 1e-9:
            yield f"threshold {limit}"
    for part in case.get("has", ()):
        if part not in text:
            yield f"no {part} in {text}"
    for part in case.get("lacks", ()):
        if part in text:
            yield f"{part} in {text}"
    if "clarify" in case and case["clarify"] not in got.clarify:
        yield f"clarify {got.clarify!r}"
    if case.get("sure") and not got.sure:
        yield f"not sure ({got.confidence})"
