"""``aiops audit``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import fetched
from aiops.core.errors import PermanentError

app = group_of("Read and verify the audit log.")


@app.command("list")
def list_entries(
    actor: Annotated[str, typer.Option(help="Of one principal.")] = "",
    action: Annotated[str, typer.Option(help="Of one kind, such as model.promote.")] = "",
    subject: Annotated[str, typer.Option(help="About one thing, such as a model.")] = "",
    limit: Annotated[int, typer.Option(help="So many of the newest.", min=1, max=1000)] = 50,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Who did what, the newest first."""
    from aiops.cli.output import console, rows_of, table, when

    settings = settings_of(config, data_dir, url, api_key)
    chosen = {"actor": actor, "action": action, "subject": subject, "limit": limit}
    found = fetched(settings, "/api/v1/audit", json, **chosen)
    if found is None:
        return
    rows = [
        (
            when(e["time_ms"]),
            str(e["actor"]),
            str(e["action"]),
            str(e["subject"]),
            ", ".join(f"{key} {value}" for key, value in dict(e["detail"]).items()),
        )
        for e in rows_of(found, "entries")
    ]
    if not rows:
        print("No entries.")
        return
    console().print(table(("time", "who", "did", "to", "details"), rows))


@app.command()
def verify(data_dir: DataDir = None, config: Config = None) -> None:
    """Check the hash chain of the audit log; exits 1 at the first broken entry."""
    from aiops import wiring

    log = wiring.audit(settings_of(config, data_dir))
    broken = log.verify()
    if broken is not None:
        raise PermanentError(f"The audit log is broken at entry {broken.sequence} ({broken.action} by {broken.actor}).")
    sequence, digest = log.head()
    print(f"The audit log is whole: {log.count()} entries, head {sequence} {digest}")
