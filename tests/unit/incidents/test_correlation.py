from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aiops.core.incident import Alert, Incident
from aiops.core.signals import ServiceGraph
from aiops.incidents.call_paths import CallPaths
from aiops.incidents.correlation import correlate, service_of
from aiops.incidents.transitions import joined, opened
from tests.unit.incidents.signals import MINUTE, T0, alert, anomaly

SHOP = ServiceGraph(edges=(("web", "cart"), ("cart", "db"), ("web", "search"), ("db", "disk"), ("disk", "rack")))


def open_with(first: Alert, *others: Alert, name: str = "INC-1") -> Incident:
    incident = opened(name, first, first.starts_ms)
    for other in others:
        incident = joined(incident, other, "test", other.starts_ms)
    return incident


def test_same_service_joins_and_says_why() -> None:
    link = correlate(alert("Slow", T0 + MINUTE, service="cart"), [open_with(anomaly("cart"))], SHOP)
    assert link.incident_id == "INC-1"
    assert "same service cart" in link.reason
    assert "60 s after" in link.reason


def test_callee_and_caller_join_along_the_call() -> None:
    down = correlate(anomaly("web", start=T0 + MINUTE), [open_with(anomaly("cart"))], SHOP)
    up = correlate(anomaly("db", start=T0 + MINUTE), [open_with(anomaly("cart"))], SHOP)
    assert "web calls cart" in down.reason
    assert "db is called by cart" in up.reason


def test_two_hops_join_and_three_do_not() -> None:
    incident = open_with(anomaly("web"))
    assert correlate(anomaly("db"), [incident], SHOP).incident_id == "INC-1"
    assert correlate(anomaly("disk"), [incident], SHOP).incident_id is None


def test_siblings_are_not_related() -> None:
    assert correlate(anomaly("search"), [open_with(anomaly("cart"))], SHOP).incident_id is None


def test_never_on_time_alone() -> None:
    assert correlate(anomaly("other"), [open_with(anomaly("cart"))], ServiceGraph()).incident_id is None


def test_shared_namespace_alone_relates_nothing_and_another_one_separates() -> None:
    mine = open_with(anomaly("cart", namespace="shop"))
    assert correlate(anomaly("billing", namespace="shop"), [mine], SHOP).incident_id is None
    assert correlate(anomaly("cart", namespace="staging"), [mine], SHOP).incident_id is None


def test_same_host_joins_whatever_the_port() -> None:
    first = alert("DiskFull", instance="db1:9100")
    assert correlate(alert("HighLoad", instance="db1:9256"), [open_with(first)], SHOP).incident_id == "INC-1"
    assert correlate(alert("HighLoad", instance="db2:9100"), [open_with(first)], SHOP).incident_id is None


def test_scrape_job_is_no_service() -> None:
    assert service_of(alert("DiskFull", instance="db1:9100", job="node")) == ""


def test_time_decays_once_the_other_signal_ended_but_not_while_it_fires() -> None:
    late = anomaly("web", start=T0 + 20 * MINUTE)
    firing = open_with(anomaly("cart"))
    ended = open_with(replace(anomaly("cart"), ends_ms=T0 + MINUTE))
    assert correlate(late, [firing], SHOP).incident_id == "INC-1"
    assert correlate(late, [ended], SHOP).incident_id is None


def test_life_cap_closes_an_incident_to_new_signals() -> None:
    late = anomaly("cart", "errors", start=T0 + 241 * MINUTE)
    assert correlate(late, [open_with(anomaly("cart"))], SHOP).incident_id is None


def test_simulated_never_joins_real() -> None:
    real = open_with(anomaly("cart"))
    assert correlate(anomaly("cart", "errors", simulated="true"), [real], SHOP).incident_id is None


def test_closest_relation_wins_over_order() -> None:
    near, far = open_with(anomaly("cart"), name="INC-2"), open_with(anomaly("db"), name="INC-1")
    assert correlate(alert("Slow", service="cart"), [far, near], SHOP).incident_id == "INC-2"
    assert correlate(alert("Slow", service="cart"), [near, far], SHOP).incident_id == "INC-2"


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde")), max_size=20))
def test_cycles_and_self_loops_do_no_harm(edges: list[tuple[str, str]]) -> None:
    paths = CallPaths.of(edges)
    assert all(a != b for a, b in paths.hops)
    assert set(paths.hops.values()) <= {1, 2}
    assert all(paths.hops[a, b] == 1 for a, b in edges if a != b)
