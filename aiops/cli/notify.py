"""``aiops notify``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of

app = group_of("Test receivers, list and resend notifications.")
PATH = "/api/v1/notifications"


@app.command("list")
def list_notifications(
    status: Annotated[str, typer.Option(help="pending, delivered or dead.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Notifications with their delivery state, newest first."""
    from aiops.cli.client import connect
    from aiops.cli.output import console, print_json, rows_of, table, when

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        found = api.get(PATH, status=status)
    if json:
        print_json(found)
        return
    deliveries = rows_of(found, "notifications")
    if not deliveries:
        print("No notifications.")
        return
    rows = [
        (
            str(d["id"]),
            str(d["receiver"]),
            str(d["event"]),
            str(d["incident_id"]),
            str(d["status"]),
            str(d["attempts"]),
            when(d.get("delivered_ms") or d.get("created_ms")),
            str(d.get("last_error") or ""),
        )
        for d in deliveries
    ]
    columns = ("id", "receiver", "event", "incident", "status", "attempts", "time", "last error")
    console().print(table(columns, rows))


@app.command("test")
def send_test(
    receiver: Annotated[str, typer.Argument(help="Receiver name from the configuration.")],
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Send a test notification to a receiver."""
    from aiops.cli.client import connect

    with connect(settings_of(config, data_dir, url, api_key), reading=False) as api:
        api.post(f"{PATH}/test", {"receiver": receiver})
    print(f"'{receiver}' took the test notification.")


@app.command()
def resend(
    id: Annotated[str, typer.Argument(help="Notification id.")],
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Send a dead notification again."""
    from aiops.cli.client import connect

    with connect(settings_of(config, data_dir, url, api_key), reading=False) as api:
        api.post(f"{PATH}/{id}/resend")
    print(f"{id} is tried again.")
