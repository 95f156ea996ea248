"""``aiops logs``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import fetched

app = group_of("Templates of log lines.")
PATH = "/api/v1/logs/patterns"
_SEVERITIES = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}


@app.callback()
def group() -> None:
    """Templates of log lines."""


@app.command()
def patterns(
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=744, help="How far back.")] = 1.0,
    service: Annotated[str, typer.Option("--service", "-s", help="Only of this service.")] = "",
    level: Annotated[str, typer.Option("--level", help=f"This level or worse: {', '.join(_SEVERITIES)}.")] = "",
    new: Annotated[bool, typer.Option("--new", help="Only those first seen in that time.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")] = 30,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """What log lines have in common, most frequent first; <*> is what differs."""
    from aiops.cli.output import console, rows_of, table, when

    if level and level.lower() not in _SEVERITIES:
        raise typer.BadParameter(f"'{level}' is no level; one of {', '.join(_SEVERITIES)}.")
    end = int(time.time() * 1000)
    found = fetched(
        settings_of(config, data_dir, url, api_key), PATH, json,
        start_ms=end - int(hours * 3_600_000), end_ms=end, service=service,
        min_severity=_SEVERITIES.get(level.lower(), 0), new=str(new).lower(), limit=limit,
    )  # fmt: skip
    if found is None:
        return
    rows = rows_of(found, "patterns")
    if not rows:
        print("No log lines in that time." if not new else "No new templates in that time.")
        return
    words = {number // 4: word for word, number in _SEVERITIES.items()}
    shown = [
        (
            str(p["template_id"]), f"{p['count']:,}", words.get((int(p["severity"]) - 1) // 4, ""),
            str(p["service"]), when(p["known_ms"] or p["first_ms"]), str(p["pattern"]),
        )
        for p in rows
    ]  # fmt: skip
    console().print(table(("id", "lines", "worst", "service", "first seen", "template"), shown))
    if found.get("more"):
        print(f"More than {limit}; see --limit, --service, --level.")
