"""``aiops report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Url, group_of, settings_of
from aiops.core.errors import PermanentError

app = group_of("Write the cost report to a file.")
PATH = "/api/v1/reports/cost"


@app.callback()
def group() -> None:
    """Write the cost report to a file."""


@app.command()
def cost(
    file: Annotated[Path, typer.Argument(help="File to write; .html for HTML, otherwise text.")] = Path(
        "cost-report.html"
    ),
    days: Annotated[int, typer.Option(help="Days the report covers.", min=1, max=366)] = 30,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """The cost report as one self-contained file."""
    from aiops.cli.client import connect

    form = "html" if file.suffix.lower() in (".html", ".htm") else "text"
    with connect(settings_of(config, data_dir, url, api_key)) as api:
        text = api.get_text(PATH, format=form, days=days)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PermanentError(f"{file} cannot be written: {error.strerror}.") from error
    print(f"Wrote {file} ({len(text.encode()):,} bytes).")
