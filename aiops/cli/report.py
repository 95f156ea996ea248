"""``aiops report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Url, group_of, settings_of
from aiops.core.errors import PermanentError

app = group_of("Write reports of costs and of incidents.")
PATH = "/api/v1/reports/cost"


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
    _write(file, text)


@app.command()
def incident(
    id: Annotated[str, typer.Argument(help="Incident id.")],
    file: Annotated[
        Path | None, typer.Argument(help="File to write: .html, .md, otherwise text; without one, text is printed.")
    ] = None,
    postmortem: Annotated[bool, typer.Option("--postmortem", help="The draft of a postmortem, in Markdown.")] = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """One incident with causes, evidence, signals and timeline, to keep or to pass on."""
    from aiops.cli.client import connect

    forms = {".html": "html", ".htm": "html", ".md": "markdown"}
    form = "postmortem" if postmortem else forms.get(file.suffix.lower(), "text") if file else "text"
    with connect(settings_of(config, data_dir, url, api_key)) as api:
        text = api.get_text(f"/api/v1/incidents/{id}/report", format=form)
    if file is None:
        print(text, end="")
    else:
        _write(file, text)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PermanentError(f"{file} cannot be written: {error.strerror}.") from error
    print(f"Wrote {file} ({len(text.encode()):,} bytes).")
