"""``aiops incidents``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import change, fetched

if TYPE_CHECKING:
    from aiops.settings import Settings

app = group_of("List, show, acknowledge, assign, resolve, merge and split incidents.")
Id = Annotated[str, typer.Argument(help="Incident id.")]
PATH = "/api/v1/incidents"


@app.command("list")
def list_incidents(
    status: Annotated[str, typer.Option(help="open, acknowledged, resolved or merged; default all.")] = "",
    limit: Annotated[int, typer.Option(help="Most incidents to show.", min=1, max=1000)] = 50,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Incidents, newest first."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), PATH, json, status=status, limit=limit)
    if found is None:
        return
    incidents = rows_of(found, "incidents")
    if not incidents:
        print("No incidents.")
        return
    rows = (
        (
            str(i["id"]),
            str(i["status"]),
            str(i["severity"]),
            str(i.get("service", "")),
            when(i.get("opened_ms")),
            _title(i),
        )
        for i in incidents
    )
    console().print(table(("id", "status", "severity", "service", "opened", "title"), rows))


@app.command()
def show(
    id: Id, json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """One incident with its ranked causes, signals and timeline."""
    found = fetched(settings_of(config, data_dir, url, api_key), f"{PATH}/{id}", json)
    if found is not None:
        print_incident(found)


@app.command()
def ack(
    id: Id, json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Acknowledge an incident: you are on it."""
    _change(id, "acknowledge", {}, json, settings_of(config, data_dir, url, api_key))


@app.command()
def resolve(
    id: Id,
    reason: Annotated[str, typer.Option(help="Why it is over.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Resolve an incident."""
    _change(id, "resolve", {"reason": reason}, json, settings_of(config, data_dir, url, api_key))


@app.command()
def similar(
    id: Id, json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Past incidents that were like this one, and what ended them."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), f"{PATH}/{id}/similar", json)
    if found is None:
        return
    past = rows_of(found, "similar")
    if not past:
        print(f"No past incident was like {id}.")
        return
    rows = [
        (
            str(s["incident"]["id"]), f"{s['score']:.0%}", when(s["incident"].get("opened_ms")), _title(s["incident"]),
            "; ".join(s["common"]), "; ".join(s["ended_by"]),
        )
        for s in past
    ]  # fmt: skip
    console().print(table(("id", "alike", "opened", "title", "in common", "what ended it"), rows))


@app.command()
def assign(
    id: Id,
    assignee: Annotated[str, typer.Argument(help="Who works on it; leave it out for nobody.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Name who works on an incident."""
    settings = settings_of(config, data_dir, url, api_key)
    said = f"{id} is assigned to {assignee or 'nobody'}."
    change(settings, f"{PATH}/{id}/assign", {"assignee": assignee}, json, lambda _: said)


@app.command()
def note(
    id: Id,
    text: Annotated[str, typer.Argument(help="Your words.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Add words to an incident's timeline."""
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, f"{PATH}/{id}/notes", {"text": text}, json, lambda found: f"Noted on {found['id']}.")


@app.command()
def merge(
    id: Id,
    into: Annotated[str, typer.Option("--into", help="Incident that stays.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Move all signals of an incident into another one."""
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, f"{PATH}/{id}/merge", {"into": into}, json, lambda found: f"{id} is part of {found['id']}.")


@app.command()
def split(
    id: Id,
    signals: Annotated[list[str], typer.Argument(help="Fingerprints of the signals that leave (see show --json).")],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Move some signals of an incident into one of their own."""
    settings = settings_of(config, data_dir, url, api_key)
    body = {"fingerprints": signals, "reason": reason}
    change(settings, f"{PATH}/{id}/split", body, json, lambda found: f"{found['id']} was split from {id}.")


def _change(id: str, verb: str, body: dict[str, str], json: bool, settings: Settings) -> None:
    change(settings, f"{PATH}/{id}/{verb}", body, json, lambda found: f"{id} is {found.get('status', verb)}.")


def print_incident(incident: dict[str, Any], out: Any = None) -> None:
    """Print an incident as the API gives it: causes with evidence, signals, timeline."""
    from rich.text import Text

    from aiops.cli.output import console, number, table, when

    out = out or console()
    out.print(Text(f"{incident['id']} {_title(incident)}", style="bold"))
    out.print(
        Text(
            f"{incident['status']}, {incident['severity']}, service {incident.get('service') or '-'}, "
            f"opened {when(incident.get('opened_ms'))}"
        )
    )
    if incident.get("muted"):
        out.print(Text(f"nobody is told: {incident['muted']}", style="yellow"))
    if candidates := list(incident.get("candidates") or ()):
        note = "" if incident.get("clear_cause") else " (no clear cause)"
        rows = [
            (
                str(c["service"]),
                f"{float(c.get('share') or 0):.0%}",
                str(c.get("metric", "")),
                f"{number(c.get('before'))} → {number(c.get('after'))}" if c.get("metric") else "",
                "; ".join(map(str, c.get("reasons") or ())),
            )
            for c in candidates[:5]
        ]
        out.print(table(("likely cause", "share", "metric", "before → after", "reasons"), rows, f"Causes{note}"))
        for candidate in candidates[:3]:
            if candidate.get("query"):
                out.print(Text(f"  {candidate['service']}: {candidate['query']}", style="cyan"), soft_wrap=True)
    if affected := list(incident.get("affected") or ()):
        out.print(Text(f"depend on the cause: {', '.join(map(str, affected[:12]))}"))
    if signals := list(incident.get("signals") or ()):
        linked = [_signal(s, when) for s in signals[:12]]
        title = f"{len(signals)} signals" + (", the first 12" if len(signals) > 12 else "")
        out.print(table(("signal", "since", "what", "why linked"), linked, title))
    for entry in incident.get("timeline") or ():
        out.print(
            Text(f"  {when(entry.get('time_ms'))} {entry.get('actor')}: {entry.get('event')} {entry.get('detail', '')}")
        )


def _signal(signal: dict[str, Any], when: Any) -> tuple[str, str, str, str]:
    alert = signal.get("alert", signal)
    summary = alert.get("summary", "")
    return (
        str(alert.get("name", "")),
        when(alert.get("starts_ms")),
        str(summary),
        str(signal.get("reason", "")),
    )


def _title(incident: dict[str, Any]) -> str:
    mark = "[simulated] " if incident.get("simulated") else ""
    title = str(incident.get("title", ""))
    return title if "simulated" in title.lower() else mark + title
