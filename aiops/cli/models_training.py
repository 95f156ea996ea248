"""``aiops models train|cost``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops.cli.models import PATH, app
from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, settings_of
from aiops.cli.replies import fetched
from aiops.core.errors import PermanentError

if TYPE_CHECKING:
    from aiops.cli.client import Api

POLL_S = 0.5
DAY_MS = 86_400_000
ENDED = ("done", "failed", "cancelled")


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="Model name; without one every model is trained.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress until it is over.")] = False,
    reason: Annotated[str, typer.Option(help="Kept with the version.")] = "",
    challenger: Annotated[bool, typer.Option("--challenger", help="Do not make the result the champion.")] = False,
    warm: Annotated[
        bool, typer.Option("--warm", help="Take calibrations over from the champion while they are young.")
    ] = False,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Train models on their trailing window, as jobs of the running service."""
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    body = {"reason": reason, "as_challenger": challenger, "warm": warm}
    with connect(settings_of(config, data_dir, url, api_key), reading=False) as api:
        jobs = api.post(f"{PATH}/{name}/train" if name else f"{PATH}/train", body)["jobs"]
        if wait:
            jobs = _followed(api, jobs, quiet=json)
    if json:
        print_json({"jobs": jobs})
        return
    for job in jobs:
        told = f"{job['arguments'].get('model', '')}: {job['status']}"
        print(f"{told}, job {job['id']}" + (f": {job['error']}" if job.get("error") else ""))
    if failed := [job for job in jobs if job["status"] in ("failed", "cancelled")]:
        raise PermanentError(f"{len(failed)} of {len(jobs)} trainings did not come to their end.")


@app.command()
def cost(
    days: Annotated[int, typer.Option(help="Days back from today.", min=1, max=366)] = 7,
    by: Annotated[str, typer.Option(help="model, team, principal or version.")] = "model",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """What training, scores and LLM calls cost, and the budgets of today."""
    from aiops.cli.output import console, rows_of, table
    from aiops.core.ports import system_clock

    start = system_clock() // DAY_MS * DAY_MS - days * DAY_MS
    found = fetched(settings_of(config, data_dir, url, api_key), "/api/v1/model-costs", json, start_ms=start, by=by)
    if found is None:
        return
    rows = [
        (str(r["group"]) or "(none)", str(r["kind"]), f"{r['quantity']:,.6g} {r['unit']}", _money(r["cost"]))
        for r in rows_of(found, "costs")
    ]
    if not rows:
        print(f"No use of a model is booked in the last {days} days.")
    else:
        total = _money(sum(r["cost"] for r in rows_of(found, "costs")))
        console().print(table((by, "for", "used", "cost"), [*rows, ("total", "", "", total)]))
    if budgets := rows_of(found, "budgets"):
        cells = (
            (str(b["name"]), str(b["state"]).replace("_", " "), _money(b["spent"]), _money(b["per_day"]))
            for b in budgets
        )
        console().print(table(("budget of today", "state", "spent", "of"), cells))


def _money(value: float) -> str:
    from aiops.cli.output import number

    return f"{value:.2g} USD" if 0 < value < 0.01 else number(value, "USD")


def _followed(api: Api, jobs: list[dict[str, Any]], *, quiet: bool) -> list[dict[str, Any]]:
    """The jobs once they have ended; a bar for each is shown meanwhile."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[line]}", markup=False),
    )
    with Progress(*columns, disable=quiet) as bars:
        tasks = {job["id"]: bars.add_task(job["arguments"].get("model", ""), total=1.0, line="") for job in jobs}
        while True:
            jobs = [api.get(f"/api/v1/jobs/{job['id']}") for job in jobs]
            for job in jobs:
                line = job["log"][-1] if job["log"] else job["status"]
                bars.update(tasks[job["id"]], completed=float(job.get("progress") or 0.0), line=line)
            if all(job["status"] in ENDED for job in jobs):
                return jobs
            time.sleep(POLL_S)
