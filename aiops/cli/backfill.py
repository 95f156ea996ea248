"""``aiops backfill``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.core.errors import PermanentError

app = group_of()
PATH = "/api/v1/backfills"
POLL_S = 0.5


@app.command()
def backfill(
    source: Annotated[str, typer.Argument(help="Telemetry source from the configuration; a Prometheus server.")],
    days: Annotated[float, typer.Option(help="Days of history to pull.", min=0.01, max=400)] = 14.0,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Pull history from a configured Prometheus into the store. It goes on where it stopped.

    The running service does the work; stopping this command does not stop it.
    """
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    with connect(settings_of(config, data_dir, url, api_key), reading=False) as api:
        job = api.post(PATH, {"source": source, "days": days})
        if json:
            print_json(job)
            return
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("backfill {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            task = progress.add_task(source, total=1.0)
            while True:
                state = api.get(f"{PATH}/{job['id']}")
                progress.update(task, completed=float(state.get("progress") or 0.0))
                if state.get("status") in ("done", "failed", "cancelled"):
                    break
                time.sleep(POLL_S)
        if state.get("status") != "done":
            raise PermanentError(f"The backfill of '{source}' is {state['status']}: {state.get('error', '')}")
    print(f"Pulled {days:g} days from '{source}'.")
