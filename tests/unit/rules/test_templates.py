"""Results that Prometheus gives; ``tests/integration/test_rule_templates.py`` asks a real one for more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.rules.template_functions import float_text
from aiops.rules.template_syntax import TemplateError
from aiops.rules.templates import AlertData, expand, parsed

DATA = AlertData({"job": "api", "instance": "web-1:9090"}, 1_234_567.0, {"region": "eu"}, "https://aiops.example")
RESULTS = {
    "{{ $value }}": "1.234567e+06",
    "{{ $value | humanize }}": "1.235M",
    "{{ humanize1024 .Value }}B": "1.177MiB",
    "{{ 0.256 | humanizePercentage }}": "25.6%",
    "{{ humanizeDuration 93784.5 }}": "1d 2h 3m 4s",
    "{{ humanizeDuration 0.0123 }}": "12.3ms",
    "{{ humanizeTimestamp 1435065584.128 }}": "2015-06-23 13:19:44.128 +0000 UTC",
    '{{ printf "%.2f" 3.14159 }}': "3.14",
    "{{ $labels.job | title }} {{ .Labels.instance | toUpper }}": "Api WEB-1:9090",
    '{{ reReplaceAll "(.*):.*" "$1" $labels.instance }}': "web-1",
    "{{ $externalLabels.region }} {{ externalURL }}": "eu https://aiops.example",
    "{{ if gt $value 1e6 }}big{{ else }}small{{ end }}": "big",
    "{{ $labels.none }}.": ".",
}
REFUSED = {
    '{{ template "x" }}': "template",
    '{{ define "x" }}{{ end }}': "define",
    "{{ range $labels }}{{ break }}{{ end }}": "break",
    '{{ graphLink "up" }}': "graphLink",
    "{{ $nope }}": "undefined variable",
    "{{ frobnicate 1 }}": "'frobnicate' not defined",
    "{{ if true }}": "without",
    "{{ ( 1 }}": "unclosed left parenthesis",
    "{{ 'c' }}": "unexpected",
    "{{ $value": "unclosed action",
    "{{ $x = 1 }}": "unexpected '='",
    "{{if true}}" * 30 + "{{end}}" * 30: "nested deeper",
    "{{ " + "(" * 30 + "1" + ")" * 30 + " }}": "nested deeper",
}


@pytest.mark.parametrize("text", RESULTS)
def test_results(text):
    assert expand(text, DATA) == RESULTS[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_named(text):
    with pytest.raises(TemplateError, match=REFUSED[text]):
        parsed(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ humanize $labels.job }}",
        "{{ .Nope }}",
        "{{ toUpper 1 }}",
        "{{ printf }}",
        "{{ gt 1 1.0 }}",
        '{{ query "up" }}',
        '{{ reReplaceAll "(" "" "x" }}',
        "{{ first 1 }}",
        "{{ index $labels 1 2 }}",
        "{{ $value 1 }}",
        "{{ and }}",
    ],
)
def test_failures_are_texts(text):
    assert expand(text, DATA).startswith("<error expanding template: ")


def test_output_and_work_are_limited():
    long = AlertData({"x": "a" * 5000}, 1.0)
    assert "longer than" in expand("{{ $labels.x }}" * 10, long)
    many = AlertData({f"l{i}": "v" for i in range(200)}, 1.0)
    nested = "{{ range $labels }}{{ range $labels }}" + "{{ range $labels }}x{{ end }}{{ end }}{{ end }}"
    assert "error" in expand(nested.replace("range $labels", "range $.Labels"), many)
    assert len(expand('{{ printf "%99999d" 1 }}', DATA)) < 1_000


@given(st.text(alphabet="{}$.|()\"'`-= :labesvrgify1 \n", max_size=60))
def test_any_text_expands_or_is_refused(text):
    try:
        parsed(text)
    except TemplateError:
        return
    expand(text, DATA)


@given(st.floats())
def test_numbers_read_back(value):
    again = float(float_text(value).replace("Inf", "inf"))
    assert again == value or value != value
