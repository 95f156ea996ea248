"""``aiops status``."""

from __future__ import annotations

from typing import Any

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of

app = group_of()


@app.command()
def status(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Show what the service holds and how its parts are."""
    from aiops.cli.client import connect
    from aiops.cli.output import console, pairs, print_json

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        found = api.get("/api/v1/status")
        where = api.where
    if json:
        print_json(found)
        return
    out = console()
    out.print(f"answered by {where}")
    out.print(pairs(dict(_flat(found))))


def _flat(data: Any, prefix: str = "") -> list[tuple[str, Any]]:
    from aiops.cli.output import number, when

    if isinstance(data, dict):
        return [pair for key, value in data.items() for pair in _flat(value, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(data, list):
        if all(not isinstance(item, dict | list) for item in data):
            return [(prefix, ", ".join(map(str, data)))]
        return [pair for i, item in enumerate(data) for pair in _flat(item, f"{prefix}.{i}")]
    if prefix.endswith("_ms") and isinstance(data, int | float) and data > 10**11:
        return [(prefix.removesuffix("_ms"), when(data))]
    if prefix.endswith("bytes") and isinstance(data, int | float):
        return [(prefix, number(data, "By"))]
    return [(prefix, data)]
