"""``aiops traces``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import fetched

app = group_of("What traces say.")
PATH = "/api/v1/service-graph"


@app.callback()
def group() -> None:
    """What traces say."""


@app.command()
def graph(
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=744, help="How far back.")] = 1.0,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Who calls whom: calls, errors, durations, time on the wire, first and last seen."""
    from aiops.cli.output import console, number, rows_of, table, when

    end = int(time.time() * 1000)
    settings = settings_of(config, data_dir, url, api_key)
    found = fetched(settings, PATH, json, start_ms=end - int(hours * 3_600_000), end_ms=end)
    if found is None:
        return
    edges = rows_of(found, "edges")
    if not edges:
        print("No calls between services in that time.")
        return
    rows = [
        (
            str(e["caller"]), str(e["callee"]), f"{e['count']:,}", f"{e['errors']:,}",
            number(e["p50_ms"] / 1000, "s"), number(e["p95_ms"] / 1000, "s"),
            number(e["wire_p50_ms"] / 1000, "s") if e["wire_p50_ms"] is not None else "-",
            when(e["first_ms"]), when(e["last_ms"]),
        )
        for e in edges
    ]  # fmt: skip
    columns = ("caller", "callee", "calls", "errors", "median", "p95", "on the wire", "first seen", "last seen")
    console().print(table(columns, rows))
