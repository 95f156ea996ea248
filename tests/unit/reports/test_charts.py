from __future__ import annotations

import io
import re
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from aiops.core.cost import CostSeries
from aiops.core.evidence import Evidence, EvidenceState, Figure
from aiops.core.series import SampleBlock, labels_of
from aiops.reports import canvas, charts, lines, terminal
from aiops.reports.axes import time_ticks, value_ticks, window_text
from aiops.reports.units import scale_for

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_764_000_000_000


def line(name: str = "a", n: int = 200, level: float = 1.0) -> charts.Line:
    ts = START + np.arange(n, dtype=np.int64) * 60_000
    return charts.Line(name, ts, level + 0.1 * np.sin(np.arange(n) / 9.0))


def picture(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image.convert("RGB")


def has(png: bytes, colour: tuple[int, int, int], pixels_at_least: int = 20) -> bool:
    pixels = np.asarray(picture(png)).astype(int)
    return int((np.abs(pixels - np.array(colour)).sum(axis=2) < 12).sum()) >= pixels_at_least


def evidence(**values: object) -> Evidence:
    base: dict[str, object] = {
        "id": "E1", "kind": "metric", "title": "Disk", "source": "store", "query": "up", "start_ms": START,
        "end_ms": START + HOUR, "state": EvidenceState.OK,
    }  # fmt: skip
    return Evidence(**(base | values))  # type: ignore[arg-type]


def test_a_line_chart_shows_series_band_marker_limit_and_badge() -> None:
    band = charts.Band(line().ts, np.full(200, 0.8), np.full(200, 1.2))
    marker = charts.Marker(START + HOUR, "onset")
    png = charts.line_png([line(), line("b", level=2.0)], band=band, markers=[marker], threshold=1.5, simulated=True)
    assert picture(png).size == (1200, 520)
    for colour in (*canvas.PALETTE[:2], canvas.BAND, canvas.ALARM, canvas.AMBER):
        assert has(png, colour)
    plain = charts.line_png([line()])
    for colour in (canvas.PALETTE[1], canvas.BAND, canvas.ALARM, canvas.AMBER):
        assert not has(plain, colour)


def test_many_series_are_grey_but_the_highest() -> None:
    png = charts.line_png([line(f"s{i}", level=i) for i in range(20)])
    assert has(png, canvas.OTHERS)
    assert has(png, canvas.PALETTE[6])
    assert not has(png, canvas.PALETTE[7])


@pytest.mark.parametrize(
    "series",
    [
        [],
        [charts.Line("x", np.empty(0, np.int64), np.empty(0))],
        [charts.Line("x", np.array([START]), np.array([np.nan]))],
        [charts.Line("x", np.array([START]), np.array([3.0]))],
        [charts.Line("x", np.array([START, START + 1]), np.array([np.inf, -np.inf]))],
        [charts.Line("x", START + np.arange(5) * 1000, np.zeros(5))],
        [charts.Line("x", START + np.arange(3) * 1000, np.array([-5.0, -5.0, -5.0]))],
    ],
)
def test_odd_series_are_drawn(series: list[charts.Line]) -> None:
    assert picture(charts.line_png(series, unit="s")).size == (1200, 520)
    assert charts.terminal(series, unit="s")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
def test_any_values_can_be_drawn(values: list[float]) -> None:
    one = charts.Line("x", START + np.arange(len(values), dtype=np.int64) * 1000, np.array(values))
    assert charts.line_png([one], unit="By").startswith(b"\x89PNG")
    assert charts.terminal([one], unit="By")


def test_holes_are_not_bridged() -> None:
    values = np.ones(200)
    values[80:120] = np.nan
    pieces = lines._pieces(charts.Line("x", line().ts, values), 0, 2**60)
    assert [len(v) for _, v in pieces] == [80, 80]
    ts = np.concatenate([line().ts[:50], line().ts[:50] + 10 * HOUR])
    assert len(lines._pieces(charts.Line("x", ts, np.ones(100)), 0, 2**60)) == 2


def test_thinning_keeps_the_extremes() -> None:
    values = np.zeros(100_000)
    values[54_321], values[77_777] = 9.0, -9.0
    ts, kept = lines._thin(np.arange(100_000), values, 800)
    assert len(kept) <= 1600
    assert (kept.max(), kept.min()) == (9.0, -9.0)
    assert (np.diff(ts) > 0).all()


def test_names_are_the_labels_that_differ() -> None:
    made = [labels_of({"__name__": "up", "job": "node", "instance": i}) for i in ("a:1", "b:1")]
    assert charts.series_names(made) == ["a:1", "b:1"]
    assert charts.series_names([labels_of({"__name__": "up", "job": "n"})]) == ["up"]
    assert charts.series_names([]) == []
    two = [labels_of({"a": "1", "b": "2"}), labels_of({"a": "3", "b": "4"})]
    assert charts.series_names(two) == ["1", "3"]
    pairs = [labels_of({"instance": i, "mode": m}) for i in "xy" for m in ("idle", "user")]
    assert charts.series_names(pairs) == ["x mode=idle", "x mode=user", "y mode=idle", "y mode=user"]
    disk = labels_of({"device": "/dev/vda", "fstype": "ext4", "instance": "vm", "job": "node", "mountpoint": "/"})
    assert charts.series_names([disk]) == ["vm / /dev/vda"]
    assert charts.series_names([disk, disk]) == ["", ""]


def test_telemetry_text_is_cleaned_in_pictures_and_terminal() -> None:
    name = "\x1b[31mred\x07 [bold]\u202e\nx"
    drawn = charts.terminal([charts.Line(name, line().ts, line().values), line("b")], title=name)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\[\]\u202e]", drawn)
    assert charts.line_png([charts.Line(name, line().ts, line().values)], title=name).startswith(b"\x89PNG")


@settings(max_examples=200)
@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12), st.sampled_from(["", "s", "By", "ratio", "USD", "/s", "By/s"]))
@example(0.0, 5e-324, "")
def test_ticks_enclose_the_values(a: float, b: float, unit: str) -> None:
    low, high = min(a, b), max(a, b)
    ticks, labels = value_ticks(low, high, unit)
    assert len(ticks) == len(labels) <= 12
    slack = 1e-6 * max(abs(low), abs(high), 1e-300)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert (np.diff(ticks) > 0).all()


def test_ticks_are_round() -> None:
    assert value_ticks(0, 0.38, "s")[1] == ["0 ms", "100 ms", "200 ms", "300 ms", "400 ms"]
    assert value_ticks(0, 5 * 2**30, "By")[1][1] == "1 GiB"
    assert value_ticks(0, 1, "ratio")[1] == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    assert value_ticks(0, 900, "EUR")[1][1] == "200"
    assert scale_for(2e6, "").suffix == "M"


def test_times_are_round_in_their_zone() -> None:
    kolkata = ZoneInfo("Asia/Kolkata")
    labels = [text for _, text in time_ticks(START, START + 6 * HOUR, kolkata)]
    assert all(text.endswith(":00") or " " in text for text in labels)
    berlin = ZoneInfo("Europe/Berlin")
    changed = 1_774_742_400_000  # 29 March 2026 00:00 UTC; the clock jumps at 01:00 UTC
    hours = [text for _, text in time_ticks(changed - HOUR, changed + 6 * HOUR, berlin)]
    assert "02:00" not in hours
    assert hours[0] == "29 Mar"
    days = time_ticks(START, START + 30 * DAY, berlin)
    assert 3 <= len(days) <= 9
    assert window_text(START, START + HOUR, ZoneInfo("UTC")) == "24 Nov 2025 16:00 to 17:00 UTC"


@settings(max_examples=100)
@given(
    st.integers(0, 4_000_000_000_000),
    st.integers(1, 10**11),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
)
def test_time_ticks_lie_in_the_window_and_are_few(start: int, span: int, zone: str) -> None:
    ticks = time_ticks(start, start + span, ZoneInfo(zone))
    assert len(ticks) <= 12
    assert all(start <= at <= start + span for at, _ in ticks)


def costs(days: int = 10, groups: int = 3) -> CostSeries:
    at = (START // DAY + np.arange(days)) * DAY
    amounts = np.arange(1, groups + 1)[:, None] * np.ones(days)
    names = tuple((f"svc{i}",) for i in range(groups))
    return CostSeries(at, names, amounts, "EUR", int(at[-1]) + HOUR if days else 0)


def test_costs_are_stacked_and_the_open_day_is_pale() -> None:
    png = charts.stacked_png(costs(), threshold=4.0)
    assert has(png, canvas.PALETTE[0])
    assert has(png, canvas.tint(canvas.PALETTE[0], 0.4))
    whole = costs()
    closed = CostSeries(whole.days, whole.groups, whole.amounts, "EUR", int(whole.days[-1]) + DAY)
    assert not has(charts.stacked_png(closed), canvas.tint(canvas.PALETTE[0], 0.4))
    assert charts.stacked_png(costs(groups=15)).startswith(b"\x89PNG")
    assert charts.stacked_png(CostSeries(np.empty(0, np.int64), (), np.zeros((0, 0)), "", 0)).startswith(b"\x89PNG")


def test_evidence_chooses_its_chart() -> None:
    series = SampleBlock.build([(labels_of({"i": "a"}), line().ts, line().values)])
    assert picture(charts.chart_for(evidence(series=series), "UTC") or b"").size == (1200, 520)
    instant = SampleBlock.at(START, [(labels_of({"i": n}), v) for n, v in (("a", 1.0), ("b", 2.0))])
    assert picture(charts.chart_for(evidence(series=instant)) or b"").height < 300
    assert charts.terminal_for(evidence(series=instant)).splitlines()[1].startswith("b ")
    figures = (Figure(1.0, "USD", name="spent"), Figure(3.0, "USD", name="expected"), Figure(9.0, "1", name="days"))
    drawn = charts.terminal_for(evidence(figures=figures))
    assert "expected" in drawn
    assert "days" not in drawn
    assert charts.chart_for(evidence()) is None
    marked = SampleBlock.build([(labels_of({"i": "a", "simulated": "true"}), line().ts, line().values)])
    assert has(charts.chart_for(evidence(series=marked)) or b"", canvas.AMBER)
    assert not has(charts.chart_for(evidence(series=series)) or b"", canvas.AMBER)
    assert charts.terminal_for(evidence()) == ""


def test_cost_evidence_becomes_daily_bars() -> None:
    made = costs()
    block = SampleBlock.build(
        [(labels_of({"ServiceName": g[0]}), made.days, made.amounts[i]) for i, g in enumerate(made.groups)]
    )
    cost = evidence(kind="cost", series=block, unit="EUR", newest_ms=made.newest_ms)
    assert has(charts.chart_for(cost, "Europe/Berlin") or b"", canvas.tint(canvas.PALETTE[0], 0.4))
    assert "per day" in charts.terminal_for(cost)


def test_a_share_is_drawn_against_the_whole() -> None:
    assert has(charts.ranked_png([("a", 0.305)], unit="ratio"), canvas.TRACK, 1000)
    assert not has(charts.ranked_png([("a", 30.0)], unit="By"), canvas.TRACK, 1000)
    assert not has(charts.ranked_png([("a", 0.001)], unit="ratio"), canvas.TRACK, 1000)
    drawn = terminal.bars([("a", 0.25)], width=60, unit="ratio")
    assert 10 <= drawn.count("█") <= 16


def test_terminal_charts_keep_their_width() -> None:
    for text in (
        charts.terminal([line()], width=60, unit="s", title="t"),
        charts.terminal([line("a" * 90), line("b")], width=60, unit="s"),
        terminal.bars([("x" * 90, 1.0), ("y", 0.0)], width=60, unit="By"),
    ):
        assert max(map(len, text.splitlines())) <= 70
    assert terminal.sparkline(np.array([np.nan, np.nan]), 2) == "··"


def test_pictures_are_embedded() -> None:
    assert charts.data_uri(b"\x89PNG").startswith("data:image/png;base64,")
