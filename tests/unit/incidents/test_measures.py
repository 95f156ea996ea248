from __future__ import annotations

import pytest

from aiops.core.watching import AlertCondition, Measure
from aiops.incidents.measures import alert_measures, measure_entries
from aiops.incidents.watch import default_watch

STEP = 60_000


@pytest.mark.parametrize(
    ("rule", "query", "direction"),
    [
        ("sum(rate(errors_total[5m])) > 3", "sum(rate(errors_total[5m]))", "up"),
        ("0.1 > free_ratio", "free_ratio", "down"),
        ("(a / b) <= 0.1 and on (job) c > 2", "a / b", "down"),
        ("(lag_seconds) >= 24 * 3600", "lag_seconds", "up"),
        ("lag_seconds > 5 unless on () maintenance", "lag_seconds", "up"),
    ],
)
def test_what_a_rule_compares_is_watched_in_its_direction(rule: str, query: str, direction: str) -> None:
    (found,) = alert_measures([AlertCondition("A rule", rule)])
    assert (found.name, found.query, found.direction) == ("A_rule_condition", query, direction)


@pytest.mark.parametrize("rule", ["up == 0", "absent(up)", "a > b", "errors_total > 0", "1 > 2", "not promql ((", "up"])
def test_rules_of_another_form_are_left_out(rule: str) -> None:
    assert alert_measures([AlertCondition("A rule", rule)]) == []


def test_two_rules_on_one_measure_are_one() -> None:
    rules = [AlertCondition("Warn", "depth > 5"), AlertCondition("Page", "depth > 50")]
    assert [m.name for m in alert_measures(rules)] == ["Warn_condition"]


def test_what_is_watched_already_is_left_out_and_the_rest_is_cut_to_the_limit() -> None:
    known = default_watch(STEP, STEP)
    cpu = Measure("cpu", "avg(rate(node_cpu_seconds_total[1m]))", "ratio", "up", ("node_cpu_seconds_total",))
    free = ("node_filesystem_avail_bytes", "node_filesystem_size_bytes", "node_filesystem_readonly")
    disk = Measure("disk", "node_filesystem_avail_bytes / node_filesystem_size_bytes", "ratio", "down", free)
    fresh = [Measure(f"m{i}", f"metric_{i}", "ratio", "up", (f"metric_{i}",)) for i in range(5)]
    assert [e.name for e in measure_entries([cpu, disk, *fresh], known, STEP, 3)] == ["m0", "m1", "m2"]
    assert measure_entries(fresh, known, STEP, 0) == ()
    assert all(e.found and e.step_ms == STEP for e in measure_entries(fresh, known, STEP, 9))


def test_kind_and_least_deviation_follow_the_unit_and_the_words() -> None:
    latency = Measure("disk_latency", "x_latency_seconds", "s", "up", ("x_latency_seconds",))
    errors = Measure("net_errors", "errs / packets", "ratio", "up", ("errs", "packets"))
    full = Measure("pool", "used / size", "ratio", "up", ("used", "size"))
    found = measure_entries([latency, errors, full], (), STEP, 9)
    assert [(e.kind, e.least) for e in found] == [("latency", 0.0), ("errors", 0.02), ("saturation", 0.1)]
