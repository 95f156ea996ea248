"""``aiops store``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.core.errors import InvalidInput

app = group_of("The telemetry store: status, export, import, backup, restore, encryption.")
PATH = "/api/v1/store"
ALL = "metrics,exemplars,histograms,logs,traces,changes,costs"
LONG_S = 24 * 3600.0
"""A backup of a large store takes as long as its disk does."""

Folder = Annotated[Path, typer.Argument(help="The folder of the export.", file_okay=False)]


@app.command()
def status(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """What each signal takes on the disk, from when to when, and how long it is kept."""
    from aiops.cli.client import connect
    from aiops.cli.output import console, number, pairs, print_json, table, when

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        found = api.get(PATH)
    if json:
        print_json(found)
        return
    rows = [
        (
            one["signal"],
            f"{one['rows']:,}",
            number(one["bytes"], "By"),
            when(one["oldest_ms"]),
            when(one["newest_ms"]),
            "for ever" if one["keep_days"] is None else f"{one['keep_days']} d",
        )
        for one in found["signals"]
    ]
    out = console()
    out.print(table(("signal", "rows", "bytes", "oldest", "newest", "kept"), rows))
    out.print(
        pairs(
            {
                "file and log": number(found["file_bytes"], "By"),
                "in use": number(found["used_bytes"], "By"),
                "limit": "none" if found["max_bytes"] is None else number(found["max_bytes"], "By"),
                "series": f"{found['series']:,}",
                "open blocks": found["open_blocks"],
                "encrypted": "yes" if found["encrypted"] else "no",
            }
        )
    )


@app.command()
def retention(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Drop now what is past its time, or above store.max_bytes, instead of within the hour."""
    from aiops.cli.client import connect
    from aiops.cli.output import print_json, when

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        done = api.post(f"{PATH}/retention")
    if json:
        print_json(done)
        return
    print(f"Dropped {done['dropped']} day tables that were past their time.")
    if done["days"]:
        print(f"Dropped {len(done['days'])} days for want of room, up to {when(done['days'][-1], 'UTC')}.")


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder, or that of the same export.")],
    start: Annotated[str, typer.Option("--from", help="2026-11-01, 2026-11-01T12:00:00+01:00, or ms; UTC by default.")],
    end: Annotated[str, typer.Option("--to", help="As --from; default now.")] = "",
    signals: Annotated[str, typer.Option(help="Which, with commas between.")] = ALL,
    matcher: Annotated[list[str] | None, typer.Option(help='Only rows with, such as job="api"; ANDed.')] = None,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Write a time range as Parquet files with a manifest. The same command goes on where it was stopped."""
    from aiops.cli.archive import export_to
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    chosen = [name.strip() for name in signals.split(",") if name.strip()]
    wrong = sorted(set(chosen) - set(ALL.split(",")))
    if wrong or not chosen:
        raise InvalidInput(f"'{', '.join(wrong)}' is no signal.", hint=f"Signals: {ALL}.")
    with connect(settings_of(config, data_dir, url, api_key)) as api:
        told = export_to(api, out, millis(start), millis(end) if end else None, chosen, list(matcher or ()))
    if json:
        print_json(told)
    else:
        rows = ", ".join(f"{n:,} {signal}" for signal, n in told["rows"].items()) or "nothing"
        print(f"Exported {rows} to {out}: {told['files']} files, {told['bytes']:,} bytes.")


@app.command("import")
def import_folder(
    folder: Folder,
    again: Annotated[bool, typer.Option("--again", help="Also parts that were imported before.")] = False,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Add an export's rows that are not there yet. Every file is checked against the manifest first."""
    from aiops.cli.archive import import_from
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        told = import_from(api, folder, again)
    if json:
        print_json(told)
        return
    print(f"Added {told['added']:,} rows; {told['known']:,} were there already.", end=" ")
    if told["skipped"]:
        print(f"{told['skipped']} files were imported before.", end=" ")
    if told["refused"]:
        print(
            f"{told['refused']:,} are past their time and were refused; raise store.retention_days to keep them.",
            end="",
        )
    print()


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder, on the machine of the service.")],
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Copy the whole data folder while the service runs, and read the copy back."""
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        done = api.work(f"{PATH}/backup", {"folder": str(folder.absolute())}, LONG_S)
    if json:
        print_json(done)
        return
    print(f"Backed up {done['files']} files, {done['bytes']:,} bytes, to {folder}; the copy was read back.")
    for reason in done["left_out"]:
        print(f"Left out: {reason}.")


@app.command()
def verify(folder: Folder, config: Config = None, data_dir: DataDir = None) -> None:
    """Check an export or a backup: every file against the manifest, of a backup every row of every table as well."""
    from aiops.store.telemetry import manifest

    settings = settings_of(config, data_dir)
    found = manifest.read(folder)
    if found.kind == "aiops-export":
        files = sum(1 for _ in manifest.check(folder, found))
    else:
        from aiops.store import backup
        from aiops.store.telemetry.backup import verify_telemetry

        files = sum(1 for _ in backup.verify(folder, lambda path: verify_telemetry(path, settings.store)))
    print(f"{folder} is whole: {files} files.")


@app.command()
def restore(folder: Folder, data_dir: DataDir = None, config: Config = None) -> None:
    """Copy a backup into a data folder that holds nothing yet; the service must not run."""
    from aiops.store.backup import restore as put_back

    settings = settings_of(config, data_dir)
    put_back(folder, settings.data_dir)
    print(f"Restored {folder} to {settings.data_dir}; start the service with `aiops serve`.")


@app.command()
def encrypt(data_dir: DataDir = None, config: Config = None) -> None:
    """Encrypt an existing store with the configured key; the service must not run."""
    from aiops.store.telemetry.convert import encrypt as convert

    settings = settings_of(config, data_dir)
    rows = convert(settings.data_dir / "telemetry.duckdb", settings.store)
    print(f"Encrypted {settings.data_dir / 'telemetry.duckdb'}: {sum(rows.values()):,} rows in {len(rows)} tables.")


def millis(text: str) -> int:
    """ms UTC of an ISO date or time (UTC where it names no zone) or of a number of ms.

    >>> millis("2026-11-01")
    1793491200000
    """
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"'{text}' is no date or time.", hint="Example: 2026-11-01T12:00:00+01:00.") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
