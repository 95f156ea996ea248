"""The text formats, beside the readers of Prometheus' own Python client."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from prometheus_client import exposition as text_format
from prometheus_client.openmetrics import exposition as openmetrics_format
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from aiops.core.series import METRIC_NAME, Labels, labels_of
from connectors.scraping.exposition import BadExposition, Exposition, labels_of_series, parse

Rows = list[tuple[Labels, str, float | None]]


def rows(text: Exposition) -> Rows:
    return sorted(
        (labels_of_series(series), repr(value), time)
        for series, value, time in zip(text.series, text.values, text.times, strict=True)
    )


def theirs(families: Any, unit: float) -> Rows:
    found = []
    for family in families:
        for sample in family.samples:
            time = None if sample.timestamp is None else round(float(sample.timestamp) * unit)
            labels = labels_of({**sample.labels, METRIC_NAME: sample.name})
            found.append((labels, repr(float(sample.value)), time))
    return sorted(found)


words = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=8)
numbers = st.floats() | st.integers(-(10**6), 10**6).map(float)


@st.composite
def registries(draw: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    for i in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from([Counter, Gauge, Histogram, Summary]))
        metric = kind(f"m{i}", draw(words), ["a", "b"], registry=registry)
        for _ in range(draw(st.integers(0, 3))):
            child = metric.labels(draw(words), draw(words))
            if kind is Counter:
                exemplar = draw(st.none() | st.just({"trace_id": "x # {y}"}))
                child.inc(abs(draw(st.integers(0, 99))), exemplar=exemplar)
            elif kind is Gauge:
                child.set(draw(numbers))
            else:
                child.observe(draw(st.floats(0, 100)))
    Info("build", "about", registry=registry).info({"v": draw(words)})
    return registry


@given(registries())
def test_text_is_read_as_the_python_client_reads_it(registry: CollectorRegistry) -> None:
    body = text_format.generate_latest(registry).decode()
    got = parse(body, openmetrics=False)
    assert rows(got) == theirs(read_text(body), 1000)
    known = {family.name: family for family in read_text(body)}
    for metadata in got.metadata.values():
        family = known.get(metadata.name) or known[metadata.name.removesuffix("_total")]
        assert (metadata.type, metadata.help.strip()) == (family.type, family.documentation.strip())


@given(registries())
def test_openmetrics_is_read_as_the_python_client_reads_it(registry: CollectorRegistry) -> None:
    body = openmetrics_format.generate_latest(registry).decode()
    families = list(read_openmetrics(body))
    got = parse(body, openmetrics=True)
    assert rows(got) == theirs(families, 1000)
    exemplars = [s.exemplar for family in families for s in family.samples if s.exemplar]
    assert [(dict(e.labels), e.value) for e in got.exemplars] == [(e.labels, float(e.value)) for e in exemplars]


def test_corners_of_the_text_format() -> None:
    text = parse(
        "# a comment\n"
        "# HELP a says \\\\ and\\n more\n"
        "# TYPE a  counter\n"
        '\ta { b = "c\\"}\\\\d\\ne" , } 1.5e3  1234\n'
        "\n"
        "b +Inf\nc -Inf -5\nd NaN\ne 0x1p-2\n"
        '{"my.metric", "a label"="x"} 7\n'
        "# TYPE f untyped\nf 1",
        openmetrics=False,
    )
    assert [labels_of_series(s) for s in text.series] == [
        ((METRIC_NAME, "a"), ("b", 'c"}\\d\ne')), ((METRIC_NAME, "b"),), ((METRIC_NAME, "c"),), ((METRIC_NAME, "d"),),
        ((METRIC_NAME, "e"),), ((METRIC_NAME, "my.metric"), ("a label", "x")), ((METRIC_NAME, "f"),),
    ]  # fmt: skip
    assert text.values[:3] == [1500.0, math.inf, -math.inf]
    assert math.isnan(text.values[3])
    assert text.values[4:] == [0.25, 7.0, 1.0]
    assert text.times == [1234, None, -5, None, None, None, None]
    assert (text.metadata["a"].type, text.metadata["a"].help) == ("counter", "says \\ and\n more")
    assert text.metadata["f"].type == "unknown"


def test_openmetrics_times_units_and_exemplars() -> None:
    text = parse(
        "# TYPE a histogram\n# UNIT a seconds\n"
        'a_bucket{le="1",x=" # {"} 3 1.5 # {trace_id="t"} 0.5 2.25\n'
        "a_count 3 1.5\n# EOF\n",
        openmetrics=True,
    )
    (exemplar,) = text.exemplars
    assert labels_of_series(exemplar.series) == ((METRIC_NAME, "a_bucket"), ("le", "1"), ("x", " # {"))
    assert (exemplar.labels, exemplar.value, exemplar.ts) == ((("trace_id", "t"),), 0.5, 2250)
    assert (text.times, text.metadata["a"].unit) == ([1500, 1500], "seconds")


@pytest.mark.parametrize(
    "line",
    ["a", "a b", "a 1_0", "a 1 2 3", "a 1 2.5", "a{ 1", 'a{b="c" 1', "{} 1", 'a{b="c"}', "a １", "a 1 x",
     "# TYPE a odd"],
)  # fmt: skip
def test_a_line_that_is_wrong_fails_the_whole_text(line: str) -> None:
    with pytest.raises(BadExposition):
        list(map(labels_of_series, parse(f"ok 1\n{line}\n", openmetrics=False).series))


@pytest.mark.parametrize("text", ["a 1\n", "a 1\n# EOF\nb 2\n", "\na 1\n# EOF\n", "# EOF\n# EOF\nx"])
def test_openmetrics_must_end_with_its_mark(text: str) -> None:
    with pytest.raises(BadExposition):
        parse(text, openmetrics=True)


@pytest.mark.parametrize(
    "series", ["1a", 'a{b="c",b="d"}', 'a{="c"}', "a{b=c}", 'a{b="c"}}', 'a{"b"}', 'a{b="c";}', "é"]
)
def test_what_is_no_series(series: str) -> None:
    with pytest.raises(BadExposition):
        labels_of_series(series)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for openmetrics in (False, True):
        try:
            for series in parse(text, openmetrics=openmetrics).series:
                assert labels_of_series(series) == labels_of(labels_of_series(series))
        except BadExposition:
            continue
