from __future__ import annotations

from tests.benchmarks.storm_world import world
from tests.benchmarks.storms import cascade, measure


def test_overlapping_faults_get_an_incident_each_and_better_than_a_window_does() -> None:
    found = measure(world(3, 0.3))
    assert found["in one incident"] >= 0.9
    assert found["F1"] >= max(found["F1 window"], found["F1 service"]) + 0.1
    assert found["false an hour of quiet"] <= 0.5


def test_a_cascade_of_hundreds_of_alerts_rings_five_times_at_most() -> None:
    assert 1 <= cascade(500)["pages"] <= 5
