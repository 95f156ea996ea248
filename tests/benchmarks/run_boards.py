"""Run every scoring board on the data beside the checkout and print its figures: `make boards`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared"
HERE = "tests.benchmarks.boards"
DATA = SHARED / "data"
BOARDS = (
    f"promql_suite.py --testdata {DATA}/promql --only stable --range-mode --target {HERE}:promql",
    f"detector_board.py --batch --call {HERE}:detect_batch",
    f"detector_board.py --batch --causal --call {HERE}:detect_streaming",
    f"rca_board.py --data {DATA}/rca --rank {HERE}:rank_causes",
    f"rca_board.py --data {DATA}/rca --rank {HERE}:rank_causes --late 2",
    f"rca_board.py --data {DATA}/rca --rank {HERE}:rank_causes --quiet",
    f"log_board.py --data {DATA}/logs --parse {HERE}:parse_logs",
    f"log_board.py --data {DATA}/logs --parse {HERE}:parse_logs --raw",
    f"question_board.py --plan {HERE}:plan_question --intents {HERE}:classify_intent",
)


def main() -> int:
    if not SHARED.is_dir():
        print("The boards and their data are not beside this checkout (../shared).")
        return 1
    worst = 0
    for line in BOARDS:
        board, *arguments = shlex.split(line)
        print(f"\n== {board} {' '.join(a for a in arguments if not a.startswith('/'))}", flush=True)
        done = subprocess.run([sys.executable, str(SHARED / "tools" / board), *arguments], check=False)
        worst = max(worst, done.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
