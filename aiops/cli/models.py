"""``aiops models``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import change, fetched

app = group_of("List models and promote one.")
PATH = "/api/v1/models"


@app.command("list")
def list_models(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Models with their versions and aliases."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), PATH, json)
    if found is None:
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
    settings = settings_of(config, data_dir, url, api_key)
    change(
        settings,
        f"{PATH}/{name}/versions/{version}/promote",
        None,
        json,
        lambda _: f"{name} {version} is champion.",
    )


@app.command()
def evaluate(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Precision and recall of the detection by people's marks (`aiops detect mark`), with 95 % intervals."""
    from aiops.cli.output import console, rows_of, table

    found = fetched(settings_of(config, data_dir, url, api_key), "/api/v1/anomaly-evaluation", json)
    if found is None:
        return

    def cell(share: dict[str, Any]) -> str:
        if not share["count"]:
            return "no labels"
        return (
            f"{share['value']:.0%} ({share['lower']:.0%} to {share['upper']:.0%}; {share['hits']} of {share['count']})"
        )

    rows = ((str(m["model"] or "all"), cell(m["precision"]), cell(m["recall"])) for m in rows_of(found, "models"))
    console().print(table(("model", "precision", "recall of what was told"), rows))
