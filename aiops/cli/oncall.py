"""``aiops oncall``."""

from __future__ import annotations

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import fetched

app = group_of("Who is on call, by the imported schedules.")


@app.callback()
def group() -> None:
    """Who is on call, by the imported schedules."""


@app.command("list")
def list_schedules(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Schedules, who is on call now and who comes next."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), "/api/v1/oncall", json)
    if found is None:
        return
    schedules = rows_of(found, "schedules")
    if not schedules:
        print("No schedules are configured; see connectors.oncall in the configuration.")
        return
    rows = []
    for schedule in schedules:
        coming = [s for s in schedule["shifts"] if s["person"] not in schedule["people"]]
        following = f"{coming[0]['person']} from {when(coming[0]['start_ms'])}" if coming else ""
        rows.append((str(schedule["name"]), ", ".join(schedule["people"]) or str(schedule["gap"]), following))
    console().print(table(("schedule", "on call", "next"), rows))
