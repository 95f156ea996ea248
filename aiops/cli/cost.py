"""``aiops cost``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import fetched

app = group_of("Cloud costs: summary, forecast, anomalies, budgets, import.")
PATH = "/api/v1/costs"
DAY_MS = 86_400_000
HOW_TO_GET_COSTS = "Import a FOCUS file with `aiops cost import`, or configure connectors.clouds."


Service = Annotated[str, typer.Option("--service", help="Only this ServiceName, such as aiops for its own cost.")]


@app.callback(invoke_without_command=True)
def costs(
    context: typer.Context,
    service: Service = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Cloud costs: summary, forecast, anomalies, budgets, import. With --service alone, the summary of one service."""
    if context.invoked_subcommand is None:
        summary(7, "", service, json, url, api_key, data_dir, config)


@app.command()
def summary(
    days: Annotated[int, typer.Option(help="Days back from today.", min=1, max=366)] = 7,
    by: Annotated[
        str, typer.Option(help="FOCUS column to group by; default ServiceName, of one service ResourceName.")
    ] = "",
    service: Service = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """What was spent, by group, largest first (EffectiveCost)."""
    from aiops.cli.output import console, number, rows_of, table
    from aiops.core.ports import system_clock

    today = system_clock() // DAY_MS * DAY_MS
    by = by or ("ResourceName" if service else "ServiceName")
    found = fetched(
        settings_of(config, data_dir, url, api_key),
        f"{PATH}/summary",
        json,
        start_ms=today - days * DAY_MS,
        end_ms=today + DAY_MS,
        group_by=by,
        where=f"ServiceName={service}" if service else "",
    )
    if found is None:
        return
    currency = str(found.get("currency") or "USD")
    rows = [(_group(g), number(g.get("total"), currency)) for g in rows_of(found, "groups")]
    if not rows:
        print(f"No costs are stored for the last {days} days. {HOW_TO_GET_COSTS}")
        return
    total = number(found.get("total"), currency)
    console().print(table((by, "cost"), [*rows, ("total", total)], f"the last {days} days and today (UTC)"))


@app.command()
def forecast(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """What this month will cost, with an interval."""
    from aiops.cli.output import number

    found = fetched(settings_of(config, data_dir, url, api_key), f"{PATH}/forecast", json)
    if found is None:
        return
    if found.get("method") == "no costs":
        print(f"No costs are stored to forecast from. {HOW_TO_GET_COSTS}")
        return
    c = str(found.get("currency") or "USD")
    print(
        f"spent {number(found['spent'], c)}; expected at month end {number(found['expected'], c)} "
        f"({number(found['lower'], c)} to {number(found['upper'], c)}), by {found.get('method', '')}"
    )


@app.command()
def anomalies(
    days: Annotated[int, typer.Option(help="Days back from today.", min=1, max=366)] = 30,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Days whose cost departs from their own past."""
    from aiops.cli.output import console, number, rows_of, table, when
    from aiops.core.ports import system_clock

    end = system_clock()
    settings = settings_of(config, data_dir, url, api_key)
    found = fetched(settings, f"{PATH}/anomalies", json, start_ms=end - days * DAY_MS, end_ms=end)
    if found is None:
        return
    rows = [
        (
            when(a.get("day_ms"), "UTC")[:10],
            _group(a),
            number(a.get("amount"), str(a.get("currency", ""))),
            number(a.get("expected"), str(a.get("currency", ""))),
        )
        for a in rows_of(found, "anomalies")
    ]
    if rows:
        console().print(table(("day", "group", "cost", "expected"), rows))
    else:
        print(f"No cost anomaly in the last {days} days.")


@app.command()
def budgets(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Budgets against what was spent and what is expected at month end."""
    from aiops.cli.output import console, number, rows_of, table

    found = fetched(settings_of(config, data_dir, url, api_key), f"{PATH}/budgets", json)
    if found is None:
        return
    rows = []
    for state in rows_of(found, "budgets"):
        budget, ahead = state["budget"], state["forecast"]
        currency = str(budget.get("currency", ""))
        figures = (budget.get("amount"), ahead.get("spent"), ahead.get("expected"))
        rows.append((str(budget.get("name")), str(state.get("state")), *(number(f, currency) for f in figures)))
    if rows:
        console().print(table(("budget", "state", "amount", "spent", "expected"), rows))
    else:
        print("No budgets are configured.")


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="FOCUS CSV or Parquet file.", exists=True, dir_okay=False, readable=True)
    ],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Import a FOCUS file. It replaces the billing periods that it holds."""
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        found = api.upload(f"{PATH}/import", file)
    if json:
        print_json(found)
    else:
        print(f"Imported {found.get('rows', '?')} rows of {file.name}.")


def _group(row: dict[str, Any]) -> str:
    return " / ".join(part or "(none)" for part in map(str, row.get("group") or ())) or "(all)"
