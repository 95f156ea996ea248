"""``aiops rules``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops.cli.options import group_of

app = group_of("Check rule files.")


@app.callback()
def group() -> None:
    """Check rule files."""


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Rule files in Prometheus' format.", metavar="FILE…")],
) -> None:
    """Say what is wrong with rule files, one line a problem; exit status 1 if anything is."""
    from aiops.rules.files import read_rules

    failed = False
    for path in files:
        groups, problems = read_rules(path)
        fatal = any(problem.fatal for problem in problems)
        for problem in problems:
            print(problem if problem.fatal else f"{problem} (allowed)")
        if not fatal:
            print(f"{path}: {sum(len(g.rules) for g in groups)} rules in {len(groups)} groups")
        failed = failed or fatal
    if failed:
        raise typer.Exit(1)
