from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.agent import slots


@pytest.mark.parametrize(
    ("text", "op", "value", "kind"),
    [
        ("cpu over 80%", ">", 0.8, "ratio"),
        ("less than 5 percent free", "<", 0.05, "ratio"),
        ("pods using more than 2 GB", ">", 2e9, "bytes"),
        ("above 512MiB", ">", 512 * 2**20, "bytes"),
        ("slower than 300 ms, so longer than 300 ms", ">", 0.3, "seconds"),
        ("at least 3", ">=", 3, ""),
        ("jobs older than 2 days", ">", 172_800, "seconds"),
        ("under 10 minutes", "<", 600, "seconds"),
    ],
)
def test_thresholds(text: str, op: str, value: float, kind: str) -> None:
    limit = slots.threshold_of(text)
    assert limit is not None
    assert (limit.op, limit.kind) == (op, kind)
    assert limit.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("p95 latency", "quantile"),
        ("99th percentile of checkout", "quantile"),
        ("will the disk be full by friday", "forecast"),
        ("when do we run out of inodes, when will it fill", "forecast"),
        ("how many pods are pending", "count"),
        ("graph of cpu", "series"),
        ("how old are the pods", "age"),
        ("top 5 by memory", "top"),
        ("cpu", None),
    ],
)
def test_shapes(text: str, shape: str | None) -> None:
    assert slots.shape_of(text) == shape


@pytest.mark.parametrize(
    ("text", "value"), [("p99", 0.99), ("p999", 0.999), ("median", 0.5), ("95th percentile", 0.95)]
)
def test_quantiles(text: str, value: float) -> None:
    assert slots.quantile_of(text) == pytest.approx(value)


LIVE = {
    "m": {"instance": frozenset({"web-1:9100", "web-2:9100"}), "mountpoint": frozenset({"/", "/data"})},
    "n": {"instance": frozenset({"web-1:9100"}), "device": frozenset({"sda"})},
}


def test_labels_hold_only_where_every_metric_has_them() -> None:
    found = slots.labels_of("disk of web-1 on sda", LIVE)
    assert found.equal == (("instance", "web-1:9100"),)


def test_an_unknown_host_is_told_with_near_ones() -> None:
    found = slots.labels_of("disk of host web-7", LIVE)
    assert found.equal == ()
    assert found.unknown == ("web-7",)


def test_without_live_labels_nothing_is_checked() -> None:
    assert slots.labels_of("disk of host web-7", {"m": None}) == slots.LabelSlots()


SHOP = {
    "m": {
        "service_name": frozenset({"cart", "payment", "frontend"}),
        "http_request_method": frozenset({"GET", "POST"}),
        "http_response_status_code": frozenset({"200", "500"}),
        "state": frozenset({"idle", "used"}),
        "instance": frozenset({"vm"}),
        "cpu": frozenset({"0", "3"}),
    }
}


@pytest.mark.parametrize(
    ("text", "equal"),
    [
        ("how many requests does cart get", {"service_name": "cart"}),
        ("GET requests of cart", {"service_name": "cart", "http_request_method": "GET"}),
        ("requests with method post", {"http_request_method": "POST"}),
        ('requests "get"', {"http_request_method": "GET"}),
        ("get requests", {"http_request_method": "GET"}),
        ("get me the errors of payment", {"service_name": "payment"}),
        ("memory used", {}),
        ("connections with state idle", {"state": "idle"}),
        ("top 3 hosts", {}),
        ("cpu 3 of vm", {"cpu": "3", "instance": "vm"}),
        ("which vm is slow", {}),
        ("status 500", {"http_response_status_code": "500"}),
    ],
)
def test_everyday_words_are_values_only_where_written_as_such(text: str, equal: dict[str, str]) -> None:
    assert dict(slots.labels_of(text, SHOP).equal) == equal


def test_two_values_side_by_side() -> None:
    found = slots.labels_of("errors of cart and payment", SHOP)
    assert found.several == (("service_name", ("cart", "payment")),)
    assert found.equal == ()


@given(st.text(max_size=200))
def test_any_text_is_read_without_error(text: str) -> None:
    slots.shape_of(text)
    slots.threshold_of(text)
    slots.quantile_of(text)
    slots.labels_of(text, LIVE)
