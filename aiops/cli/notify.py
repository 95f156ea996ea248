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
    deliveries = rows_of(found, "notifications", "deliveries", "items", "data")
    if not deliveries:
        print("No notifications.")
        return
    rows = []
    for delivery in deliveries:
        told = delivery.get("notification", delivery)
        incident = told.get("incident") or {}
        rows.append(
            (
                str(told.get("id", "")),
                str(told.get("receiver", "")),
                str(told.get("event", "")),
                str(told.get("incident_id") or incident.get("id") or ""),
                str(delivery.get("status", "")),
                str(delivery.get("attempts", "")),
                when(delivery.get("delivered_ms") or told.get("created_ms")),
                str(delivery.get("last_error", "")),
            )
        )
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
    print(f"A test notification for '{receiver}' is on its way; see `aiops notify list`.")


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
