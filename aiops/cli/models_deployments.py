"""``aiops models shadow|canary|blue-green|deployments|deployment|stop``: trials of versions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiops.cli.models import PATH, app
from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, settings_of
from aiops.cli.replies import change, fetched
from aiops.core.errors import InvalidInput

DEPLOYMENTS = "/api/v1/deployments"
Name = Annotated[str, typer.Argument(help="Model name.")]
Candidate = Annotated[str, typer.Argument(metavar="VERSION", help="Version to try beside the champion.")]
Identifier = Annotated[str, typer.Argument(metavar="ID", help="Deployment id; `aiops models deployments` shows them.")]


@app.command()
def shadow(
    name: Name,
    version: Candidate,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Let a version score everything beside the champion and decide nothing."""
    _start(settings_of(config, data_dir, url, api_key), name, version, "shadow", None, json)


@app.command()
def canary(
    name: Name,
    version: Candidate,
    share: Annotated[float, typer.Option(help="Share of the series that it serves.", min=0.0, max=1.0)] = 0.1,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Let a version serve a share of the series, always the same ones."""
    _start(settings_of(config, data_dir, url, api_key), name, version, "canary", share, json)


@app.command("blue-green")
def blue_green(
    name: Name,
    version: Candidate,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Let a version take over all series at once, the champion staying warm."""
    _start(settings_of(config, data_dir, url, api_key), name, version, "blue_green", None, json)


def _start(settings: Any, name: str, version: str, strategy: str, share: float | None, json: bool) -> None:
    body = {"version": version, "strategy": strategy, **({} if share is None else {"share": share})}

    def said(found: dict[str, Any]) -> str:
        return f"{name}/{found['candidate']} is tried against {name}/{found['stable']} ({_how(found)}): {found['id']}"

    change(settings, f"{PATH}/{name}/deployments", body, json, said)


@app.command()
def deployments(
    name: Annotated[str, typer.Argument(help="Model name; all by default.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Trials of versions, the newest first."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), DEPLOYMENTS, json, model=name)
    if found is None:
        return
    rows = [
        (
            d["id"],
            f"{d['model']}/{d['candidate']}",
            f"{d['model']}/{d['stable']}",
            _how(d),
            d["state"].replace("_", " "),
            when(d["started_ms"]),
            f"{d['measures'].get('points') or 0:,.0f}",
            str(d["incident"]),
        )
        for d in rows_of(found, "deployments")
    ]
    if not rows:
        print("No trials yet.")
        return
    console().print(table(("id", "candidate", "against", "how", "state", "started", "values", "incident"), rows))


@app.command()
def deployment(
    identifier: Identifier,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """One trial: its verdict, its guards with their figures."""
    from aiops.cli.output import console, pairs, table, when

    d = fetched(settings_of(config, data_dir, url, api_key), f"{DEPLOYMENTS}/{identifier}", json)
    if d is None:
        return
    out = console()
    told = {
        "candidate": f"{d['model']}/{d['candidate']}",
        "against": f"{d['model']}/{d['stable']}",
        "how": _how(d),
        "state": d["state"].replace("_", " "),
        "started": f"{when(d['started_ms'])} by {d['started_by'] or 'nobody named'}",
    }
    if d["ended_ms"] is not None:
        told |= {"ended": f"{when(d['ended_ms'])} by {d['ended_by']}", "why": d["reason"]}
    if d["incident"]:
        told["incident"] = f"{d['incident']}, caused by the candidate"
    times = {key: value for key, value in d["measures"].items() if key.endswith("_s") and value is not None}
    if times:
        told["call p99"] = f"{1000 * times['candidate_p99_s']:.1f} ms, champion {1000 * times['stable_p99_s']:.1f} ms"
    out.print(pairs(told))
    rows = [
        (
            g["name"],
            f"{g['hits']:,} of {g['looks']:,}",
            f"{g['lower']:.1%} to {g['upper']:.1%}" if g["looks"] else "",
            f"{g['limit']:.0%}",
            "broken" if g["broken"] else "holds" if g["looks"] else "nothing seen",
        )
        for g in d["guards"]
    ]
    out.print(table(("guard", "seen", "95 % interval", "limit", ""), rows))


@app.command()
def stop(
    identifier: Identifier,
    promote: Annotated[bool, typer.Option("--promote", help="Make the candidate the champion.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Note the candidate as rolled back.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """End a trial; the champion serves all again, or with --promote the candidate does."""
    if promote and rollback:
        raise InvalidInput("A trial ends in one way.", hint="Give --promote or --rollback, not both.")
    verb = "promote" if promote else "rollback" if rollback else "stop"
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, f"{DEPLOYMENTS}/{identifier}/{verb}", {"reason": reason}, json, lambda d: _ended(d))


def _ended(found: dict[str, Any]) -> str:
    champion = found["candidate"] if found["state"] == "promoted" else found["stable"]
    return (
        f"The trial of {found['model']}/{found['candidate']} has ended; {found['model']}/{champion} serves all series."
    )


def _how(found: dict[str, Any]) -> str:
    if found["strategy"] == "canary":
        return f"canary of {found['share']:.0%}"
    return str(found["strategy"]).replace("blue_green", "blue/green")
