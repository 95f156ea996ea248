"""``aiops jobs``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import change, fetched

app = group_of("List, show and cancel background jobs; show schedules and run them now.")
PATH = "/api/v1/jobs"
Identifier = Annotated[str, typer.Argument(metavar="ID", help="Job id; `aiops jobs list` shows them.")]


@app.command("list")
def list_jobs(
    status: Annotated[str, typer.Option(help="queued, running, done, failed or cancelled.")] = "",
    kind: Annotated[str, typer.Option(help="train, score-batch, backfill, cost, report, retention, …")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Jobs, the newest first."""
    from aiops.cli.output import console, rows_of, table, when

    settings = settings_of(config, data_dir, url, api_key)
    found = fetched(settings, PATH, json, status=status, kind=kind, limit=limit)
    if found is None:
        return
    rows = [
        (
            str(j["id"]),
            " ".join(filter(None, (str(j["kind"]), j["arguments"].get("model", "")))),
            f"{j['status']} {float(j['progress'] or 0):.0%}" if j["status"] == "running" else str(j["status"]),
            str(j["priority"]),
            when(j["created_ms"]),
            str(j["created_by"]),
        )
        for j in rows_of(found, "jobs")
    ]
    if rows:
        console().print(table(("id", "job", "status", "priority", "created", "by"), rows))
    else:
        print("No jobs.")


@app.command()
def show(
    job: Identifier,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """One job with the end of its log."""
    from aiops.cli.output import console, pairs, when

    found = fetched(settings_of(config, data_dir, url, api_key), f"{PATH}/{job}", json)
    if found is None:
        return
    told = {
        "kind": found["kind"],
        "status": f"{found['status']} {float(found['progress'] or 0):.0%}",
        **{name: value for name, value in found["arguments"].items() if value},
        "priority": found["priority"],
        "attempts": f"{found['attempts']} of {found['max_attempts']}",
        "created": f"{when(found['created_ms'])} by {found['created_by']}",
        "started": when(found["started_ms"]),
        "finished": when(found["finished_ms"]),
        "error": found["error"],
    }
    console().print(pairs({name: value for name, value in told.items() if value not in ("", None)}))
    for line in found["log"]:
        print(f"  {line}")


@app.command()
def cancel(
    job: Identifier,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Drop a job that waits, or stop one that runs."""
    settings = settings_of(config, data_dir, url, api_key)
    change(
        settings,
        f"{PATH}/{job}/cancel",
        None,
        json,
        lambda found: (
            f"Job {found['id']} is " + ("stopping." if found["status"] == "running" else f"{found['status']}.")
        ),
    )


@app.command()
def schedules(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Schedules with their next runs."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), "/api/v1/schedules", json)
    if found is None:
        return
    rows = (
        (str(s["name"]), str(s["cron"]), str(s["zone"]), when(s["next_run_ms"]), when(s["last_run_ms"]))
        for s in rows_of(found, "schedules")
    )
    console().print(table(("schedule", "cron", "zone", "next", "last"), rows))


@app.command()
def run(
    schedule: Annotated[str, typer.Argument(help="Name of a schedule.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Start a schedule's job now, beside its usual runs."""
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, f"/api/v1/schedules/{schedule}/run", None, json, lambda found: f"Job {found['id']} is queued.")
