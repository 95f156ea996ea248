"""``aiops demo --once`` as a user runs it: one fault, and none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_S = 170


def demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aiops", "demo", "--once", "--port", "0", "--data-dir", str(tmp_path / "demo")]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=tmp_path
    )


@pytest.mark.timeout(LIMIT_S + 10)
def test_the_demo_finds_the_fault_and_tells_of_it(tmp_path: Path) -> None:
    done = demo(tmp_path, "--seed", "7", "--fault", "database")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for fact in (
        "✓ service answers",
        "✓ first chart of live metrics",
        "✓ simulated history in the store",
        "✓ incident names",
        "✓ alert webhook delivered",
        "✓ answers 'which hosts are low on disk?'",
        "✓ cost report written",
        "All parts held.",
    ):
        assert fact in done.stdout
    assert "simulated" in done.stdout
    assert (tmp_path / "demo" / "cost-report.html").stat().st_size > 1000


@pytest.mark.timeout(LIMIT_S + 10)
def test_without_a_fault_nothing_opens(tmp_path: Path) -> None:
    done = demo(tmp_path, "--seed", "7", "--fault", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ nothing opens without a fault" in done.stdout
    assert "✓ no alert without a fault" in done.stdout
    assert "All parts held." in done.stdout
