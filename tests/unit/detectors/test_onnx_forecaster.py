"""A user's own ONNX forecaster is used only if it is the file that was named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from aiops.core.errors import ConfigError
from aiops.core.plugins import build
from aiops.core.ports import PluginContext

pytest.importorskip("onnxruntime")


def refuse(path: Path, sha256: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build("detectors", "onnx_forecaster", {"path": str(path), "sha256": sha256}, PluginContext("test"))


def test_another_file_than_the_named_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"something else")
    refuse(path, "0" * 64, "SHA-256")


def test_a_file_that_is_no_model_or_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    refuse(path, hashlib.sha256(b"not a model").hexdigest(), "cannot be loaded")
    refuse(tmp_path / "none.onnx", "0" * 64, "cannot be read")


def test_a_hash_must_look_like_one(tmp_path: Path) -> None:
    refuse(tmp_path / "none.onnx", "abc", "sha256")
