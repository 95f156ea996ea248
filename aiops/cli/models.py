"""``aiops models``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of

app = group_of("List models and promote one.")
PATH = "/api/v1/models"


@app.command("list")
def list_models(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Models with their versions and aliases."""
    from aiops.cli.client import connect
    from aiops.cli.output import console, print_json, rows_of, table, when

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        found = api.get(PATH)
    if json:
        print_json(found)
        return
    flat = [v for m in rows_of(found, "models") for v in m["versions"]]
    if not flat:
        print("No models yet.")
        return
    rows = (
        (
            str(v["name"]),
            str(v.get("version", "")),
            ", ".join(map(str, v.get("aliases") or ())),
            str(v.get("family", "")),
            when(v.get("created_ms")),
        )
        for v in flat
    )
    console().print(table(("name", "version", "aliases", "family", "created"), rows))


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="Model name.")],
    version: Annotated[str, typer.Argument(help="Version to make the champion.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Make a version the champion: the one that scores."""
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    with connect(settings_of(config, data_dir, url, api_key), reading=False) as api:
        found = api.post(f"{PATH}/{name}/versions/{version}/promote")
    if json:
        print_json(found)
    else:
        print(f"{name} {version} is the champion.")
