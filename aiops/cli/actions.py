"""``aiops actions``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import change, fetched

app = group_of("List, approve and reject proposed actions.")
Id = Annotated[str, typer.Argument(help="Proposal id.")]
PATH = "/api/v1/actions"


@app.command("list")
def list_actions(
    status: Annotated[str, typer.Option(help="proposed, approved, rejected, expired, executed, failed.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Proposals, newest first."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), PATH, json, status=status)
    if found is None:
        return
    proposals = rows_of(found, "actions")
    if not proposals:
        print("No proposals.")
        return
    rows = (
        (str(p["id"]), str(p["status"]), *_what(p), str(p.get("incident_id", "")), when(p.get("expires_ms")))
        for p in proposals
    )
    console().print(table(("id", "status", "kind", "target", "incident", "expires"), rows))


@app.command()
def show(
    id: Id, json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """One proposal: what it would do, why, on what evidence, and the digest that an approval names."""
    from aiops.cli.output import console, pairs, when

    found = fetched(settings_of(config, data_dir, url, api_key), f"{PATH}/{id}", json)
    if found is None:
        return
    kind, target = _what(found)
    parameters = found.get("action", {}).get("parameters") or {}
    shown = {"action": f"{kind} on {target}", **parameters}
    shown |= {
        k: when(v) if k.endswith("_ms") else v for k, v in found.items() if k != "action" and v not in (None, "", [])
    }
    console().print(pairs(shown))


@app.command()
def approve(
    id: Id,
    digest: Annotated[str, typer.Option(help="Digest to approve; default is that of the proposal shown now.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Approve a proposal. It is executed once, and only as it was shown."""
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    with connect(settings_of(config, data_dir, url, api_key), reading=False) as api:
        found = api.get(f"{PATH}/{id}")
        kind, target = _what(found)
        if not yes:
            typer.confirm(f"{kind} on {target} ({found.get('reason', '')}): approve?", abort=True)
        found = api.post(f"{PATH}/{id}/approve", {"digest": digest or found.get("digest", "")})
    if json:
        print_json(found)
    else:
        print(f"{id} is {found.get('status', 'approved')}. {found.get('result', '')}".strip())


@app.command()
def reject(
    id: Id,
    reason: Annotated[str, typer.Option(help="Why not.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Reject a proposal."""
    settings = settings_of(config, data_dir, url, api_key)
    change(
        settings, f"{PATH}/{id}/reject", {"reason": reason}, json, lambda p: f"{id} is {p.get('status', 'rejected')}."
    )


def _what(proposal: dict[str, Any]) -> tuple[str, str]:
    action = proposal.get("action") or {}
    return str(action.get("kind", "")), str(action.get("target", ""))
