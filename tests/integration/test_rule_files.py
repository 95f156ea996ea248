"""``aiops rules check`` beside Debian's ``promtool check rules``: both take the same files and refuse the same."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from aiops.rules.files import read_rules
from tests.integration.servers import binary


def rules(text: str, name: str = "g") -> str:
    return f"groups:\n- name: {name}\n  rules:\n" + "".join(f"  {line}\n" for line in text.splitlines())


ALERT = "- alert: Down\n  expr: up == 0\n"
FILES = {
    "recording": rules("- record: job:up:sum\n  expr: sum by (job) (up)"),
    "alerting": rules(
        ALERT + "  for: 5m\n  labels: {severity: page}\n  annotations: {summary: '{{ $labels.instance }} is down'}"
    ),
    "all fields of a group": "groups:\n- name: g\n  interval: 1m30s\n  limit: 10\n  rules: []\n",
    "keep_firing_for": rules(ALERT + "  keep_firing_for: 10m"),
    "for: 0": rules(ALERT + "  for: 0"),
    "for: 0s": rules(ALERT + "  for: 0s"),
    "empty file": "",
    "only a comment": "# nothing\n",
    "no groups": "groups:\n",
    "group without rules": "groups:\n- name: g\n",
    "two groups": rules(ALERT) + "- name: h\n  rules:\n  - record: x\n    expr: '1'\n",
    "two documents": rules(ALERT) + "---\nrubbish: true\n",
    "label values of other types": rules(ALERT + "  labels: {level: 3, page: true, ratio: 0.5, none: }"),
    "numeric expression": rules("- record: x\n  expr: 1"),
    "a range vector": rules("- record: x\n  expr: up[5m]"),
    "multi-line expression": rules("- record: x\n  expr: |\n    sum(\n      up\n    )"),
    "anchors": rules("- alert: A\n  expr: up == 0\n  labels: &l {a: b}\n- alert: B\n  expr: up == 0\n  labels: *l"),
    "duplicate rules": rules(ALERT + ALERT),
    "same name, other labels": rules(ALERT + "  labels: {a: x}\n" + ALERT + "  labels: {a: y}"),
    "an if": rules(ALERT + "  annotations: {s: '{{ if gt $value 1.0 }}a{{ else if $value }}b{{ else }}c{{ end }}'}"),
    "a with query": rules(
        ALERT + "  annotations: {s: '{{ with query \"up\" }}{{ . | first | value | humanize }}{{ end }}'}"
    ),
    "a printf": rules(ALERT + "  annotations: {s: '{{ printf \"%.2f\" $value }} {{ .Labels.job | toUpper }}'}"),
    "trimmed": rules(ALERT + "  annotations: {s: 'a {{- /* comment */ -}} b {{- $value -}} c'}"),
    "template in a label": rules(ALERT + "  labels: {team: '{{ $labels.team }}'}"),
    "template in a recording label": rules("- record: x\n  expr: up\n  labels: {a: '{{ nonsense'}"),
    "metric name with colons": rules("- record: a:b:c\n  expr: up"),
    "dollar in braces only": rules(ALERT + "  annotations: {s: '{{ $value | humanizePercentage }} } }}'}"),
    # refused
    "unknown key of a rule": rules(ALERT + "  severity: page"),
    "unknown key of a group": "groups:\n- name: g\n  every: 5m\n  rules: []\n",
    "unknown key at the top": "groups: []\nrules: []\n",
    "top is a list": "- a\n",
    "no group name": "groups:\n- rules: []\n",
    "group name twice": rules(ALERT) + "- name: g\n  rules: []\n",
    "record and alert": rules("- record: x\n  alert: y\n  expr: up"),
    "neither record nor alert": rules("- expr: up"),
    "no expr": rules("- record: x"),
    "bad expr": rules("- record: x\n  expr: sum(up"),
    "unknown function": rules("- record: x\n  expr: frobnicate(up)"),
    "for in a recording rule": rules("- record: x\n  expr: up\n  for: 5m"),
    "keep_firing_for in a recording rule": rules("- record: x\n  expr: up\n  keep_firing_for: 5m"),
    "annotations in a recording rule": rules("- record: x\n  expr: up\n  annotations: {a: b}"),
    "recording name with braces": rules("- record: 'a{b}'\n  expr: up"),
    "empty label name": rules(ALERT + "  labels: {'': c}"),
    "__name__ as label": rules(ALERT + "  labels: {__name__: c}"),
    "empty annotation name": rules(ALERT + "  annotations: {'': c}"),
    "bare number as duration": rules(ALERT + "  for: 5"),
    "unit unknown": rules(ALERT + "  for: 5 minutes"),
    "units in the wrong order": rules(ALERT + "  for: 5m1h"),
    "negative duration": rules(ALERT + "  for: -5m"),
    "fraction of a duration": rules(ALERT + "  for: 1.5h"),
    "limit is a text": "groups:\n- name: g\n  limit: many\n  rules: []\n",
    "limit is a fraction": "groups:\n- name: g\n  limit: 1.5\n  rules: []\n",
    "rules is a mapping": "groups:\n- name: g\n  rules: {a: b}\n",
    "labels is a list": rules(ALERT + "  labels: [a]"),
    "key twice": rules("- alert: Down\n  expr: up\n  expr: up"),
    "not YAML": "groups: [\n",
    "tab": "groups:\n\t- name: g\n",
    "unclosed template": rules(ALERT + "  annotations: {s: '{{ $value '}"),
    "unknown template function": rules(ALERT + "  annotations: {s: '{{ $value | frobnicate }}'}"),
    "undefined variable": rules(ALERT + "  annotations: {s: '{{ $foo }}'}"),
    "if without end": rules(ALERT + "  annotations: {s: '{{ if $value }}a'}"),
    "end without if": rules(ALERT + "  annotations: {s: 'a{{ end }}'}"),
    "empty action": rules(ALERT + "  annotations: {s: '{{ }}'}"),
    "value as a function": rules(ALERT + "  annotations: {s: '{{ $value 3 }}'}"),
    "bad template in a label": rules(ALERT + "  labels: {s: '{{ $labels.a | }}'}"),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bool, str]]:
    """File, whether promtool takes it, and what it says, by name."""
    tool, folder = binary("promtool"), tmp_path_factory.mktemp("rules")
    found = {}
    for i, (name, text) in enumerate(FILES.items()):
        path = folder / f"{i}.yml"
        path.write_text(text)
        done = subprocess.run(
            [tool, "check", "rules", str(path)], capture_output=True, text=True, timeout=30, check=False
        )
        found[name] = (path, done.returncode == 0, done.stdout + done.stderr)
    return found


@pytest.mark.parametrize("name", FILES)
def test_what_promtool_takes_we_take(name, verdicts):
    path, taken, said = verdicts[name]
    _, problems = read_rules(path)
    ours = not any(p.fatal for p in problems)
    assert ours == taken, (said, [str(p) for p in problems])


def test_both_verdicts_occur(verdicts):
    taken = [name for name, (_, ok, _) in verdicts.items() if ok]
    assert 20 < len(taken) < len(FILES) - 20


# ---------------------------------------------------------------- generated files

NAMES = st.sampled_from(["a", "job:up:sum", "Down", "", "x_1"])
EXPRESSIONS = st.sampled_from(
    ["up", "sum(rate(x_total[5m])) by (job)", "up == 0", "1", "up[5m]", "", "sum(up", "foo bar", "nosuch(up)", "'text'"]
)
DURATIONS = st.sampled_from(["1m", "0", "0s", "1h30m", "5", "1.5h", "", "5m1h", "1d", "x", 3])
KEYS = st.sampled_from(["severity", "team", "__name__", "a_b", ""])
TEXTS = st.sampled_from(
    ["page", "{{ $value }}", "{{ $labels.job | toUpper }}", "{{ $value ", "{{ nosuch }}", "{{ if $value }}x{{ end }}",
     "{{ printf `%.1f` $value }}", "{{ end }}", 5, True, None, "{{ range query `up` }}{{ . }}{{ end }}"]
)  # fmt: skip
FIELDS = {
    "record": NAMES, "alert": NAMES, "expr": EXPRESSIONS, "for": DURATIONS, "keep_firing_for": DURATIONS,
    "labels": st.dictionaries(KEYS, TEXTS, max_size=2), "annotations": st.dictionaries(KEYS, TEXTS, max_size=2),
    "severity": st.just("page"),
}  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> str:
    """Rule files, most of them with one thing that is wrong at most."""
    groups = []
    for number in range(draw(st.integers(0, 2))):
        rules = []
        for _ in range(draw(st.integers(0, 2))):
            kind = draw(st.sampled_from(["record", "alert"]))
            rule: dict[str, object] = {kind: "a:b" if kind == "record" else "Down", "expr": "up"}
            for field in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=1)):
                rule[field] = draw(FIELDS[field])
            if draw(st.integers(0, 9)) == 0:
                rule.pop("expr")
            rules.append(rule)
        group: dict[str, object] = {
            "name": draw(st.sampled_from(["g", f"g{number}", f"x{number}", ""])),
            "rules": rules,
        }
        if draw(st.booleans()):
            group["interval"] = draw(DURATIONS)
        if draw(st.integers(0, 4)) == 0:
            group["limit"] = draw(st.sampled_from([0, 5, "many", 1.0, -1]))
        groups.append(group)
    return yaml.safe_dump({"groups": groups}, allow_unicode=True, sort_keys=False)


def drawn(count: int) -> list[str]:
    found: list[str] = []

    @seed(5)
    @settings(max_examples=count, phases=[Phase.generate], database=None, deadline=None)
    @given(files())
    def collect(text: str) -> None:
        found.append(text)

    collect()
    return sorted(set(found))


@pytest.mark.server("prometheus")
def test_generated_files_are_judged_alike(tmp_path):
    texts = drawn(400)
    paths = [tmp_path / f"{i}.yml" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    command = [binary("promtool"), "check", "rules", "--lint=none", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # Verdicts go to the output and complaints to the errors, so that a file is taken where the output counts its rules.
    parts = re.split(r"^Checking (\S+)$", done.stdout, flags=re.MULTILINE)[1:]
    taken = {name: "SUCCESS" in said for name, said in zip(parts[::2], parts[1::2], strict=True)}
    wrong = []
    for path, text in zip(paths, texts, strict=True):
        _, problems = read_rules(path)
        if taken[str(path)] == any(p.fatal for p in problems):
            wrong.append(f"promtool {'takes' if taken[str(path)] else 'refuses'}:\n{text}\nours: {problems}")
    assert not wrong, "\n\n".join(wrong[:5])
    assert 0.15 < sum(taken.values()) / len(taken) < 0.85


def test_newer_fields_than_promtool_knows():
    from aiops.rules.files import parse_rules

    (group,), problems = parse_rules(
        "groups:\n- name: g\n  query_offset: 30s\n  labels: {team: a}\n  rules: []\n", "f.yml"
    )
    assert (group.query_offset_ms, group.labels, problems) == (30_000, {"team": "a"}, ())
