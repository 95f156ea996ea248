"""The root command. Groups are imported on use, so that ``aiops --help`` stays light."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from aiops import cli
from aiops.core.errors import AiopsError, FolderInUse

COMMANDS = {
    "demo": "Show everything on a simulated shop, in a minute.",
    "serve": "Run the service.",
    "ask": "Ask a question in words.",
    "questions": "What was asked before, and questions kept under a name.",
    "evals": "Ask recorded questions and judge the answers.",
    "query": "Ask in PromQL.",
    "status": "Show what the running service holds and does.",
    "detect": "Judge a past time range; list, show and mark anomalies.",
    "incidents": "List, show, acknowledge, resolve, merge and split incidents.",
    "actions": "List, approve and reject proposed actions.",
    "cost": "Cloud costs: summary, forecast, anomalies, budgets, import.",
    "report": "Write reports of costs and of incidents.",
    "models": "Models: versions, training, trials, drift, lineage, checkpoints.",
    "jobs": "List, show and cancel background jobs and schedules.",
    "keys": "Create, list and revoke API keys.",
    "notify": "Test receivers, list and resend notifications.",
    "oncall": "Who is on call, by the imported schedules.",
    "slo": "Error budgets of service-level objectives.",
    "silences": "Keep alerts from waking people for a while.",
    "backfill": "Pull history from a configured Prometheus.",
    "store": "The telemetry store: status, export, import, backup, restore, encryption.",
    "rules": "Check rule files in Prometheus' format.",
    "logs": "Templates of log lines.",
    "traces": "Who calls whom.",
    "doctor": "Check that this machine and configuration can run the service.",
    "plugins": "List the plug-ins.",
    "config": "Check and show the configuration.",
    "audit": "Read and verify the audit log.",
}
"""Command name to its line in ``aiops --help``; the code is in ``aiops.cli.<name>``."""

EXIT_ERROR, EXIT_IN_USE, EXIT_INTERRUPTED = 1, 3, 130


class LazyGroup(TyperGroup):
    """Imports ``aiops.cli.<name>`` when the command is invoked; its help list needs no import."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name])
        module = importlib.import_module(f"aiops.cli.{cmd_name}")
        for found in pkgutil.iter_modules(cli.__path__, "aiops.cli."):
            if found.name.startswith(f"{module.__name__}_"):  # a large group's further commands
                importlib.import_module(found.name)
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from aiops import __version__

        print(f"aiops {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """An AIOps assistant: answers with evidence, watches metrics, logs, traces and costs."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit status.

    0 fine, 1 an error (one line on stderr), 2 wrong usage, 3 another process holds the data folder.
    """
    command = typer.main.get_command(app)
    try:
        command.main(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="aiops")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except AiopsError as error:
        print(f"aiops: {error}", file=sys.stderr)
        return EXIT_IN_USE if isinstance(error, FolderInUse) else EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0
