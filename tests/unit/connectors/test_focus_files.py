from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import numpy as np
import pytest

from aiops.core.cost import STORED_COLUMNS, CostTable
from aiops.core.errors import ConfigError, InvalidInput
from aiops.core.plugins import build
from aiops.core.ports import PluginContext
from aiops.store.telemetry.parquet import read_parquet
from connectors.clouds.focus_files import FocusFiles, FocusFilesOptions

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "focus"
HEAD = "BillingAccountId,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,BillingCurrency"
OLD = f"{HEAD},ProviderName,PublisherName,Id,Tags\n" + (
    "1,2026-06-01 00:00:00,2026-06-02 03:00:00,2026-06-02 04:00:00,0.00000080000,USD,AWS,Amazon,77,NULL\n"
)
NEW = f"{HEAD},ProviderName,ServiceProviderName,Tags,x_team\n" + (
    '1,2026-06-01T00:00:00Z,2026-06-02T03:00:00Z,2026-06-02T06:00:00+02:00,1.5,USD,,GCP,"{""a"":""b, c""}",red\n'
)
JUNE = 1_780_272_000_000


def read(*paths: Path | str) -> list[CostTable]:
    options = FocusFilesOptions(paths=tuple(map(str, paths)))
    return list(FocusFiles(options, PluginContext("bills", read_parquet=read_parquet)).tables())


def test_both_forms_come_out_alike(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(OLD)
    (tmp_path / "new.csv").write_text("\ufeff" + NEW)
    (table,) = read(tmp_path / "*.csv")
    assert (table.source, len(table)) == ("bills", 2)
    columns = {name: column.tolist() for name, column in table.columns.items()}
    hour = 3_600_000
    assert columns["BillingPeriodStart"] == [JUNE, JUNE]
    assert columns["ChargePeriodStart"] == [JUNE + 27 * hour] * 2
    assert columns["ChargePeriodEnd"] == [JUNE + 28 * hour] * 2
    assert columns["EffectiveCost"] == [1.5, 8e-7]
    assert columns["ServiceProviderName"] == ["GCP", "AWS"]
    assert columns["Tags"] == ['{"a":"b, c"}', ""]
    assert columns["x_team"] == ["red", ""]
    assert set(columns) <= {*STORED_COLUMNS, "x_team"}


def test_gzip_and_parquet_hold_the_same(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bill.csv.gz", "wt") as file:
        file.write(NEW)
    (tmp_path / "bill.csv").write_text(NEW)
    duckdb.execute(
        f"COPY (SELECT * REPLACE (MAP {{'a': 'b, c'}} AS Tags, EffectiveCost::DECIMAL(30, 12) AS EffectiveCost, "
        f"CAST(BillingPeriodStart AS TIMESTAMP) AS BillingPeriodStart) "
        f"FROM read_csv('{tmp_path / 'bill.csv'}', types={{'BillingAccountId': 'VARCHAR'}})) "
        f"TO '{tmp_path / 'bill.parquet'}' (FORMAT parquet)"
    )
    (plain,), (zipped,), (parquet,) = (read(tmp_path / f"bill{end}") for end in (".csv", ".csv.gz", ".parquet"))
    for name, column in plain.columns.items():
        assert column.tolist() == zipped.columns[name].tolist()
        if name != "BillingPeriodStart":
            assert column.tolist() == parquet.columns[name].tolist(), name
    assert parquet.columns["BillingPeriodStart"].dtype == np.int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NEW.replace("EffectiveCost", "Cost"), "lacks the column EffectiveCost"),
        (NEW.replace("BillingCurrency", "x_c"), "lacks the column BillingCurrency"),
        (NEW.replace("1.5", "one"), "row 1, column EffectiveCost: 'one' is not a number"),
        (NEW.replace("1.5", ""), "column EffectiveCost"),
        (NEW.replace("2026-06-01T", "June"), "column BillingPeriodStart: 'June00:00:00Z' is not a time"),
        (NEW + "1,2\n", "Line 3 of .* has 2 fields"),
        (NEW.replace("x_team", "Tags"), "Tags twice"),
        ("", "is empty"),
        ("\x00\x01\x02\n", "lacks the column"),
        (NEW + '"', "not CSV"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_nothing_given(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(NEW)
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read(tmp_path / "*.csv")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(NEW.encode() + b"\xff\xff")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(NEW.encode())[:-20])
    (tmp_path / "c.parquet").write_text("no parquet")
    for name in ("a.csv", "b.csv.gz", "c.parquet"):
        with pytest.raises(InvalidInput, match=name):
            read(tmp_path / name)
    with pytest.raises(ConfigError, match="Parquet"):
        list(FocusFiles(FocusFilesOptions(paths=(str(tmp_path / "c.parquet"),)), PluginContext("x")).tables())
    assert read(tmp_path / "none" / "**" / "*.csv") == []
    with pytest.raises(ConfigError, match="did you mean 'paths'"):
        build("connectors.clouds", "focus_files", {"path": ["x"]}, PluginContext("x"))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the FOCUS samples are not here")
def test_published_samples_are_read() -> None:
    for name, rows in (("focus_1.0_sample_1000", 1000), ("focus_1_3_cost_and_usage_gcp", 2000)):
        (table,) = read(SAMPLES / f"{name}.csv")
        assert len(table) == rows
        assert np.isfinite(table.columns["EffectiveCost"]).all()
        assert (table.columns["ChargePeriodEnd"] > table.columns["ChargePeriodStart"]).all()
        assert set(table.columns["BillingCurrency"].tolist()) == {"USD"}
        assert "" not in table.columns["ServiceProviderName"].tolist()
    with pytest.raises(InvalidInput, match="lacks the column"):
        read(SAMPLES / "focus_1_3_contract_commitment_aws.csv")
