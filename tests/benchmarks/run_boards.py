"""Run every scoring board on the data beside the checkout and print its figures: `make boards`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared"
HERE = "tests.benchmarks.boards"
BOARDS = (
    ("promql_suite.py", "--testdata", str(SHARED / "data/promql"), "--only", "stable", "--range-mode", "--target", f"{HERE}:promql"),
    ("detector_board.py", "--batch", "--call", f"{HERE}:detect_batch"),
    ("rca_board.py", "--data", str(SHARED / "data/rca"), "--rank", f"{HERE}:rank_causes"),
    ("rca_board.py", "--data", str(SHARED / "data/rca"), "--rank", f"{HERE}:rank_causes", "--quiet"),
    ("question_board.py", "--plan", f"{HERE}:plan_question", "--intents", f"{HERE}:classify_intent"),
)  # fmt: skip


def main() -> int:
    if not SHARED.is_dir():
        print("The boards and their data are not beside this checkout (../shared).")
        return 1
    worst = 0
    for board, *arguments in BOARDS:
        print(f"\n== {board} {' '.join(a for a in arguments if not a.startswith('/'))}", flush=True)
        worst = max(
            worst, subprocess.run([sys.executable, str(SHARED / "tools" / board), *arguments], check=False).returncode
        )
    return worst


if __name__ == "__main__":
    sys.exit(main())
