"""``aiops demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops.cli.options import group_of

app = group_of()


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Same seed, same shop and fault.", min=0)] = 7,
    fault: Annotated[str, typer.Option(help="Kind of fault; default drawn by the seed; none injects nothing.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Check every part and stop; exit 0 only if all held.")] = False,
    port: Annotated[int, typer.Option(help="Port; another is chosen when it is taken.", min=0, max=65535)] = 8420,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the demo, emptied at start; default beside the service's own.")
    ] = None,
) -> None:
    """Show everything on this machine's live metrics and a simulated shop, in about a minute."""
    from aiops.cli.answers import print_answer
    from aiops.cli.incidents import print_incident
    from aiops.cli.serve import stop_on_term
    from aiops.demo.scenario import Screens, run

    stop_on_term()
    screens = Screens(print_answer, print_incident)
    raise typer.Exit(0 if run(seed, fault, screens, once=once, port=port, data_dir=data_dir) else 1)
