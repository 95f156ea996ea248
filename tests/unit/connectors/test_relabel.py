"""Relabelling; the cases are those of the documented semantics."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from connectors.scraping.relabel import RelabelConfig, relabel

LABELS = {"a": "foo", "b": "bar", "c": "baz"}


def after(labels: dict[str, str], *steps: dict[str, object]) -> dict[str, str] | None:
    return relabel(labels, [RelabelConfig.model_validate(step) for step in steps])


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([{"source_labels": ["a"], "regex": "f(.*)", "target_label": "d", "replacement": "ch${1}-ch$1"}],
         {"d": "choo-choo"}),
        ([{"source_labels": ["a", "b"], "regex": "f(.*);(.*)r", "target_label": "a",
           "replacement": "b${1}${2}m"}], {"a": "boobam"}),
        ([{"source_labels": ["a"], "regex": "no", "target_label": "d", "replacement": "x"}], {}),
        ([{"source_labels": ["a"], "regex": "(f).*", "target_label": "d", "replacement": "$9${no}$$1"}], {"d": "$1"}),
        ([{"target_label": "d", "replacement": "fixed"}], {"d": "fixed"}),
        ([{"source_labels": ["a"], "target_label": "a", "replacement": ""}], {"a": None}),
        ([{"source_labels": ["b"], "regex": "(?P<x>.)ar", "target_label": "d", "replacement": "${x}!"}], {"d": "b!"}),
        ([{"source_labels": ["a"], "regex": "(.*)", "target_label": "${1}", "replacement": "x"}], {"foo": "x"}),
        ([{"source_labels": ["missing"], "regex": "(.*)", "target_label": "${1}", "replacement": "x"}], {}),
        ([{"action": "labelmap", "regex": "(b|c)", "replacement": "my_${1}"}], {"my_b": "bar", "my_c": "baz"}),
        ([{"action": "labeldrop", "regex": "a|b"}], {"a": None, "b": None}),
        ([{"action": "labelkeep", "regex": "a"}], {"b": None, "c": None}),
        ([{"action": "uppercase", "source_labels": ["a", "b"], "separator": "-", "target_label": "d"}],
         {"d": "FOO-BAR"}),
        ([{"action": "Lowercase", "source_labels": ["a"], "target_label": "a"}], {}),
        ([{"action": "keep", "source_labels": ["a"], "regex": "foo"}], {}),
        ([{"action": "drop", "source_labels": ["a"], "regex": "fo"}], {}),
        ([{"action": "dropequal", "source_labels": ["a"], "target_label": "b"}], {}),
        ([{"action": "keepequal", "source_labels": ["missing"], "target_label": "gone"}], {}),
        ([{"source_labels": ["a"], "regex": "(?i)FOO", "target_label": "d"}], {"d": None}),
    ],
)  # fmt: skip
def test_actions(steps: list[dict[str, object]], wanted: dict[str, str | None]) -> None:
    expected = {k: v for k, v in {**LABELS, **wanted}.items() if v}
    assert after(LABELS, *steps) == expected


@pytest.mark.parametrize(
    "step",
    [
        {"action": "keep", "source_labels": ["a"], "regex": "fo"},
        {"action": "drop", "source_labels": ["a", "b"], "regex": "foo;b.*"},
        {"action": "dropequal", "source_labels": ["a"], "target_label": "a"},
        {"action": "keepequal", "source_labels": ["a"], "target_label": "b"},
    ],
)
def test_dropping(step: dict[str, object]) -> None:
    assert after(LABELS, step, {"target_label": "never", "replacement": "reached"}) is None


def test_hashmod_is_prometheus_hash() -> None:
    # As Prometheus' own test: the modulus of the last eight bytes of MD5, big endian.
    assert after({"a": "foo"}, {"action": "hashmod", "source_labels": ["a"], "modulus": 1000, "target_label": "d"}) == {
        "a": "foo", "d": str(int(hashlib.md5(b"foo").hexdigest()[16:], 16) % 1000),
    }  # fmt: skip
    got = after({"c": "baz"}, {"action": "hashmod", "source_labels": ["c"], "modulus": 1000, "target_label": "d"})
    assert got == {"c": "baz", "d": "976"}


@pytest.mark.parametrize(
    "step",
    [
        {"action": "hashmod", "target_label": "x"},
        {"action": "replace"},
        {"target_label": "not-valid"},
        {"target_label": "${1"},
        {"action": "labelmap", "replacement": "no-name"},
        {"action": "lowercase", "target_label": "x", "replacement": "y"},
        {"action": "keepequal", "target_label": "x", "regex": "y"},
        {"action": "labeldrop", "regex": "x", "source_labels": ["a"]},
        {"action": "keep", "regex": "(?=x)"},
        {"action": "explode"},
        {"unknown": 1},
    ],
)
def test_a_step_that_cannot_work_is_refused(step: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RelabelConfig.model_validate(step)
