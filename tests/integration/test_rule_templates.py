"""Annotations as a real Prometheus expands them: ``promtool test rules`` compares each with ours."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiops.rules.template_functions import Sample
from aiops.rules.templates import AlertData, expand
from tests.integration.servers import binary

VALUES = (
    0.0, -0.0, 1.0, -1.0, 3.25, 999.0, 1000.0, 999.95, 1023.0, 1024.0, 1048576.0, 1234567.0, -1234567.8, 1e15, 9e9,
    -1.5, 0.1, 0.00001234, 1e-7, -0.012, 1e-27, 59.999, 60.0, 61.5, 3599.0, 3600.0, 86399.5, 86400.0, 1e6,
    123456.0, 1e5,    1435065584.128, math.inf, -math.inf, math.nan, 2.5, 1 / 3, 12345.678,
)  # fmt: skip
OF_VALUES = (
    "{{ $value }}",
    "{{ humanize $value }}",
    "{{ humanize1024 $value }}",
    "{{ humanizeDuration $value }}",
    "{{ humanizePercentage $value }}",
    "{{ humanizeTimestamp $value }}",
    '{{ printf "%.2f|%8.1f|%-8.1f|%+.0f|%08.2f" $value $value $value $value $value }}',
    '{{ printf "%e|%.3g|%g|%v" $value $value $value $value }}',
    '{{ printf "%d|%s|%5v|%q" $value $value $value $value }}',
    "{{ if $value }}yes{{ else }}no{{ end }} {{ ge $value 1.0 }} {{ le $value 1.0 }}",
    "{{ if gt $value 1.0 }}more{{ else if eq $value 1.0 }}one{{ else }}less{{ end }}",
    '{{ printf "%.1f" .Value | printf "<%s>" }}',
)
OTHER = (
    "plain",
    "{{ $labels.job }} {{ .Labels.job }} {{ $.Labels.job }} {{ $labels.missing }}.",
    "{{ $labels }}",
    "{{ title $labels.words }} {{ $labels.words | toUpper }} {{ toLower $labels.words }}",
    '{{ reReplaceAll "(.*):(\\\\d+)" "$2-${1}" $labels.instance }}',
    '{{ reReplaceAll "[aeiou]" "_" $labels.words }}',
    '{{ match "^web" $labels.instance }} {{ match "x" $labels.instance }}',
    "{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}",
    '{{ with query "sort(up)" }}{{ . | first | value }} {{ . | first | label "instance" }}{{ end }}',
    '{{ range query "sort(up)" }}{{ .Labels.instance }}={{ .Value }};{{ end }}',
    '{{ range $i, $s := query "sort(up)" }}{{ $i }}:{{ $s.Value }} {{ end }}',
    '{{ with query "nothing" }}some{{ else }}none{{ end }}',
    '{{ range sortByLabel "instance" (query "up") }}{{ label "instance" . }} {{ end }}',
    '{{ query "up" | len }} {{ len $labels.job }}',
    "{{ range $k, $v := $labels }}{{ $k }}={{ $v }},{{ end }}",
    '{{ $x := "a" }}{{ if true }}{{ $x := "b" }}{{ $x }}{{ end }}{{ $x }}',
    "a {{- /* nothing */ -}} b {{- $labels.job -}} c",
    '{{ if and (eq $labels.job "api") (ne $labels.instance "") }}both{{ end }}{{ or "" "second" }}{{ not true }}',
    '{{ eq $labels.job "x" "api" }} {{ le 1 2 }} {{ lt "a" "b" }}',
    '{{ print 1 2 "x" 3 }}|{{ println "a" 1 }}',
    '{{ index $labels "job" }} {{ (index (query "sort(up)") 1).Value }}',
    '{{ printf "%s %q %d %5d|%-5d|%05d %x %t %% %v" "a" "b\\"c" 3 4 5 6 255 true $labels.job }}',
    '{{ printf "%d" }} {{ printf "%s" 1 2 }} {{ printf "%z" 1 }}',
    '{{ `raw \\n` }} {{ "tab\\tA\\u00e9" }}',
    '{{ parseDuration "1h30m" }} {{ "2.5" | humanize }}',
    "{{ toTime 1435065584.128 }}",
    '{{ urlquery "a b&c" }} {{ html "<a>" }}',
    "{{ 1.5e3 }} {{ 0x1F }} {{ true }} {{ -3 }}",
    "{{ $externalLabels.none }}.",
    "{{ with printf \"up{job='%s'}\" $labels.job | query }}{{ . | first | value | humanize }}{{ end }}",
    '{{ $value | printf "%.2f" }} {{ ($value | humanize) }} {{ printf "sort(up)" | query | first | value }}',
    '{{- range $i, $e := query "sort(up)" -}} {{ $i }} {{ $e.Labels.job }} {{- end -}}',
    '{{ query "sort(up)" | first | label "instance" }} {{ query "up" | len | printf "%d rows" }}',
    '{{ if eq (len (query "up")) 2 }}two{{ end }} {{ with $labels.none }}x{{ else }}no{{ end }}',
    '{{ with $x := $labels.job }}{{ $x }}{{ . }}{{ end }} {{ if not (match "z" $labels.job) }}ok{{ end }}',
    "Down.\n  VALUE = {{ $value }}\n  LABELS = {{ $labels }}",
    'unicode äöü {{ toUpper "äöü" }}',
)
LABELS = {"__name__": "up", "job": "api", "instance": "web-1.example.com:9090", "words": "hello big-world o'clock x1y"}
SERIES = {"up": [({"instance": "a", "job": "x"}, 1.0), ({"instance": "b", "job": "x"}, 2.0)]}


def query(text: str) -> list[Sample]:
    if text not in ("up", "sort(up)"):
        return []
    return [Sample({"__name__": "up", **labels}, value) for labels, value in SERIES["up"]]


def number(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))


def run(folder: Path, rules: list[dict[str, Any]], tests: list[dict[str, Any]]) -> str:
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    series = [
        {"series": 'up{instance="a",job="x"}', "values": "1 1"},
        {"series": 'up{instance="b",job="x"}', "values": "2 2"},
    ]
    body = {
        "rule_files": ["rules.yml"],
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": tests}],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(body))
    command = [binary("promtool"), "test", "rules", "test.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def labelled(expr: str) -> str:
    for name, value in LABELS.items():
        if name != "__name__":
            expr = f'label_replace({expr}, "{name}", "{value}", "", "")'
    return expr


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_numbers(value: float, tmp_path: Path) -> None:
    check(OF_VALUES, value, tmp_path)


def test_other_constructs(tmp_path: Path) -> None:
    check(OTHER, 1.0, tmp_path)


def check(templates: tuple[str, ...], value: float, folder: Path) -> None:
    labels = {k: v for k, v in LABELS.items() if k != "__name__"}
    data = AlertData(labels, value, query=query)
    texts = {f"a{i}": text for i, text in enumerate(templates)}
    ours = {name: expand(text, data) for name, text in texts.items()}
    failed = {name for name, text in ours.items() if text.startswith("<error")}
    assert len(failed) <= (abs(value) > 9.2e9)  # the times that Go refuses as well, in other words
    ours = {name: text for name, text in ours.items() if name not in failed}
    expr = labelled(f"vector({number(value)})")
    rule = {"alert": "T", "expr": expr, "annotations": {name: texts[name] for name in ours}}
    expected = {"eval_time": "1m", "alertname": "T", "exp_alerts": [{"exp_labels": labels, "exp_annotations": ours}]}
    said = run(folder, [rule], [expected])
    assert said == "", (ours, said)
