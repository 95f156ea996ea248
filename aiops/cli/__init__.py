"""The ``aiops`` command: one file per command group, loaded when it is used."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script; exits with the command's status."""
    from aiops.cli.app import run

    raise SystemExit(run())
