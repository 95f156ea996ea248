"""Places and words of problems; which files are taken is compared with promtool in ``tests/integration``."""

from __future__ import annotations

import re

import pytest

from aiops.core.errors import ConfigError
from aiops.rules.files import load_groups, parse_rules

GOOD = "groups:\n- name: g\n  rules:\n  - record: a:b\n    expr: sum(up)\n"
LETTERS = "abcdefghi"
ALIASES = [",".join([f"*{before}"] * 9) for before in LETTERS]
MANY = "a: &a [1]\n" + "".join(f"{x}: &{x} [{a}]\n" for x, a in zip(LETTERS[1:], ALIASES, strict=False))
MERGES = "a: &a {}\n" + "".join(f"{x}: &{x} {{<<: [{a}]}}\n" for x, a in zip(LETTERS[1:], ALIASES, strict=False))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "    labelz: {a: b}\n", "f.yml:6: unknown key 'labelz' at groups.0.rules.0.labelz, did you mean 'la"),
        (GOOD.replace("name: g", "name: g\n  intervall: 1m"), "f.yml:3: unknown key 'intervall' at groups.0.intervall"),
        (GOOD.replace("sum(up)", "sum(up"), "f.yml:4: groups.0.rules.0: could not parse expression: 1:"),
        (GOOD + "    for: 1\n", 'f.yml:6: groups.0.rules.0.for: not a valid duration string: "1"'),
        (GOOD + "    file: x\n", "f.yml:6: unknown key 'file'"),
        (GOOD + "  file: x\n", "f.yml:6: unknown key 'file'"),
        (GOOD + "- name: g\n", 'f.yml:6: groupname: "g" is repeated in the same file'),
        (GOOD + "    labels: {a: [1]}\n", "f.yml:6: groups.0.rules.0.labels.a: "),
        ("groups: [\n", "f.yml:2: yaml: "),
        ("&a [*a]", "yaml"),
        (MANY, "too many nodes"),
        (MERGES, "too many nodes"),
        ("[" * 500, "yaml"),
        ("\x00", "yaml"),
        ("3", "f.yml:1: "),
    ],
)  # fmt: skip
def test_problems_name_file_place_and_key(text, said):
    groups, problems = parse_rules(text, "f.yml")
    assert groups == ()
    assert said in re.sub(r"\Af\.yml:(\d+):\d+:", r"f.yml:\1:", str(problems[0]))


def test_problems_name_the_column_as_well():
    _, (problem,) = parse_rules(GOOD + "    for:  1\n", "f.yml")
    assert str(problem).startswith("f.yml:6:11: groups.0.rules.0.for")


def test_names_may_be_utf8_as_in_prometheus_3():
    text = GOOD.replace("a:b", "'größe (bytes)'") + "    labels: {'service.name': x}\n"
    (group,), problems = parse_rules(text, "f.yml")
    assert not problems
    assert (group.rules[0].record, group.rules[0].labels) == ("größe (bytes)", {"service.name": "x"})
    _, (problem,) = parse_rules(GOOD.replace("a:b", "'sum(up{})'"), "f.yml")
    assert "braces present in the recording rule name" in problem.message


def test_duplicates_are_allowed_and_shown():
    rule = "  - alert: A\n    expr: up\n"
    groups, (problem,) = parse_rules(f"groups:\n- name: g\n  rules:\n{rule}{rule}", "f.yml")
    assert len(groups[0].rules) == 2
    assert (problem.fatal, problem.line) == (False, 6)


def test_globs_are_read_in_order(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.yml").write_text(GOOD.replace("name: g", f"name: {name}"))
    groups = load_groups([str(tmp_path / "*.yml"), str(tmp_path / "b.yml"), str(tmp_path / "none-*.yml")])
    assert [(g.name, g.file) for g in groups] == [(n, str(tmp_path / f"{n}.yml")) for n in ("a", "b")]


def test_a_bad_or_missing_file_stops_the_start(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yml does not exist"):
        load_groups([str(tmp_path / "none.yml")])
    (tmp_path / "x.yml").write_text("groups: {}\n")
    with pytest.raises(ConfigError, match=r"x\.yml:1:9: groups"):
        load_groups([str(tmp_path / "x.yml")])
    (tmp_path / "x.yml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_groups([str(tmp_path / "x.yml")])
