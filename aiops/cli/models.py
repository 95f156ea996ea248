"""``aiops models list|show|promote|rollback|delete|evaluate``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import change, fetched

app = group_of("Models: versions, training, trials, drift, cards, export.")
PATH = "/api/v1/models"
Name = Annotated[str, typer.Argument(help="Model name.")]


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
def show(
    name: Name,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """One model's versions with what they were trained on and their figures."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), f"{PATH}/{name}", json)
    if found is None:
        return
    for version in rows_of(found, "versions"):
        rows = [
            ("version", f"{version['version']} {', '.join(version['aliases'])}".strip()),
            ("created", when(version["created_ms"])),
            ("family", str(version["family"])),
            ("data", str(version["dataset"])),
            *((key, value) for key, value in version["parameters"].items() if key not in ("dataset", "family")),
            *((key, "" if value is None else f"{value:g}") for key, value in version["metrics"].items()),
        ]
        console().print(table(("", ""), rows))


@app.command()
def promote(
    name: Name,
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
def rollback(
    name: Name,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Give the champion's place back to the version that held it before."""
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, f"{PATH}/{name}/rollback", None, json, lambda found: f"{name} {found['version']} is champion.")


@app.command()
def delete(
    name: Name,
    version: Annotated[str, typer.Argument(help="Version to delete with its artifact.")],
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Delete a version that is neither champion nor challenger."""
    from aiops.cli.client import connect

    with connect(settings_of(config, data_dir, url, api_key), reading=False) as api:
        api.delete(f"{PATH}/{name}/versions/{version}")
    print(f"{name} {version} is deleted.")


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
