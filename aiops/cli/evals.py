"""``aiops evals``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiops.cli.options import Config, Json, group_of, settings_of
from aiops.core.errors import PermanentError

if TYPE_CHECKING:
    from aiops.agent.evals import Judged, Summary

app = group_of("Ask recorded questions and judge the answers.")


@app.callback()
def group() -> None:
    """Ask recorded questions and judge the answers."""


@app.command()
def run(
    cases: Annotated[Path, typer.Option("--cases", help="A world's folder, or a folder of worlds.")],
    planner: Annotated[str, typer.Option(help="offline, or llm: the configured model, tried first.")] = "offline",
    max_wrong_and_sure: Annotated[
        float, typer.Option(help="Exit 1 above this share of wrong answers that were given as sure.", min=0, max=1)
    ] = 1.0,
    json: Json = False,
    config: Config = None,
) -> None:
    """Run the cases of a folder in stores of their own, without touching a service or its data.

    Prints what was right, abstained, wrong, and wrong and sure, with the time and the money that answers took.
    """
    from rich.progress import Progress

    from aiops.agent.evals import Summary, Verdict
    from aiops.cli.output import console, print_json
    from aiops.wiring.evals import judged_cases

    if planner not in ("offline", "llm"):
        raise typer.BadParameter("--planner is offline or llm.")
    found: list[Judged] = []
    with Progress(console=None if not json else console(), transient=True, disable=json) as progress:
        task = progress.add_task("asking", total=None)
        for total, judged in judged_cases(cases, settings_of(config), llm=planner == "llm"):
            progress.update(task, total=total, advance=1)
            found.append(judged)
    summary = Summary.of(found)
    if json:
        print_json(_tree(summary, found))
    else:
        _show(summary, found)
    share = summary.shares[Verdict.WRONG_AND_SURE]
    if share > max_wrong_and_sure:
        raise PermanentError(f"{share:.1%} of the answers were wrong and sure; {max_wrong_and_sure:.1%} are allowed.")


def _tree(summary: Summary, found: list[Judged]) -> dict[str, object]:
    return {
        "cases": summary.cases,
        "shares": {verdict.value: share for verdict, share in summary.shares.items()},
        "median_s": summary.median_s,
        "slowest_s": summary.slowest_s,
        "cost_usd": summary.cost,
        "reliability": [
            {"from": low, "to": high, "answers": count, "mean_confidence": mean, "right": right}
            for low, high, count, mean, right in summary.reliability
        ],
        "answers": [
            {
                "world": j.world, "id": j.case.id, "question": j.case.question[-1], "verdict": j.verdict.value,
                "misses": list(j.misses), "seconds": j.seconds, "cost_usd": j.cost, "planner": j.answer.planner,
            }
            for j in found
        ],
    }  # fmt: skip


def _show(summary: Summary, found: list[Judged]) -> None:
    from aiops.agent.evals import Verdict
    from aiops.cli.output import console, table

    out = console()
    missed = [j for j in found if j.verdict is not Verdict.RIGHT]
    if missed:
        rows = [(f"{j.world}/{j.case.id}", j.case.question[-1], j.verdict.value, "; ".join(j.misses)) for j in missed]
        out.print(table(("case", "question", "verdict", "why"), rows))
    table_rows: list[tuple[str, ...]] = []
    for world in dict.fromkeys(j.world for j in found):
        here = [j for j in found if j.world == world]
        counts = [sum(j.verdict is verdict for j in here) for verdict in Verdict]
        table_rows.append((world, str(len(here)), *map(str, counts)))
    table_rows.append(("all", str(summary.cases), *(f"{summary.shares[verdict]:.1%}" for verdict in Verdict)))
    out.print(table(("world", "cases", *(verdict.value for verdict in Verdict)), table_rows))
    bands = [
        (f"{low:.2f} to {high:.2f}", str(count), f"{mean:.2f}", f"{right:.0%}")
        for low, high, count, mean, right in summary.reliability
    ]
    out.print(table(("confidence", "answers", "mean", "right"), bands))
    print(
        f"median {summary.median_s * 1000:.0f} ms, slowest {summary.slowest_s * 1000:.0f} ms an answer, "
        f"{summary.cost:.4f} USD in all"
    )
