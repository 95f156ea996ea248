"""``aiops notify``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import change, fetched

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
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), PATH, json, status=status)
    if found is None:
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
    settings = settings_of(config, data_dir, url, api_key)
    change(
        settings, f"{PATH}/test", {"receiver": receiver}, False, lambda _: f"'{receiver}' took the test notification."
    )


@app.command()
def resend(
    id: Annotated[str, typer.Argument(help="Notification id.")],
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Send a dead notification again."""
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, f"{PATH}/{id}/resend", None, False, lambda _: f"{id} is tried again.")
