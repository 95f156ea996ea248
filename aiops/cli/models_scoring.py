"""``aiops models score``: score a time range; ``aiops models scoring``: how the workers are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from aiops.cli.models import PATH, app
from aiops.cli.moments import moment_ms
from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, settings_of
from aiops.cli.replies import fetched
from aiops.core.errors import InvalidInput, PermanentError

BATCHES = "/api/v1/score-batches"
POLL_S = 0.5


@app.command()
def score(
    name: Annotated[str, typer.Argument(help="Model name.")],
    start: Annotated[str, typer.Option("--from", help="Begin: 2026-11-20, 2026-11-20T14:00Z, or 3d, 12h ago.")] = "",
    end: Annotated[str, typer.Option("--to", help="End, in the same forms; now by default.")] = "",
    query: Annotated[str, typer.Option("--query", help="One watched query or its name; all by default.")] = "",
    version: Annotated[str, typer.Option(help="A version's number; the champion by default.")] = "",
    values: Annotated[bool, typer.Option("--values", help="Keep all values, not only the anomalous ones.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the kept scores to this file, .parquet or .csv.")
    ] = None,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Score the watched series over a time range, as a job of the service."""
    from aiops.cli.client import connect
    from aiops.cli.output import console, number, pairs, print_json, rows_of, table

    if not start:
        raise InvalidInput("Give the time to score.", hint="Such as --from 2d, or --from 2026-11-20 --to 2026-11-21.")
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise InvalidInput("Scores are written as .parquet or .csv.")
    now = time.time_ns() // 1_000_000
    body = {
        "start_ms": moment_ms(start, now),
        "end_ms": moment_ms(end, now) if end else now,
        "query": query,
        "version": version,
        "values": values,
    }
    with connect(settings_of(config, data_dir, url, api_key), reading=False) as api:
        made = api.post(f"{PATH}/{name}/score-batches", body)
        found = _wait(api, made)
        if out is not None and found["rows"]:
            content, _ = api.download(f"{BATCHES}/{made['id']}/scores", format=out.suffix[1:])
            try:
                out.write_bytes(content)
            except OSError as error:
                raise PermanentError(f"{out} cannot be written: {error.strerror}.") from error
    if json:
        print_json({**found, "id": made["id"]})
        return
    out_to = console()
    told = {
        "model": f"{found['model']}/{found['version']}",
        "series": f"{found['series']:,}" + (f", {found['unknown']:,} unknown to it" if found["unknown"] else ""),
        "values": f"{found['values']:,} in {found['seconds']:.1f} s",
        "above their thresholds": f"{found['above']:,}",
        "batch": made["id"],
    }
    out_to.print(pairs(told))
    rows = [
        (s["series"], f"{s['above']:,}", number(s["highest"]), number(s["threshold"]))
        for s in rows_of(found, "top")
        if s["above"]
    ]
    if rows:
        out_to.print(table(("series", "above", "highest score", "threshold"), rows[:20]))
    if out is not None:
        print(f"Wrote {out}." if found["rows"] else "There are no scores to write.")


def _wait(api: Any, made: dict[str, Any]) -> dict[str, Any]:
    """The summary, once the job is done."""
    from aiops.core.errors import NotFound

    while True:
        try:
            return dict(api.get(f"{BATCHES}/{made['id']}"))
        except NotFound:
            job = api.get(f"/api/v1/jobs/{made['job']}")
        if job["status"] in ("failed", "cancelled"):
            raise PermanentError(f"The batch {job['status']}: {job['error'] or 'see its log'}.")
        time.sleep(POLL_S)


@app.command()
def scoring(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """What serves requests for scores, and how its workers are."""
    from aiops.cli.output import console, pairs, table

    found = fetched(settings_of(config, data_dir, url, api_key), "/api/v1/scoring", json)
    if found is None:
        return
    out = console()
    out.print(
        pairs(
            {
                "champions": ", ".join(found["champions"].values()) or "none loaded",
                "candidates": ", ".join(found["candidates"].values()) or "none",
                "series by champion": f"{found['series_stable']:,}",
                "series by candidate": f"{found['series_candidate']:,}",
                "answered in a candidate's stead": f"{found['fallbacks']:,}",
                "refused": f"{found['shed']:,} for want of room, {found['late']:,} late",
            }
        )
    )
    rows = [
        (
            who,
            f"{w['workers']} of {w['minimum']} to {w['maximum']}",
            f"{w['waiting']:,}",
            f"{w['done']:,} in {w['calls']:,}",
            f"{w['wait_p50_ms']:.1f} / {w['wait_p99_ms']:.1f} ms",
            f"+{w['grown']} -{w['shrunk']}",
        )
        for who, w in (("champions", found["stable"]), ("candidates", found["candidate"]))
    ]
    out.print(table(("", "workers", "waiting", "requests in calls", "wait p50 / p99", "grown"), rows))
