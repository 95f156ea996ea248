from __future__ import annotations

from pathlib import Path

import pytest

from aiops.cli import app as cli
from aiops.cli.detect import _write
from aiops.cli.moments import moment_ms
from aiops.core.errors import InvalidInput, PermanentError

NOW = 1_795_500_000_000
DAY = 86_400_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now", NOW),
        ("3d", NOW - 3 * DAY),
        ("1.5h ago", NOW - 5_400_000),
        ("2026-11-20", 1_795_132_800_000),
        ("2026-11-20T14:00Z", 1_795_183_200_000),
        ("2026-11-20T15:00+01:00", 1_795_183_200_000),
        ("1795183200", 1_795_183_200_000),
    ],
)
def test_times_as_people_type_them(text: str, ms: int) -> None:
    assert moment_ms(text, NOW) == ms


@pytest.mark.parametrize("text", ["yesterday-ish", "3 fortnights", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no time"):
        moment_ms(text, NOW)


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    _write(tmp_path / "r.html", "one")
    with pytest.raises(UnicodeEncodeError):
        _write(tmp_path / "r.html", "two \ud800")
    assert (tmp_path / "r.html").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(PermanentError, match="cannot be written"):
        _write(tmp_path / "none" / "r.html", "x")


def test_a_range_without_history_is_an_error_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    data = str(tmp_path / "data")
    assert cli.run(["detect", "--from", "2h", "--data-dir", data, "--out", str(out)]) == 1
    assert "enough history" in capsys.readouterr().err
    assert not out.exists()
    assert cli.run(["detect", "--out", str(out)]) == 1
    assert "Give the time" in capsys.readouterr().err
    assert cli.run(["detect", "list", "--data-dir", data]) == 0
    assert "No anomalies" in capsys.readouterr().out
    assert cli.run(["models", "evaluate", "--data-dir", data]) == 0
    assert "no labels" in capsys.readouterr().out
