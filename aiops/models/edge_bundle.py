"""A version as a folder for machines that have onnxruntime and numpy: the edge bundle.

It holds ``model.onnx`` (the detector's scores of a stretch with what it learnt), ``series.json`` (the series and their
thresholds), ``manifest.json`` (where it comes from, and the sum of every file), ``score.py`` (the scorer, one file)
and ``model.sig``. It scores stretches, as batch scoring does; the state that moves on with every step stays with the
service.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from aiops.core.errors import Conflict, InvalidInput, PermanentError
from aiops.models import edge_scorer
from aiops.models.code_version import code_version
from aiops.models.loaded import Loaded
from aiops.models.signing import SIGNATURE, Signer

MODEL, SERIES, MANIFEST, SCORER = "model.onnx", "series.json", "manifest.json", "score.py"
SIGNED = (MODEL, SERIES, SCORER)
FILES = (*SIGNED, MANIFEST, SIGNATURE)
MAX_BYTES = 2_000_000_000


def write(folder: Path, loaded: Loaded, signer: Signer, *, by: str, time_ms: int) -> dict[str, Any]:
    """Export a version into an empty or new folder, signed; returns the manifest.

    Raises:
        Conflict: the folder is not empty.
        PermanentError: the detector has no ONNX form, or the folder cannot be written.
        ConfigError: the extra ``onnx`` is not installed, or there is no key to sign with.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Conflict(f"The folder {folder} is not empty.", hint="Name a new one.")
        (folder / MODEL).write_bytes(loaded.detector.to_onnx(loaded.state))
        (folder / SERIES).write_text(
            json.dumps({"series": list(loaded.state.series_ids), "thresholds": _limits(loaded)})
        )
        shutil.copyfile(edge_scorer.__file__, folder / SCORER)
        version = loaded.version
        manifest = {
            "name": version.name,
            "version": version.version,
            "family": version.family,
            "options": dict(version.parameters).get("options", "{}"),
            "step_ms": loaded.state.step_ms,
            "series": len(loaded.state.series_ids),
            "run_id": version.run_id,
            "dataset": version.dataset,
            "code": code_version(),
            "exported_by": by,
            "exported_ms": time_ms,
            "scores": "stretches of values; not step by step",
            "inputs": {
                "values": "float32 [S, T]",
                "mask": "bool [S, T]",
                "timestamps": "int64 [T]",
                "rows": "int64 [S]",
            },
            "outputs": dict.fromkeys(edge_scorer.OUTPUTS, "float32 [S, T]"),
            "files": {name: _sum(folder / name) for name in SIGNED},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
        signer.sign(folder, programs=(SCORER,))
    except OSError as error:
        raise PermanentError(f"The bundle cannot be written to {folder}: {error.strerror}.") from error
    return manifest


def verify(folder: Path, signer: Signer) -> dict[str, Any]:
    """Check a bundle's signature and files; returns its manifest. Raises ``InvalidInput`` with the reason."""
    if not (folder / SIGNATURE).is_file():
        raise InvalidInput(f"The bundle in {folder.name} is not signed, or is none.")
    signer.verify(folder, programs=(SCORER,))
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        if sorted(manifest["files"]) != sorted(SIGNED):
            raise InvalidInput(f"The manifest in {folder.name} names other files than a bundle has.")
        edge_scorer.check(folder, manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"The bundle in {folder.name} is refused: {error}.") from error
    return manifest


def packed(loaded: Loaded, signer: Signer, *, by: str, time_ms: int) -> bytes:
    """A bundle as a zip file, to be sent. Raises as :func:`write` does."""
    with tempfile.TemporaryDirectory(prefix="aiops-edge-") as place:
        folder = Path(place) / "bundle"
        write(folder, loaded, signer, by=by, time_ms=time_ms)
        out = BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
            for name in FILES:
                file.write(folder / name, name)
        return out.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Write a received bundle's files into an empty or new folder; nothing else is taken from the zip.

    Raises:
        Conflict: the folder is not empty.
        InvalidInput: it is no bundle.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as file:
            sizes = {info.filename: info.file_size for info in file.infolist()}
            if sorted(sizes) != sorted(FILES) or sum(sizes.values()) > MAX_BYTES:
                raise InvalidInput("What was received is no bundle.")
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise Conflict(f"The folder {folder} is not empty.", hint="Name a new one.")
            for name in FILES:
                (folder / name).write_bytes(file.read(name))
    except zipfile.BadZipFile as error:
        raise InvalidInput("What was received is no bundle.") from error
    except OSError as error:
        raise PermanentError(f"The bundle cannot be written to {folder}: {error.strerror}.") from error


def _limits(loaded: Loaded) -> list[float | None]:
    if loaded.thresholds is None:
        return [None] * len(loaded.state.series_ids)
    return [float(limit) if np.isfinite(limit) else None for limit in loaded.thresholds]


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
