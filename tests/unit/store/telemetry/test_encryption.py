"""The key, the journal's cipher and what a wrong key says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from aiops.core.errors import ConfigError, Conflict
from aiops.core.principal import LOCAL
from aiops.settings import StoreSettings
from aiops.store.telemetry.convert import encrypt, is_encrypted
from aiops.store.telemetry.encryption import key_of
from aiops.store.telemetry.journal import Journal
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.store.telemetry.conftest import NOW, Hands
from tests.unit.store.telemetry.test_retention import put

pytest.importorskip("duckdb_extension_httpfs", reason="the extra encryption is not installed")

KEY = SecretStr("a 'quoted' \"key\"")
WITH_KEY = StoreSettings(encryption_key=KEY)


def readable(folder: Path, word: bytes) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.is_file() and word in p.read_bytes()]


def test_an_encrypted_store_keeps_its_rows_and_shows_none(
    opened: Callable[..., TelemetryStore], clock: Hands, tmp_path: Path
) -> None:
    store = opened(encryption_key=KEY)
    put(store, NOW, series=20, samples=50, text="the zebrafish swims")
    assert readable(tmp_path, b"zebrafish") == []
    store = opened(encryption_key=KEY)
    assert store.scan((), 0, 1 << 60, LOCAL).sample_count == 1000
    assert readable(tmp_path, b"zebrafish") == []
    store.close()
    assert is_encrypted(tmp_path / "telemetry.duckdb")
    with pytest.raises(ConfigError, match=r"is encrypted.*store\.encryption_key"):
        opened()
    with pytest.raises(ConfigError, match="the key is wrong"):
        opened(encryption_key=SecretStr("other"))


def test_a_plain_store_is_converted_once(opened: Callable[..., TelemetryStore], clock: Hands, tmp_path: Path) -> None:
    store = opened()
    put(store, NOW, series=20, samples=50, text="the zebrafish swims")
    store.close()
    path = tmp_path / "telemetry.duckdb"
    with pytest.raises(ConfigError, match="aiops store encrypt"):
        opened(encryption_key=KEY)
    with pytest.raises(ConfigError, match="No key is set"):
        encrypt(path, StoreSettings(), clock)
    rows = encrypt(path, WITH_KEY, clock)
    assert rows["changes"] == 1
    assert readable(tmp_path, b"zebrafish") == []
    with pytest.raises(Conflict, match="encrypted already"):
        encrypt(path, WITH_KEY, clock)
    assert opened(encryption_key=KEY).scan((), 0, 1 << 60, LOCAL).sample_count == 1000


def journal(folder: Path, key: str = "k") -> Journal:
    found = key_of(StoreSettings(encryption_key=SecretStr(key)))
    return Journal(folder, found.cipher() if found is not None else None)


def test_the_journal_is_sealed_and_a_flipped_bit_is_found(tmp_path: Path) -> None:
    columns = np.array([0], np.int32), np.array([NOW]), np.array([1.5])
    one = journal(tmp_path)
    one.append([(0, (("__name__", "zebrafish"),))], *columns)
    one.append([], *columns)
    one.close()
    assert readable(tmp_path, b"zebrafish") == []
    frames = list(journal(tmp_path).replay(0))
    assert frames[0].series == [(0, (("__name__", "zebrafish"),))]
    assert [f.values.tolist() for f in frames] == [[1.5], [1.5]]
    with pytest.raises(ConfigError, match="the key is wrong"):
        list(journal(tmp_path, "other").replay(0))
    with pytest.raises(ConfigError, match="is encrypted"):
        list(journal(tmp_path, "").replay(0))


def test_keys_come_from_one_place_and_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret-key\n")
    found = key_of(StoreSettings(encryption_key_file=file))
    assert found is not None
    assert found.secret == b"secret-key"
    assert "secret-key" not in repr(found) + str(found) + repr(StoreSettings(encryption_key=SecretStr("secret-key")))
    assert key_of(StoreSettings()) is None
    with pytest.raises(ConfigError, match="Both"):
        key_of(StoreSettings(encryption_key=KEY, encryption_key_file=file))
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        key_of(StoreSettings(encryption_key_file=file))
