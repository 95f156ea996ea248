"""What a manifest finds: files that lack, differ or do not belong, and a manifest that was edited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aiops.core.errors import InvalidInput
from aiops.store.telemetry.manifest import NAME, Manifest, check, entry_of, read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "export"
    (place / "logs").mkdir(parents=True)
    (place / "logs" / "a.parquet").write_bytes(b"some bytes")
    entry = entry_of(place, place / "logs" / "a.parquet", {"rows": 3})
    Manifest("aiops-export", {"from_ms": 1}, (entry,)).write(place)
    return place


def test_a_whole_folder_holds(folder: Path) -> None:
    found = read(folder, "aiops-export")
    assert [entry.file for entry in check(folder, found)] == ["logs/a.parquet"]
    assert found.entries[0].about == {"rows": 3}
    assert found.about == {"from_ms": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("flip", "damaged or was changed"),
        ("shorten", "damaged or was changed"),
        ("remove", "is missing"),
        ("add", "does not belong"),
        ("link", "does not belong"),
    ],
)
def test_each_change_is_found(folder: Path, change: str, said: str) -> None:
    file = folder / "logs" / "a.parquet"
    match change:
        case "flip":
            file.write_bytes(b"Some bytes")
        case "shorten":
            file.write_bytes(b"some byte")
        case "remove":
            file.unlink()
        case "add":
            (folder / "more").write_bytes(b"x")
        case "link":
            (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match=said):
        list(check(folder, read(folder)))


def test_an_edited_or_foreign_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    place = folder / NAME
    body = json.loads(place.read_text())
    body["about"]["from_ms"] = 2
    place.write_text(json.dumps(body))
    with pytest.raises(InvalidInput, match="was changed after it was written"):
        read(folder)
    for text, said in (("{}", "not a manifest of aiops"), ("nonsense", "cannot be read"), ("[]", "not a manifest")):
        place.write_text(text)
        with pytest.raises(InvalidInput, match=said):
            read(folder)
    place.unlink()
    with pytest.raises(InvalidInput, match="no export or backup of aiops, or it was not finished"):
        read(folder)


def test_a_newer_version_another_kind_and_paths_that_lead_out_are_refused(folder: Path, tmp_path: Path) -> None:
    entry = read(folder).entries[0]
    with pytest.raises(InvalidInput, match="is an aiops export, not an aiops backup"):
        read(folder, "aiops-backup")
    Manifest("aiops-export", {}, (entry,), version=2).write(folder)
    with pytest.raises(InvalidInput, match="of version 2"):
        read(folder)
    shutil.copy("/etc/hostname", tmp_path / "outside")
    outside = type(entry)("../outside", 1, "0" * 64)
    Manifest("aiops-export", {}, (outside,)).write(folder)
    with pytest.raises(InvalidInput, match="outside its folder"):
        read(folder)
