"""``aiops silences``."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import change, fetched

app = group_of("Keep alerts from waking people for a while.")
PATH = "/api/v1/silences"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@app.command("list")
def list_silences(
    past: Annotated[bool, typer.Option("--past", help="Also those that ended in the last 30 days.")] = False,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Silences in force and to come."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), PATH, json, past=str(past).lower())
    if found is None:
        return
    silences = rows_of(found, "silences")
    if not silences:
        print("No silences.")
        return
    rows = [
        (
            str(s["id"]), "in force" if s["active"] else "", " ".join(s["matchers"]), when(s["starts_ms"]),
            when(s["ends_ms"]), str(s["author"]), str(s["comment"]),
        )
        for s in silences
    ]  # fmt: skip
    console().print(table(("id", "state", "matchers", "from", "until", "author", "comment"), rows))


@app.command()
def add(
    matchers: Annotated[list[str], typer.Argument(help='Such as service=web or severity=~"info|warning".')],
    comment: Annotated[str, typer.Option("--comment", "-c", help="Why.")],
    duration: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")] = "1h",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Silence alerts that all matchers hold for, from now."""
    from aiops.cli.output import when

    body = {"matchers": matchers, "comment": comment, "duration_s": seconds_of(duration)}
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, PATH, body, json, lambda s: f"{s['id']} is in force until {when(s['ends_ms'])}.")


@app.command()
def end(
    id: Annotated[str, typer.Argument(help="Silence id.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """End a silence now: what still fires is told of."""
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, f"{PATH}/{id}/end", {}, json, lambda s: f"{s['id']} is over.")


def seconds_of(text: str) -> float:
    """Seconds of ``90s``, ``1h30m``, ``2d``. Raises ``typer.BadParameter``."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise typer.BadParameter(f"'{text}' is not a duration; write 30m, 2h or 1d.", param_hint="--for")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
