"""``aiops rules check``."""

from __future__ import annotations

from aiops.cli.app import run

GOOD = "groups:\n- name: g\n  rules:\n  - record: a:b\n    expr: sum(up)\n"


def test_good_files_are_counted(tmp_path, capsys):
    (tmp_path / "a.yml").write_text(GOOD)
    assert run(["rules", "check", str(tmp_path / "a.yml")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/a.yml: 1 rules in 1 groups\n"


def test_each_problem_is_a_line_and_the_status_is_1(tmp_path, capsys):
    (tmp_path / "a.yml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD + "    for: 5m\n  - alert: x\n    exp: up\n")
    assert run(["rules", "check", *(str(tmp_path / f"{n}.yml") for n in "abc")]) == 1
    lines = capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines()
    assert lines == [
        "a.yml: 1 rules in 1 groups",
        "b.yml:4:5: groups.0.rules.0: invalid field 'for' in recording rule",
        "b.yml:8:10: unknown key 'exp' at groups.0.rules.1.exp, did you mean 'expr'?",
        "c.yml: No such file or directory",
    ]


def test_the_check_of_the_configuration_reads_the_rule_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yml").write_text(GOOD)
    (tmp_path / "aiops.yaml").write_text("rules: {files: ['*.yml']}\n")
    assert run(["config", "check"]) == 0
    assert "1 rules configured" in capsys.readouterr().out
    (tmp_path / "b.yml").write_text(GOOD + "    for: 5m\n")
    assert run(["config", "check"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("aiops: b.yml:4:5: groups.0.rules.0: invalid field 'for' in recording rule")
    assert "aiops rules check" in said
