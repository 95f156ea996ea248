from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.agent import time_phrases
from aiops.agent.time_phrases import find

NOW = int(datetime(2026, 11, 24, 12, 0, tzinfo=UTC).timestamp() * 1000)
"""A Tuesday."""


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("errors in the last 2 hours", at(2026, 11, 24, 10), NOW),
        ("cpu over the past 30 min", at(2026, 11, 24, 11, 30), NOW),
        ("past day", at(2026, 11, 23, 12), NOW),
        ("over the last few days", at(2026, 11, 21, 12), NOW),
        ("what changed today?", at(2026, 11, 24), NOW),
        ("what changed yesterday?", at(2026, 11, 23), at(2026, 11, 24)),
        ("what did we spend this week", at(2026, 11, 23), NOW),
        ("what did we spend last week", at(2026, 11, 16), at(2026, 11, 23)),
        ("cost last month", at(2026, 10, 1), at(2026, 11, 1)),
        ("since 10:30", at(2026, 11, 24, 10, 30), NOW),
        ("since 23:15", at(2026, 11, 23, 23, 15), NOW),
        ("since monday", at(2026, 11, 23), NOW),
        ("last friday", at(2026, 11, 20), at(2026, 11, 21)),
    ],
)
def test_phrases(text: str, start: int, end: int) -> None:
    window = find(text, NOW).window
    assert window is not None
    assert window.resolve(NOW) == (start, end)


def test_the_zone_decides_where_days_begin() -> None:
    window = find("what changed today?", NOW, "Asia/Tokyo").window
    assert window is not None
    assert window.resolve(NOW)[0] == at(2026, 11, 23, 15)


@pytest.mark.parametrize(
    ("text", "horizon"),
    [("will it be full in the next 2 days?", 172_800), ("full within 4 hours", 14_400), ("in 30 minutes", 1800)],
)
def test_the_future_is_a_horizon_and_no_window(text: str, horizon: float) -> None:
    phrase = find(text, NOW)
    assert phrase.horizon_s == horizon
    assert phrase.window is None


def test_since_the_last_deploy_is_asked_for() -> None:
    phrase = find("error rate since the last deploy", NOW)
    assert phrase.since_deploy
    assert "deploy" not in phrase.rest


def test_a_question_without_time_keeps_its_words() -> None:
    assert find("Which hosts are LOW on disk?", NOW).rest == "which hosts are low on disk?"


@given(
    st.text(max_size=120), st.integers(0, 4_102_444_800_000), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo"])
)
def test_any_text_gives_a_window_that_is_not_empty_and_not_ahead(text: str, now: int, zone: str) -> None:
    window = find(text, now, zone).window
    if window is not None:
        start, end = window.resolve(now)
        assert start < end <= now


@given(
    st.sampled_from(["last", "past"]),
    st.integers(1, 10**6),
    st.sampled_from(["seconds", "min", "h", "days", "weeks", "months"]),
)
def test_counts_and_units_never_leave_the_cap(word: str, count: int, unit: str) -> None:
    window = find(f"errors in the {word} {count} {unit} please", 4_102_444_800_000).window
    assert window is not None
    assert 0 < window.last_s <= 400 * 86400


NOON = 1_773_230_400_000
"""Wednesday 2026-03-11 12:00 UTC."""


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("will the disk be full this week", 108),
        ("full by friday", 60),
        ("run out in 3 days", 72),
        ("out of space tomorrow", 36),
        ("will it fill this month", 492),
        ("going to fill over the weekend", 108),
        ("by the end of the day", 12),
        ("by the end of the year", 24 * 295 + 12),
    ],
)
def test_what_lies_ahead_is_a_horizon(text: str, hours: float) -> None:
    found = time_phrases.find(text, NOON)
    assert found.horizon_s == hours * 3600
    assert found.window is None


@pytest.mark.parametrize(
    ("text", "hours", "rest"),
    [
        ("cpu vs yesterday", 24, "cpu"),
        ("cpu compared to last week", 168, "cpu"),
        ("is cpu higher than an hour ago", 1, "is cpu"),
        ("compare cpu with the same time last week", 168, "cpu"),
        ("cpu week over week", 168, "cpu"),
        ("cpu vs last monday", 48, "cpu"),
        ("more traffic than usual", 168, "more traffic"),
    ],
)
def test_an_earlier_time_to_compare_with(text: str, hours: float, rest: str) -> None:
    found = time_phrases.find(text, NOON)
    assert found.back_s == hours * 3600
    assert " ".join(found.rest.split()).removesuffix(" with") == rest


@pytest.mark.parametrize(
    ("text", "start_h", "end_h"),
    [
        ("what happened last night", -18, -4),
        ("between 10:00 and 11:30", -2, -0.5),
        ("errors over the weekend", -108, -60),
        ("yesterday morning", -36, -24),
        ("errors 2 hours ago", -2.2, -1.8),
        ("costs in january", -24 * 69 - 12, -24 * 38 - 12),
    ],
)
def test_more_windows(text: str, start_h: float, end_h: float) -> None:
    window = time_phrases.find(text, NOON).window
    assert window is not None
    start, end = window.resolve(NOON)
    assert (start - NOON, end - NOON) == pytest.approx((start_h * 3_600_000, end_h * 3_600_000))
