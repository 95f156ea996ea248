"""Bills in FOCUS columns from CSV or Parquet files (https://focus.finops.org), versions 1.0 to 1.4."""

from __future__ import annotations

import csv
import glob
import gzip
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiops.core.cost import REQUIRED_COLUMNS, STORED_COLUMNS, CostTable
from aiops.core.errors import ConfigError, InvalidInput
from aiops.core.ports import CostSource, PluginContext, PluginOptions
from aiops.core.untrusted import Untrusted

Column = list[str] | NDArray[Any]
FIELD_BYTES = 4 << 20
SELLERS = ("ServiceProviderName", "ProviderName", "PublisherName")
"""Who sells, newest name first: 1.4 has only the first, 1.0 only the others."""
TIMES = frozenset(name for name in STORED_COLUMNS if name.endswith(("PeriodStart", "PeriodEnd")))
NUMBERS = frozenset(name for name in STORED_COLUMNS if name.endswith(("Cost", "Quantity")))


class FocusFilesOptions(PluginOptions):
    """``paths`` are files or glob patterns, of ``.csv``, ``.csv.gz`` or ``.parquet``; ``**`` descends."""

    paths: tuple[str, ...] = Field(min_length=1)


class FocusFiles(CostSource[FocusFilesOptions]):
    """Reads all files that match into one table, so that a billing period split over files stays whole.

    Takes both forms in use: 1.0 with the text ``NULL``, times without a zone (UTC) and the seller as
    ``ProviderName``; 1.3 with RFC 3339 times. Unknown columns are left out, but for ``x_…``.
    Either every file is good or nothing is given. Parquet is read by the telemetry store's reader.
    """

    Options = FocusFilesOptions

    def __init__(self, options: FocusFilesOptions, context: PluginContext) -> None:
        super().__init__(options, context)

    def tables(self) -> Iterator[CostTable]:
        """One table of all files; none where no file matches.

        Raises:
            InvalidInput: a file lacks a required column or has a value of the wrong type; it names both.
        """
        parts = [self._read(path) for path in self._files()]
        if parts:
            yield CostTable(self.context.name, _stacked(parts))

    def _files(self) -> list[Path]:
        found = {Path(name) for pattern in self.options.paths for name in glob.glob(pattern, recursive=True)}
        return sorted(path for path in found if path.is_file())

    def _read(self, path: Path) -> dict[str, NDArray[Any]]:
        raw: Mapping[str, Column]
        if path.suffix == ".parquet":
            if self.context.read_parquet is None:
                raise ConfigError(f"{path} is Parquet, which can be read only inside the service.")
            raw = self.context.read_parquet(path)
        else:
            raw = _read_csv(path)
        return _typed(path, _renamed(raw))


def _read_csv(path: Path) -> dict[str, Column]:
    csv.field_size_limit(FIELD_BYTES)
    try:
        with _opened(path) as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if not header:
                raise InvalidInput(f"{path} is empty.")
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise InvalidInput(f"{path} has the column {Untrusted(twice[0])} twice.")
            rows = []
            for row in reader:
                if len(row) != len(header):
                    if not row:
                        continue
                    raise InvalidInput(
                        f"Line {reader.line_num} of {path} has {len(row)} fields where the header has {len(header)}."
                    )
                rows.append(row)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}.") from error
    except (csv.Error, UnicodeDecodeError, EOFError) as error:
        raise InvalidInput(f"{path} is not CSV in UTF-8: {error}.") from error
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    return {name.strip(): list(column) for name, column in zip(header, columns, strict=True)}


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return cast(IO[str], gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def _renamed(raw: Mapping[str, Column]) -> dict[str, Column]:
    """Columns that are kept; the seller under its newest name."""
    kept = {name: column for name, column in raw.items() if name in STORED_COLUMNS or name.startswith("x_")}
    for name in SELLERS:
        if name in raw:
            kept["ServiceProviderName"] = raw[name]
            break
    return kept


def _typed(path: Path, columns: Mapping[str, Column]) -> dict[str, NDArray[Any]]:
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise InvalidInput(
            f"{path} lacks the column {', '.join(missing)}.", hint="It is not a FOCUS cost and usage table."
        )
    typed: dict[str, NDArray[Any]] = {}
    for name, column in columns.items():
        if name in TIMES:
            typed[name] = _times(path, name, column)
        elif name in NUMBERS:
            typed[name] = _numbers(path, name, column)
        else:
            typed[name] = _texts(column)
    return typed


def _times(path: Path, name: str, column: Column) -> NDArray[np.int64]:
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        times = column.astype(np.int64)
    else:
        times = np.empty(len(column), np.int64)
        for i, text in enumerate(column):
            try:
                times[i] = _ms(str(text))
            except ValueError as error:
                raise _wrong(path, name, i, text, "a time") from error
    bad = np.flatnonzero(times < 0)
    if len(bad) and name in REQUIRED_COLUMNS:
        raise _wrong(path, name, int(bad[0]), column[int(bad[0])], "a time")
    return times


@lru_cache(maxsize=100_000)
def _ms(text: str) -> int:
    if text in ("", "NULL"):
        return -1
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return round(parsed.timestamp() * 1000)


def _numbers(path: Path, name: str, column: Column) -> NDArray[np.float64]:
    if isinstance(column, np.ndarray) and column.dtype.kind in "iuf":
        numbers = column.astype(np.float64)
    else:
        plain = ["nan" if text in ("", "NULL") else text for text in column]
        try:
            numbers = np.array(plain, np.float64)
        except ValueError as error:
            at = next(i for i, text in enumerate(plain) if not _is_number(text))
            raise _wrong(path, name, at, column[at], "a number") from error
    required = name in REQUIRED_COLUMNS
    bad = np.flatnonzero(~np.isfinite(numbers) if required else np.isinf(numbers))
    if len(bad):
        raise _wrong(path, name, int(bad[0]), column[int(bad[0])], "a number")
    return numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _texts(column: Column) -> NDArray[Any]:
    texts = np.empty(len(column), object)
    texts[:] = ["" if text == "NULL" else str(text) for text in column]
    return texts


def _wrong(path: Path, name: str, row: int, value: object, wanted: str) -> InvalidInput:
    shown = Untrusted(str(value)).display(60)
    return InvalidInput(f"{path}, row {row + 1}, column {name}: '{shown}' is not {wanted}.")


def _stacked(parts: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Rows of all files; a column that a file lacks is empty there."""
    names = list(dict.fromkeys(name for part in parts for name in part))
    return {
        name: np.concatenate([part[name] if name in part else _blank(name, part) for part in parts]) for name in names
    }


def _blank(name: str, part: dict[str, NDArray[Any]]) -> NDArray[Any]:
    n = len(next(iter(part.values())))
    if name in TIMES:
        return np.full(n, -1, np.int64)
    return np.full(n, np.nan) if name in NUMBERS else np.full(n, "", object)
