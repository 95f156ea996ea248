"""``aiops keys``. Keys live in the state store, which may be written beside a running service."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aiops.cli.options import Config, DataDir, Json, group_of, settings_of

app = group_of("Create, list and revoke API keys.")
DAY_MS = 86_400_000


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    role: Annotated[str, typer.Option(help="viewer, responder, approver or admin.")] = "viewer",
    scope: Annotated[
        list[str] | None,
        typer.Option(help='Label matcher the key is limited to, such as team="shop"; may be repeated.'),
    ] = None,
    days: Annotated[int, typer.Option(help="Days until it expires; 0 means never.", min=0)] = 0,
    json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Create a key. Its text is shown once and cannot be read again."""
    from aiops import wiring
    from aiops.access.scopes import parse_scope
    from aiops.core.errors import InvalidInput
    from aiops.core.ports import system_clock
    from aiops.core.principal import Role

    if role not in set(Role):
        raise InvalidInput(f"There is no role '{role}'.", hint=f"Roles: {', '.join(Role)}.")
    keys = wiring.keys(settings_of(config, data_dir))
    expires = system_clock() + days * DAY_MS if days else None
    text, record = keys.create(name, Role(role), parse_scope(scope or ()), expires)
    if json:
        from aiops.cli.output import print_json

        print_json({"key": text, "id": record.id, "name": record.name, "role": record.role.value})
    else:
        print(text)
        print(f"Keep it: it is not shown again. Id {record.id}, role {record.role.value}.", file=sys.stderr)


@app.command("list")
def list_keys(json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Keys without their secrets."""
    from aiops import wiring
    from aiops.cli.output import console, print_json, table, when

    found = wiring.keys(settings_of(config, data_dir)).list()
    if json:
        print_json(
            [
                {
                    "id": k.id,
                    "name": k.name,
                    "role": k.role.value,
                    "scope": [str(m) for m in k.scope] if k.scope is not None else None,
                    "created_ms": k.created_ms,
                    "expires_ms": k.expires_ms,
                    "revoked_ms": k.revoked_ms,
                }
                for k in found
            ]
        )
        return
    if not found:
        print("No keys. Create one with `aiops keys create NAME --role admin`.")
        return
    rows = (
        (
            k.id,
            k.name,
            k.role.value,
            ", ".join(map(str, k.scope or ())),
            when(k.created_ms),
            when(k.expires_ms),
            when(k.revoked_ms),
        )
        for k in found
    )
    console().print(table(("id", "name", "role", "scope", "created", "expires", "revoked"), rows))


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="Key id, from `aiops keys list`.")],
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Refuse a key from now on."""
    from aiops import wiring

    record = wiring.keys(settings_of(config, data_dir)).revoke(id)
    print(f"{record.id} ({record.name}) is revoked.")
