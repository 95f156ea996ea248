from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.errors import InvalidInput
from aiops.jobs.clock import next_run
from aiops.jobs.cron import parse_cron


def ms(*parts: int, zone: str = "UTC", fold: int = 0) -> int:
    return int(datetime(*parts, tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)  # type: ignore[arg-type, misc]


def runs(cron: str, zone: str, after_ms: int, count: int) -> list[int]:
    found = []
    for _ in range(count):
        upcoming = next_run(cron, zone, after_ms)
        assert upcoming is not None
        found.append(upcoming)
        after_ms = upcoming
    return found


def test_weekday_one_is_monday_and_seven_is_sunday() -> None:
    tuesday = ms(2026, 11, 24)
    assert next_run("0 8 * * 1", "UTC", tuesday) == ms(2026, 11, 30, 8)
    assert next_run("0 8 * * 7", "UTC", tuesday) == next_run("0 8 * * 0", "UTC", tuesday) == ms(2026, 11, 29, 8)
    assert next_run("0 8 * * mon-fri", "UTC", tuesday) == ms(2026, 11, 24, 8)


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("*", None), ("1-5", (1, 2, 3, 4, 5)), ("fri-mon", (0, 1, 5, 6)), ("*/2", (0, 2, 4, 6)), ("5-7", (0, 5, 6)),
        ("1,wed", (1, 3)), ("2/2", (2, 4, 6)),
    ],
)  # fmt: skip
def test_weekday_fields(field: str, days: tuple[int, ...] | None) -> None:
    assert parse_cron(f"0 0 * * {field}").weekdays == days


def test_spring_change_runs_a_skipped_time_once() -> None:
    start = ms(2026, 3, 28, 12)
    found = runs("30 2 * * *", "Europe/Berlin", start, 3)
    assert [datetime.fromtimestamp(t / 1000, UTC).isoformat() for t in found] == [
        "2026-03-29T01:30:00+00:00",
        "2026-03-30T00:30:00+00:00",
        "2026-03-31T00:30:00+00:00",
    ]


def test_autumn_change_runs_a_repeated_time_once() -> None:
    found = runs("30 2 * * *", "Europe/Berlin", ms(2026, 10, 24, 12), 2)
    assert [datetime.fromtimestamp(t / 1000, UTC).isoformat() for t in found] == [
        "2026-10-25T00:30:00+00:00",
        "2026-10-26T01:30:00+00:00",
    ]


def test_an_hourly_line_runs_each_hour_of_the_autumn_change() -> None:
    found = runs("0 * * * *", "Europe/Berlin", ms(2026, 10, 24, 22), 6)
    assert [b - a for a, b in itertools.pairwise(found)] == [3_600_000] * 5


def test_day_of_month_and_weekday_are_alternatives() -> None:
    found = runs("0 8 13 * 5", "UTC", ms(2026, 11, 1), 3)
    assert [datetime.fromtimestamp(t / 1000, UTC).day for t in found] == [6, 13, 20]
    found = runs("0 8 1 * 5", "UTC", ms(2026, 11, 24), 2)
    assert [datetime.fromtimestamp(t / 1000, UTC).day for t in found] == [27, 1]


def test_a_date_that_never_comes() -> None:
    assert next_run("0 0 31 2 *", "UTC", ms(2026, 1, 1)) is None


@pytest.mark.parametrize("cron", ["", "* * * *", "61 * * * *", "* * * * 8", "* * * * foo", "a b c d e", "0 0 * * 1/0"])
def test_lines_that_cannot_be_read(cron: str) -> None:
    with pytest.raises(InvalidInput, match="cron line"):
        next_run(cron, "UTC", 0)


@pytest.mark.parametrize("zone", ["", "Mars/Base", "../etc/passwd", "\0"])
def test_zones_that_do_not_exist(zone: str) -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        next_run("0 0 * * *", zone, 0)


@settings(max_examples=60, deadline=None)
@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    weekday=st.none() | st.integers(0, 6),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    start=st.integers(1_740_000_000, 1_800_000_000),
)
def test_a_week_of_runs_is_that_of_a_walk_through_the_minutes(
    minute: int, hour: int, weekday: int | None, zone: str, start: int
) -> None:
    cron = f"{minute} {hour} * * {'*' if weekday is None else weekday}"
    where = ZoneInfo(zone)
    moment = datetime.fromtimestamp(start // 60 * 60, UTC)
    end = moment + timedelta(days=8)
    walked, seen = [], set()
    while moment < end:
        moment += timedelta(minutes=1)
        local = moment.astimezone(where)
        fits = (local.minute, local.hour) == (minute, hour) and weekday in (None, local.isoweekday() % 7)
        if fits and local.replace(tzinfo=None) not in seen:
            seen.add(local.replace(tzinfo=None))
            walked.append(int(moment.timestamp() * 1000))
    found, after = [], start * 1000
    while (upcoming := next_run(cron, zone, after)) is not None and upcoming <= end.timestamp() * 1000:
        found.append(upcoming)
        after = upcoming
    # A start within a repeated hour sees that hour's second half first; a skipped time runs late.
    assert set(walked) - set(found) <= set(walked[:1])
    for extra in set(found) - set(walked):
        local = datetime.fromtimestamp(extra / 1000, UTC).astimezone(where)
        assert (local.hour, local.minute) != (hour, minute)
    assert found == sorted(set(found))
