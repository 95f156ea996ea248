"""Which questions are look-ups in Kubernetes, and which are not."""

from __future__ import annotations

from typing import Any

import pytest

from aiops.agent.catalogue import KnownCatalogue
from aiops.agent.planner_offline import OfflinePlanner
from aiops.core.principal import LOCAL
from aiops.core.query import Plan, Question, ToolStep
from aiops.core.series import MetricMetadata

NOW = 1_795_521_600_000
TOOLS = {"kubernetes": ("prod",)}
PLANNER = OfflinePlanner()
EMPTY = KnownCatalogue(())


def plan(text: str, tools: dict[str, tuple[str, ...]] | None = None, catalogue: KnownCatalogue = EMPTY) -> Plan:
    return PLANNER.plan(
        Question(text, LOCAL, NOW), catalogue, services=["checkout"], tools=TOOLS if tools is None else tools
    )


def looked_up(made: Plan) -> list[dict[str, Any]]:
    return [dict(step.args) for step in made.steps if isinstance(step, ToolStep)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("events of namespace shop", [{"what": "events", "namespace": "shop"}]),
        ("show the Kubernetes events in the shop namespace", [{"what": "events", "namespace": "shop"}]),
        ("any warning events for pod cart-0?", [{"what": "events", "name": "cart-0"}]),
        ("previous logs of pod cart-0", [{"what": "logs", "previous": True, "name": "cart-0"}]),
        ("previous logs of cart-0", [{"what": "logs", "previous": True, "name": "cart-0"}]),
        ("logs of pod shop/cart-0", [{"what": "logs", "namespace": "shop", "name": "cart-0"}]),
        ("what did pod cart-0 log before it crashed?", [{"what": "logs", "previous": True, "name": "cart-0"}]),
        ("logs of pod cart-0 before the last restart", [{"what": "logs", "previous": True, "name": "cart-0"}]),
        ("rollout history of checkout", [{"what": "rollouts", "name": "checkout"}]),
        ("which revisions of deployment checkout were there?", [{"what": "rollouts", "name": "checkout"}]),
        ("what are the limits of deployment cart", [{"what": "limits", "name": "cart"}]),
        ("resource requests of pod cart-0 -n shop", [{"what": "limits", "name": "cart-0", "namespace": "shop"}]),
        ("how many pods are pending?", [{"what": "pods", "state": "pending"}]),
        ("which pods are crash looping", [{"what": "pods", "state": "crash_looping"}]),
        ("are any pods pending in namespace shop?", [{"what": "pods", "state": "pending", "namespace": "shop"}]),
        ("list the pods in namespace shop", [{"what": "pods", "namespace": "shop"}]),
        ("why is pod web-5f9 pending?", [{"what": "pods", "name": "web-5f9"}, {"what": "events", "name": "web-5f9"}]),
    ],
)
def test_a_question_becomes_a_look_up(text: str, expected: list[dict[str, Any]]) -> None:
    made = plan(text)
    assert looked_up(made) == expected
    assert made.sure
    assert len(made.steps) == len(expected)


def test_why_a_pod_restarts_is_its_state_its_events_and_what_it_said_before() -> None:
    made = plan("why does pod checkout-7d9 restart?")
    assert [a["what"] for a in looked_up(made)] == ["pods", "events", "logs"]
    assert {a["name"] for a in looked_up(made)} == {"checkout-7d9"}
    assert looked_up(made)[2]["previous"] is True


@pytest.mark.parametrize(
    "text",
    [
        "how many pods are running?",
        "restart pod cart-0",
        "cpu usage of pod cart-0",
        "memory of pods close to their limits",
        "how many events per second does kafka handle?",
        "which consumers lag behind?",
        "error logs of checkout",
        "what did the pods cost last month?",
        "which pods were crash looping yesterday between 2 and 3?",
        "what is wrong with checkout?",
        "connection limits of postgres",
        "recent deployments",
    ],
)
def test_other_questions_are_none(text: str) -> None:
    assert looked_up(plan(text)) == []


def test_without_the_tool_nothing_is_looked_up() -> None:
    for text in ("events of namespace shop", "why does pod checkout-7d9 restart?", "which pods are crash looping"):
        assert looked_up(plan(text, {})) == []


def test_a_metric_of_the_state_wins_over_the_look_up() -> None:
    known = KnownCatalogue([MetricMetadata("kube_pod_container_status_waiting_reason", "gauge")])
    made = plan("which pods are crash looping", catalogue=known)
    assert [s.kind for s in made.steps] == ["metric"]


def test_a_time_in_the_question_is_the_window_of_events() -> None:
    (step,) = plan("events of namespace shop in the last 2 hours").steps
    assert step.window.resolve(NOW) == (NOW - 7_200_000, NOW)
    (step,) = plan("events of namespace shop").steps
    assert "window" not in step.model_fields_set


def test_several_clusters_are_all_asked_unless_one_is_named() -> None:
    both = {"kubernetes": ("eu-1", "us-1")}
    assert [s.name for s in plan("events of namespace shop", both).steps if isinstance(s, ToolStep)] == ["eu-1", "us-1"]
    one = plan("events of namespace shop in us-1", both)
    assert [s.name for s in one.steps if isinstance(s, ToolStep)] == ["us-1"]
