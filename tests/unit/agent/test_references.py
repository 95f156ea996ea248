from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.agent.references import UnresolvedReference, describe, fill, plain, unsupported
from aiops.agent.units import humanise
from aiops.core.evidence import Evidence, EvidenceState, Figure

NOW = 1_795_521_600_000
E1 = Evidence(
    "E1", "metric", "disk", "store", "x < 0.1", NOW - 3_600_000, NOW, EvidenceState.OK,
    (
        Figure(0.0812, "ratio", (("instance", "web-1"), ("mountpoint", "/"))),
        Figure(3 * 2**30, "By"),
        Figure((NOW - 90_000) / 1000, "time", (("service", "pay*ment"),)),
    ),
    newest_ms=NOW - 4000,
)  # fmt: skip


def test_references_are_filled_from_evidence() -> None:
    text = fill(
        "{E1.f0.of} {E1.f0} {E1.f1} at {E1.f2}, {E1.f2.age} ago, {E1.f2.label.service}, {E1.age}", [E1], "UTC", NOW
    )
    assert text == "**web-1** (mountpoint /) 8.12 % 3 GiB at 11:58:30, 1 min 30 s ago, pay\\*ment, 4 s"


@pytest.mark.parametrize("bad", ["{E2.f0}", "{E1.f9}", "{E1.f0.label.pod}", "{E1.note}", "{E1.cause}", "{E1.f0.cause}"])
def test_what_cannot_be_resolved_refuses_the_answer(bad: str) -> None:
    with pytest.raises(UnresolvedReference):
        fill(f"it is {bad}", [E1], "UTC", NOW)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("web-1 has 8.12 % left", []),
        ("8.1 % or 0.0812 of it, 3 GiB", []),
        ("it has 12 % left", ["12"]),
        ("about 3.5 GiB in E1", ["3.5"]),
        ("below 0.1", []),
        ("down since 1795", ["1795"]),
    ],
)
def test_a_figure_that_no_evidence_holds_is_found(text: str, found: list[str]) -> None:
    assert unsupported(text, [E1]) == found


def test_figures_of_the_question_are_allowed() -> None:
    assert unsupported("none over 85 %", [E1], allowed="anything over 85 %?") == []


@given(st.text(max_size=300))
def test_telemetry_text_can_hold_no_reference_and_no_markup(text: str) -> None:
    safe = plain(text)
    assert "\n" not in safe
    assert "{" not in safe
    assert fill(safe, [], "UTC", NOW) == safe


@given(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["ratio", "By", "s", "/s", "1", "USD", "Cel", "By/s", "cores"]),
)
def test_every_number_is_written(value: float, unit: str) -> None:
    assert humanise(value, unit)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234.5, "USD", "1,234.50 USD"), (0.00025, "s", "250 µs"), (90061, "s", "1 d 1 h"), (1536, "By/s", "1.5 KiB/s"),
        (12.34, "/s", "12.3/s"), (0, "s", "0 s"), (float("nan"), "s", "no value"), (71.5, "Cel", "71.5 °C"),
    ],
)  # fmt: skip
def test_units(value: float, unit: str, text: str) -> None:
    assert humanise(value, unit) == text


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ((), "all together"),
        ((("instance", "a"), ("simulated", "true")), "**a** (simulated)"),
        ((("job", "node"),), "**node**"),
        ((("instance", "a"), ("job", "node"), ("mountpoint", "/")), "**a** (mountpoint /)"),
    ],
)
def test_a_series_is_called_by_its_telling_labels(labels: tuple[tuple[str, str], ...], text: str) -> None:
    assert describe(Figure(1.0, "1", labels)) == text
