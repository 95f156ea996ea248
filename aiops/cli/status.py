"""``aiops status``."""

from __future__ import annotations

from typing import Any

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of

app = group_of()
TOP = 5
"""Metrics, labels and pairs shown of those with most series or values."""


@app.command()
def status(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Show what the service holds and how its parts are."""
    from aiops.cli.client import connect
    from aiops.cli.output import console, number, pairs, print_json, table, when

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        found = api.get("/api/v1/status")
        found["cardinality"] = api.get("/api/v1/status/tsdb", limit=TOP)["data"]
        where = api.where
    if json:
        print_json(found)
        return
    out = console()
    out.print(
        f"aiops {found['version']} at {where} is {'ready' if found['ready'] else 'not ready'}, auth {found['auth']}"
    )
    held = found["store"]
    out.print(
        pairs(
            {
                **{name: f"{held[name]:,}" for name in ("series", "samples", "logs", "spans", "costs")},
                "on disk": number(held["bytes"], "By"),
                "oldest": when(held["oldest_ms"]),
                "newest": when(held["newest_ms"]),
                **{f"incidents {k}": v for k, v in found["incidents"].items()},
                **{f"notifications {k}": v for k, v in found["notifications"].items()},
                **{f"jobs {k}": v for k, v in found["jobs"].items()},
            }
        )
    )
    rows = [(c["name"], c["state"], "yes" if c["required"] else "", c["detail"]) for c in found["components"]]
    if rows:
        out.print(table(("component", "state", "required", "detail"), rows))
    if found["cardinality"]["headStats"]["numSeries"]:
        out.print(table(("most series and values, last 2 h", "", ""), cardinality_rows(found["cardinality"])))


def cardinality_rows(data: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What makes the store large, from ``/api/v1/status/tsdb``: (what, name, how many)."""
    parts = {
        "seriesCountByMetricName": ("metric", "series"),
        "labelValueCountByLabelName": ("label", "values"),
        "seriesCountByLabelValuePair": ("pair", "series"),
    }
    return [
        (what, item["name"], f"{item['value']:,} {unit}") for key, (what, unit) in parts.items() for item in data[key]
    ]
