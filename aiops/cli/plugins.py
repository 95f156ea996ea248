"""``aiops plugins``."""

from __future__ import annotations

from aiops.cli.options import Json, group_of

app = group_of("List the plug-ins.")


@app.callback()
def group() -> None:
    """List the plug-ins."""


@app.command("list")
def list_plugins(json: Json = False) -> None:
    """All plug-ins by kind, ours and those of other packages, without importing them."""
    from aiops.core.plugins import KINDS, discover

    found = [item for kind in KINDS for item in sorted(discover(kind).values(), key=lambda f: f.name)]
    from aiops.cli.output import console, print_json, table

    if json:
        print_json(
            [{"kind": f.kind, "name": f.name, "module": f.module, "builtin": f.entry_point is None} for f in found]
        )
        return
    rows = ((f.kind, f.name, f.module if f.entry_point is None else f"{f.module} (entry point)") for f in found)
    console().print(table(("kind", "name", "from"), rows))
