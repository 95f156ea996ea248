"""Every cost source, found by discovery: its tables are FOCUS, whole, and replace what they bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiops.core.cost import REQUIRED_COLUMNS, STORED_COLUMNS, CostQuery
from aiops.core.errors import ConfigError
from aiops.core.plugins import build, discover
from aiops.core.ports import CostSource, PluginContext
from aiops.core.principal import LOCAL
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.parquet import read_parquet
from aiops.store.telemetry.store import TelemetryStore

JUNE, JULY = 1_780_272_000_000, 1_782_864_000_000
BILL = (
    "BillingAccountId,BillingPeriodStart,BillingPeriodEnd,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,"
    "BillingCurrency,ServiceName\n"
    "1,2026-06-01T00:00:00Z,2026-07-01T00:00:00Z,2026-06-02T00:00:00Z,2026-06-02T01:00:00Z,1.25,USD,Queue\n"
    "1,2026-06-01T00:00:00Z,2026-07-01T00:00:00Z,2026-06-03T00:00:00Z,2026-06-03T01:00:00Z,2.5,USD,Queue\n"
)


def focus_files(folder: Path) -> dict[str, Any]:
    (folder / "bill.csv").write_text(BILL)
    return {"paths": [str(folder / "*.csv")]}


PROVIDERS: dict[str, Callable[[Path], dict[str, Any]]] = {"focus_files": focus_files}
NAMES = sorted(discover("connectors.clouds"))


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_focus_and_an_import_repeated_changes_nothing(name: str, tmp_path: Path) -> None:
    options = PROVIDERS[name](tmp_path) if name in PROVIDERS else {}
    plugin = build("connectors.clouds", name, options, PluginContext("mine", read_parquet=read_parquet))
    assert isinstance(plugin, CostSource)
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings()))
    for _ in range(2):
        for table in plugin.tables():
            assert set(REQUIRED_COLUMNS) <= table.columns.keys()
            assert all(c in STORED_COLUMNS or c.startswith("x_") for c in table.columns)
            assert {len(column) for column in table.columns.values()} == {len(table)}
            assert np.isfinite(table.columns["EffectiveCost"].astype(float)).all()
            assert table.columns["ChargePeriodStart"].dtype == np.int64
            assert store.import_costs(table) == len(table)
    series = store.daily(CostQuery(JUNE, JULY), LOCAL)
    assert (series.currency, float(series.amounts.sum())) == ("USD", 3.75)
    store.close()
    plugin.close()


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown key 'no_such_key'"):
        build("connectors.clouds", name, {"no_such_key": 1}, PluginContext("mine"))
