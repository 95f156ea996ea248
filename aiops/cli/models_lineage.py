"""``aiops models lineage``, ``datasets``, ``checkpoints``, ``restore``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops.cli.models import PATH, app
from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, settings_of
from aiops.cli.replies import change, fetched


@app.command()
def lineage(
    anomaly_id: Annotated[str, typer.Argument(help="Anomaly, as `aiops detect list` shows it.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """From an anomaly back to the version, data, code, parameters and trials behind it."""
    from aiops.cli.output import console, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), f"/api/v1/anomalies/{anomaly_id}/lineage", json)
    if found is None:
        return
    rows = [("anomaly", found["anomaly_id"]), ("scored by", found["model"] or "nothing noted")]
    if found["version"]:
        kept, checkpoint = found["dataset"], found["checkpoint"]
        window = f"{when(kept['start_ms'])} to {when(kept['end_ms'])}" if kept else "not kept any more"
        rows += [
            ("family", found["family"]),
            ("trained", when(found["trained_ms"])),
            ("job", found["job"] or "none noted"),
            ("code", found["code"]),
            ("signature", "verified" if found["verified"] else "refused"),
            ("data", found["dataset_id"]),
            ("window", window),
        ]
        if kept:
            rows.append(("size", f"{kept['series']} series, {kept['points']} points at {kept['step_ms'] / 1000:g} s"))
            rows += [("query", line) for line in kept["query"].splitlines()[:20]]
        rows.append(("options", found["parameters"].get("options", "")))
        rows += [(name, f"{value:g}") for name, value in found["metrics"].items()]
        rows.append(("parents", ", ".join(found["parents"]) or "none"))
        if checkpoint:
            why = checkpoint["detail"].get("why", "")
            rows.append(("state", f"checkpoint {checkpoint['id']} of {when(checkpoint['created_ms'])} ({why})"))
        else:
            rows.append(("state", "as it was trained"))
        rows += [
            (d["strategy"], f"{d['stable']} against {d['candidate']}: {d['state']} {d['reason']}".strip())
            for d in found["deployments"]
        ]
    rows += [("not known", gap) for gap in found["gaps"]]
    console().print(table(("", ""), rows))


@app.command()
def datasets(
    name: Annotated[str, typer.Argument(help="Model name.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Snapshots that a model was trained on, the newest first."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), f"{PATH}/{name}/datasets", json)
    if found is None:
        return
    rows = [
        (
            d["id"].removeprefix("sha256:")[:12],
            when(d["start_ms"]),
            when(d["end_ms"]),
            str(d["series"]),
            str(d["points"]),
        )
        for d in rows_of(found, "datasets")
    ]
    if not rows:
        print("No snapshots.")
        return
    console().print(table(("sha256", "from", "to", "series", "points"), rows))


@app.command()
def checkpoints(
    name: Annotated[str, typer.Argument(help="Model name.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """States in service that were kept, the newest first."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), f"{PATH}/{name}/checkpoints", json)
    if found is None:
        return
    rows = [
        (str(c["id"]), c["version"], when(c["created_ms"]), c["detail"].get("why", ""), c["sha256"][:12])
        for c in rows_of(found, "checkpoints")
    ]
    if not rows:
        print("No checkpoints.")
        return
    console().print(table(("id", "version", "kept", "why", "sha256"), rows))


@app.command()
def restore(
    name: Annotated[str, typer.Argument(help="Model name.")],
    checkpoint: Annotated[int, typer.Argument(help="Checkpoint, as `aiops models checkpoints` lists it.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Serve an earlier state of the version in service, if it passes the output checks."""
    change(
        settings_of(config, data_dir, url, api_key),
        f"{PATH}/{name}/checkpoints/{checkpoint}/restore",
        None,
        json,
        lambda made: f"{made['version']} serves as of checkpoint {checkpoint}, kept as {made['id']}.",
    )
