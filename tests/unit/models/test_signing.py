"""What a signed folder of artifacts may and may not be."""

from __future__ import annotations

import base64
import io
import json
import pickle
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aiops.core.errors import ConfigError, InvalidInput
from aiops.models.signing import KEY_FILE, PUBLIC_FILE, SIGNATURE, Signer
from aiops.settings.models import RegistrySettings

STATE, MANIFEST = "state.safetensors", "manifest.json"


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "keys")


@pytest.fixture
def folder(tmp_path: Path, signer: Signer) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / STATE).write_bytes(bytes([2, 0, 0, 0, 0, 0, 0, 0]) + b"{}")
    (made / MANIFEST).write_text("{}")
    signer.sign(made)
    return made


def test_what_was_signed_is_taken(folder: Path, signer: Signer, tmp_path: Path) -> None:
    signer.verify(folder)
    Signer(tmp_path / "keys").verify(folder)
    assert stat.S_IMODE((tmp_path / "keys" / KEY_FILE).stat().st_mode) == 0o600
    (folder / "registered_model_meta").write_text("model_name: a\n")  # MLflow leaves it behind when it loads
    signer.verify(folder)


def test_others_can_check_it_without_us(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    options = ["--signature", str(folder / SIGNATURE), "--public_key", str(tmp_path / "keys" / PUBLIC_FILE)]
    done = subprocess.run([*command, *options, "--no-ignore-git-paths"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / MANIFEST).write_text("{ }")
    done = subprocess.run([*command, *options, "--no-ignore-git-paths"], capture_output=True, text=True, check=False)
    assert done.returncode != 0


def _forge(folder: Path) -> None:
    """Other digests under the old signature."""
    found = json.loads((folder / SIGNATURE).read_text())
    told = json.loads(base64.b64decode(found["dsseEnvelope"]["payload"]))
    told["predicate"]["resources"][0]["digest"] = "00" * 32
    found["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(told).encode()).decode()
    (folder / SIGNATURE).write_text(json.dumps(found))


def _torch_file() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("archive/data.pkl", b"x")
    return packed.getvalue()


def _hide(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "x.json").write_text("{}")


def _hide_under_the_note(folder: Path) -> None:
    (folder / "registered_model_meta").mkdir()
    (folder / "registered_model_meta" / "x.json").write_text("{}")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda f: (f / MANIFEST).write_text("{ }"), r"changed after they were signed \(manifest.json\)"),
    "added": (lambda f: (f / "x.json").write_text("{}"), r"not signed were added \(x.json\)"),
    "hidden": (_hide, r"not signed were added \(.git/x.json\)"),
    "under the note": (_hide_under_the_note, "'registered_model_meta' is a folder"),
    "missing": (lambda f: (f / MANIFEST).unlink(), r"signed are missing \(manifest.json\)"),
    "forged": (_forge, "signature does not fit"),
    "unsigned": (lambda f: (f / SIGNATURE).unlink(), "not signed"),
    "malformed": (lambda f: (f / SIGNATURE).write_text("[]"), "malformed"),
    "empty signature": (lambda f: (f / SIGNATURE).write_text("{}"), "malformed"),
    "pickle by name": (lambda f: (f / "model.pkl").write_bytes(b""), "'model.pkl' is a pickle"),
    "pickle by content": (lambda f: (f / "x.json").write_bytes(pickle.dumps({})), "'x.json' is a pickle"),
    "torch file": (lambda f: (f / "x.txt").write_bytes(_torch_file()), "'x.txt' is a pickle"),
    "code": (lambda f: (f / "x.py").write_text(""), "of a kind that no model has"),
    "link": (lambda f: (f / "x.json").symlink_to("/etc/hostname"), "link"),
}


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_anything_else_is_refused_with_the_reason(folder: Path, signer: Signer, kind: str) -> None:
    damage, reason = DAMAGE[kind]
    damage(folder)
    with pytest.raises(InvalidInput, match=reason):
        signer.verify(folder)


def test_only_a_missing_signature_may_be_let_pass(folder: Path, tmp_path: Path) -> None:
    lax = Signer(tmp_path / "keys", RegistrySettings(require_signature=False))
    (folder / MANIFEST).write_text("{ }")
    with pytest.raises(InvalidInput, match="changed"):
        lax.verify(folder)
    (folder / SIGNATURE).unlink()
    lax.verify(folder)
    (folder / "x.pkl").write_bytes(b"")
    with pytest.raises(InvalidInput, match="pickle"):
        lax.verify(folder)


def test_a_stranger_is_trusted_by_name_only(folder: Path, signer: Signer, tmp_path: Path) -> None:
    stranger = Signer(tmp_path / "theirs")
    stranger.sign(folder)
    with pytest.raises(InvalidInput, match="not trusted"):
        signer.verify(folder)
    Signer(tmp_path / "keys", RegistrySettings(trusted_keys=(tmp_path / "theirs" / PUBLIC_FILE,))).verify(folder)


def test_a_key_of_ones_own(folder: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    place = tmp_path / "mine.pem"
    locked = serialization.BestAvailableEncryption(b"secret")
    place.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    mine = Signer(tmp_path / "other", RegistrySettings(signing_key_file=place, signing_key_password="secret"))
    mine.sign(folder)
    mine.verify(folder)
    wrong = Signer(tmp_path / "other2", RegistrySettings(signing_key_file=place, signing_key_password="guess"))
    with pytest.raises(ConfigError, match="cannot sign"):
        wrong.sign(folder)


def test_a_pickle_is_not_signed(tmp_path: Path, signer: Signer) -> None:
    made = tmp_path / "bad"
    made.mkdir()
    (made / STATE).write_bytes(b"")
    (made / "model.joblib").write_bytes(b"")
    with pytest.raises(InvalidInput, match="pickle"):
        signer.sign(made)


def test_of_two_who_make_the_key_the_first_holds(tmp_path: Path) -> None:
    folders = []
    for number in range(8):
        made = tmp_path / f"model-{number}"
        made.mkdir()
        (made / STATE).write_bytes(b"")
        folders.append(made)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda made: Signer(tmp_path / "keys").sign(made), folders))
    for made in folders:
        Signer(tmp_path / "keys").verify(made)
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [KEY_FILE, PUBLIC_FILE]
