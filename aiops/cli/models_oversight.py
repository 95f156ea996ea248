"""``aiops models compare|card|drift|export|verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aiops.cli.models import PATH, Name, app
from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, settings_of
from aiops.cli.replies import fetched
from aiops.core.errors import InvalidInput

Reference = Annotated[str, typer.Argument(help="NAME/VERSION, NAME@ALIAS, or NAME for the champion.")]


def _parts(reference: str) -> tuple[str, str]:
    name, _, version = reference.partition("/" if "/" in reference else "@")
    return name, version or "champion"


@app.command()
def compare(
    first: Reference,
    second: Reference,
    hours: Annotated[float, typer.Option(help="Last hours that both score.")] = 24.0,
    label: Annotated[str, typer.Option(help="Group series by this label.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Two versions side by side: parameters, data, figures, and whether they say the same of the same hours."""
    from aiops.cli.output import console, table

    settings = settings_of(config, data_dir, url, api_key)
    found = fetched(settings, "/api/v1/model-comparison", json, first=first, second=second, hours=hours, label=label)
    if found is None:
        return
    rows = [(one["name"], one["first"], one["second"]) for one in found["parameters"]]
    rows += [(one["name"], _number(one["first"]), _number(one["second"])) for one in found["metrics"]]
    rows.append(("precision by marks", _share(found["first_precision"]), _share(found["second_precision"])))
    console().print(table(("", found["first"], found["second"]), rows))
    if found["note"]:
        print(found["note"])
        return
    agreement = (
        (
            str(one["group"]),
            str(one["series"]),
            _number(one["correlation"]),
            _number(one["correlation_low"]),
            _share(one["first_above"], 2),
            _share(one["second_above"], 2),
        )
        for one in found["agreement"]
    )
    heads = ("series of", "series", "rank correlation", "10 % below", "above threshold, first", "second")
    console().print(table(heads, agreement))


@app.command()
def card(
    reference: Reference,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file instead.")] = None,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """A version's model card in Markdown, made from the record."""
    from aiops.cli.client import connect

    name, version = _parts(reference)
    with connect(settings_of(config, data_dir, url, api_key)) as api:
        text = api.get_text(f"{PATH}/{name}/versions/{version}/card", format="html" if html else "markdown")
    if html is None:
        print(text)
        return
    try:
        html.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{html} cannot be written: {error.strerror}.") from error
    print(f"Wrote {html}.")


@app.command()
def drift(
    name: Name,
    check: Annotated[bool, typer.Option("--check", help="Check now, instead of showing earlier checks.")] = False,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Whether a champion's outputs and inputs have drifted from its training window."""
    from aiops.cli.client import ANSWER_S, connect
    from aiops.cli.output import console, print_json, rows_of, table, when

    settings = settings_of(config, data_dir, url, api_key)
    if check:
        with connect(settings, reading=False) as api:
            found: Any = {"reports": [api.work(f"{PATH}/{name}/drift", {}, 10 * ANSWER_S)]}
        if json:
            print_json(found["reports"][0])
            return
    else:
        found = fetched(settings, f"{PATH}/{name}/drift", json)
    if found is None:
        return
    reports = rows_of(found, "reports")
    if not reports:
        print("It was not checked yet; --check does so now.")
        return
    latest = reports[0]
    print(f"{latest['version']}, {when(latest['time_ms'])}: {'drifted' if latest['drifted'] else 'stable'}.")
    if latest["action"]:
        print(latest["action"])
    signals = (
        (s["name"], _number(s["value"]), _number(s["limit"]), "yes" if s["drifted"] else "no", s["detail"])
        for s in latest["signals"]
    )
    console().print(table(("signal", "value", "limit", "drifted", ""), signals))
    if latest["worst"]:
        worst = (
            (s["series"], _number(s["shift"]), _number(s["psi"]), _number(s["p"]), when(s["changed_ms"]))
            for s in latest["worst"]
        )
        console().print(table(("series", "shift, sd", "PSI", "p", "since"), worst))
    if len(reports) > 1:
        earlier = ((when(r["time_ms"]), "drifted" if r["drifted"] else "stable", r["action"]) for r in reports[1:])
        console().print(table(("checked", "verdict", "action"), earlier))


@app.command()
def export(
    reference: Reference,
    folder: Annotated[Path, typer.Argument(help="Empty or new folder.")],
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Export a version as an edge bundle: ONNX, signed, with a scorer that needs only onnxruntime and numpy."""
    from aiops.cli.client import connect
    from aiops.models.edge_bundle import unpack

    name, version = _parts(reference)
    with connect(settings_of(config, data_dir, url, api_key), reading=False) as api:
        data = api.post_bytes(f"{PATH}/{name}/versions/{version}/export")
    unpack(data, folder)
    print(f"Wrote {folder} ({len(data) / 1e6:.1f} MB packed). There: python score.py values.csv")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="An edge bundle.", exists=True, file_okay=False)],
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Check the signature and the files of an edge bundle against the keys that are trusted here."""
    from aiops.models import edge_bundle
    from aiops.models.signing import KEY_FOLDER, Signer

    settings = settings_of(config, data_dir, "", "")
    told = edge_bundle.verify(folder, Signer(settings.data_dir / KEY_FOLDER, settings.models.registry))
    print(f"{told['name']}/{told['version']}, exported by {told['exported_by']}: signature and files are valid.")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _share(found: dict[str, float | None], digits: int = 0) -> str:
    if found["value"] is None:
        return "unknown"
    return f"{found['value']:.{digits}%} ({found['lower']:.{digits}%} to {found['upper']:.{digits}%})"
