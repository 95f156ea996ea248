"""The folder of an export, on the side of the command: parts come from the service, the manifest is written here."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops import __version__
from aiops.core.errors import Conflict, InvalidInput
from aiops.store.telemetry.manifest import NAME, Entry, Manifest, check, entry_of, read, sha256_of, sync_folder

if TYPE_CHECKING:
    from rich.progress import Progress

    from aiops.cli.client import Api

UNFINISHED = "unfinished.json"
PATH = "/api/v1/store"
SCHEMA = 1
"""Of the columns in docs/operations.md."""


def export_to(
    api: Api, folder: Path, start_ms: int, end_ms: int | None, signals: Sequence[str], match: Sequence[str]
) -> dict[str, Any]:
    """Fetch all parts into ``folder`` and write the manifest; parts that are there already are kept.

    Args:
        end_ms: exclusive; ``None`` is now, or where the export that is not finished ends.

    Raises:
        Conflict: the folder holds something else.
    """
    wanted, done = _resume(
        folder, {"from_ms": start_ms, "to_ms": end_ms, "signals": sorted(signals), "match": sorted(match)}
    )
    end_ms = wanted["to_ms"]
    plan = api.get(f"{PATH}/export", start_ms=start_ms, end_ms=end_ms, signal=list(signals), match=list(match))
    entries: list[Entry] = []
    with _progress() as bar:
        task = bar.add_task("export", total=len(plan["parts"]))
        for part in plan["parts"]:
            name = part["name"]
            entry = done.get(name)
            if entry is None:
                about = {key: part[key] for key in ("signal", "start_ms", "end_ms", "number")}
                content, headers = api.download(f"{PATH}/export/part", **about, match=list(match))
                if content:
                    entry = _put(folder, name, content, {**about, "rows": int(headers["x-rows"])})
                    done[name] = entry
                    _note(folder, wanted, done)
            if entry is not None:
                entries.append(entry)
            bar.advance(task)
    rows: Counter[str] = Counter()
    for entry in entries:
        rows[entry.about["signal"]] += entry.about["rows"]
    about = {
        **wanted,
        "schema": SCHEMA,
        "aiops": __version__,
        "scoped": plan["scoped"],
        "rows": dict(sorted(rows.items())),
    }
    Manifest("aiops-export", about, tuple(entries)).write(folder)
    (folder / UNFINISHED).unlink(missing_ok=True)
    return {"rows": about["rows"], "files": len(entries), "bytes": sum(entry.bytes for entry in entries)}


def import_from(api: Api, folder: Path, again: bool) -> dict[str, int]:
    """Check the whole folder, then send each part.

    Raises:
        InvalidInput: the folder is no finished export, was changed, or holds costs of a limited export.
    """
    manifest = read(folder, "aiops-export")
    if manifest.about.get("schema") != SCHEMA:
        raise InvalidInput(
            f"{folder} has columns of version {manifest.about.get('schema')}; this aiops reads {SCHEMA}."
        )
    costs = any(entry.about["signal"] == "costs" for entry in manifest.entries)
    if costs and manifest.about.get("scoped"):
        raise InvalidInput(
            "This export holds only some of its costs, and costs replace whole billing periods.",
            hint="Import an export of all costs, or export again with --signals without costs.",
        )
    told: Counter[str] = Counter(added=0, known=0, refused=0, skipped=0)
    with _progress() as bar:
        task = bar.add_task("check", total=len(manifest.entries))
        for _ in check(folder, manifest):
            bar.advance(task)
        task = bar.add_task("import", total=len(manifest.entries))
        for entry in manifest.entries:
            content = (folder / entry.file).read_bytes()
            parameters = {"signal": entry.about["signal"], "sha256": entry.sha256, "again": again}
            told.update(api.send(f"{PATH}/import", content, **parameters))
            bar.advance(task)
    return dict(told)


def _resume(folder: Path, wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Entry]]:
    """What is wanted, with its end, and the files that an earlier run of the same export left."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / UNFINISHED
    if not note.exists():
        if (folder / NAME).exists():
            raise Conflict(f"{folder} holds a finished export or backup.", hint="Choose another folder.")
        if any(folder.iterdir()):
            raise Conflict(f"{folder} is not empty.", hint="Choose a new folder.")
        wanted = {**wanted, "to_ms": wanted["to_ms"] or int(time.time() * 1000)}
        _note(folder, wanted, {})
        return wanted, {}
    try:
        held = json.loads(note.read_text(encoding="utf-8"))
        wanted = {**wanted, "to_ms": wanted["to_ms"] or held["wanted"]["to_ms"]}
        entries = {one["file"]: Entry(**one) for one in held["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise Conflict(f"{note} cannot be read.", hint="Choose a new folder.") from error
    if held["wanted"] != wanted:
        raise Conflict(
            f"{folder} holds another export that is not finished.", hint="Give the same options, or a new folder."
        )
    whole = {n: e for n, e in entries.items() if (folder / n).is_file() and sha256_of(folder / n) == e.sha256}
    return wanted, whole


def _put(folder: Path, name: str, content: bytes, about: dict[str, Any]) -> Entry:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)
    sync_folder(path.parent)
    return entry_of(folder, path, about)


def _note(folder: Path, wanted: dict[str, Any], done: dict[str, Entry]) -> None:
    fresh = folder / f".{UNFINISHED}"
    fresh.write_text(json.dumps({"wanted": wanted, "files": [asdict(e) for e in done.values()]}), encoding="utf-8")
    fresh.replace(folder / UNFINISHED)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
