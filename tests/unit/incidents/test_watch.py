from __future__ import annotations

import pytest

from aiops.incidents.watch import KINDS, default_watch, entries_for, name_of, present, rule_entries, watch_list
from aiops.promql.parse import parse
from aiops.settings import DetectionSettings, WatchSettings


def test_every_default_query_is_promql_over_the_rate_window() -> None:
    entries = default_watch(15_000, 30_000)
    for entry in entries:
        parse(entry.query)
        assert "[W]" not in entry.query
        assert "simulated" in entry.query
        assert entry.kind in KINDS
        assert entry.needs
        assert all(name in entry.query for name in entry.needs)
    assert any("[30s]" in entry.query for entry in entries)
    assert len({entry.name for entry in entries}) == len(entries)


@pytest.mark.parametrize(("window", "step", "text"), [(30_000, 60_000, "[60s]"), (1500, 500, "[1500ms]")])
def test_the_rate_window_is_at_least_a_step(window: int, step: int, text: str) -> None:
    assert text in default_watch(step, window)[0].query


def test_entries_whose_metrics_are_missing_are_not_asked() -> None:
    entries = default_watch(60_000, 60_000)
    assert present(entries, ()) == ()
    found = present(entries, ("http_server_request_duration_seconds_count", "db_client_connections_usage"))
    assert {entry.name for entry in found} == {"request_rate", "error_ratio"}


def test_the_users_list_replaces_the_default() -> None:
    one = WatchSettings(query="sum(rate(orders_total[5m]))", kind="traffic", direction="down", step_s=30)
    named = WatchSettings(query="x", name="mine", unit="ratio")
    first, second = watch_list(DetectionSettings(watch=(one, named)))
    assert (first.name, first.step_ms, first.needs) == (name_of(one.query), 30_000, ())
    assert (second.name, second.least) == ("mine", 0.02)
    assert watch_list(DetectionSettings(step_s=30))[0].step_ms == 30_000


def test_counters_are_read_over_four_scrapes() -> None:
    assert "[60s]" in watch_list(DetectionSettings(step_s=30))[0].query
    assert "[240s]" in watch_list(DetectionSettings(scrape_interval_s=60))[0].query


@pytest.mark.parametrize(
    ("query", "kind", "direction"),
    [
        ("node_filesystem_avail_bytes", "saturation", "down"),
        ("node_memory_MemAvailable_bytes", "saturation", "down"),
        ('1 - avg(rate(node_cpu_seconds_total{mode="idle"}[5m]))', "saturation", "up"),
        ("rate(http_requests_total[5m])", "traffic", "both"),
        ("job:http_errors:ratio", "errors", "up"),
        ("probe_success", "errors", "down"),
        ("histogram_quantile(0.95, rate(x_duration_seconds_bucket[5m]))", "latency", "up"),
    ],
)
def test_a_query_says_which_way_is_bad(query: str, kind: str, direction: str) -> None:
    (entry,) = entries_for([query, query], DetectionSettings())
    assert (entry.kind, entry.direction) == (kind, direction)


def test_recording_rules_are_watched_by_their_names() -> None:
    found = rule_entries(["job:http_errors:ratio5m", "up", "a:b_bucket", ":x", "z:y"], 60_000)
    assert [(e.name, e.query, e.needs) for e in found] == [
        ("job:http_errors:ratio5m", "job:http_errors:ratio5m", ("job:http_errors:ratio5m",)),
        ("z:y", "z:y", ("z:y",)),
    ]
    assert len(rule_entries([f"a:{i}" for i in range(500)], 60_000)) == 50
