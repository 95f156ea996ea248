"""Costs in FOCUS columns: import by whole billing period, sums per day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from aiops.core.cost import REQUIRED_COLUMNS, STORED_COLUMNS, CostQuery, CostSeries, CostTable
from aiops.core.errors import InvalidInput
from aiops.core.principal import Principal
from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.labels import compile_regex
from aiops.store.telemetry.schema import DAY_MS, cost_type

ROWS = 20_000
_KEY = re.compile(r"[^\"\\]{1,256}")


class Costs:
    """The cost table of one database.

    Args:
        database: where it lives.
        scope_columns: label of a principal's scope to the FOCUS column that it restricts; a scope label
            that is not named here hides all costs.
    """

    def __init__(self, database: TelemetryDatabase, scope_columns: Mapping[str, str]) -> None:
        self._database = database
        self._scope_columns = dict(scope_columns)

    def replace(self, tx: Transaction, tables: list[CostTable]) -> list[int]:
        """Each table replaces its source's billing periods. Returns rows per table."""
        for table in tables:
            if not len(table):
                continue
            periods = np.unique(table.columns["BillingPeriodStart"].astype(np.int64)).tolist()
            tx.con.execute(
                'DELETE FROM costs WHERE x_source = ? AND "BillingPeriodStart" IN (SELECT unnest(?::BIGINT[]))',
                [table.source, periods],
            )
            columns = _typed(table)
            tx.con.register("rows", columns)
            names = ", ".join(f'"{name}"' for name in columns)
            picked = ", ".join(_picked(name) for name in columns)
            tx.con.execute(f"INSERT INTO costs ({names}) SELECT {picked} FROM rows")  # noqa: S608
            tx.con.unregister("rows")
        return [len(table) for table in tables]

    def daily(self, query: CostQuery, principal: Principal) -> CostSeries:
        """Sums of EffectiveCost per UTC day on which the charge period starts, in one currency.

        Raises:
            InvalidInput: an unknown column, or rows of several currencies, which are never added up.
        """
        where, values = self._where(query.where, principal)
        where += ' AND "ChargePeriodStart" >= ? AND "ChargePeriodStart" < ?'
        values += [query.start_ms, query.end_ms]
        groups = [column_sql(name) for name in query.group_by]
        first = query.start_ms // DAY_MS
        days = np.arange(first, max(-(-query.end_ms // DAY_MS), first), dtype=np.int64)
        with self._database.read() as con:
            currencies = con.execute(
                f'SELECT "BillingCurrency", count(*), max("ChargePeriodEnd") FILTER ("ChargePeriodEnd" - '  # noqa: S608
                f'"ChargePeriodStart" <= {DAY_MS}), max("ChargePeriodStart") FROM costs WHERE {where} GROUP BY 1 '
                "ORDER BY 2 DESC, 1",
                values,
            ).fetchall()
            if len(currencies) > 1:
                raise InvalidInput(
                    f"Costs of this window are in {', '.join(str(c[0]) for c in currencies)}, which are not added up.",
                    hint="Restrict BillingCurrency to one of them.",
                )
            picked = "".join(f"{g}, " for g in groups)
            rows = con.execute(
                f'SELECT {picked}"ChargePeriodStart" // {DAY_MS} AS day, sum("EffectiveCost") FROM costs '  # noqa: S608
                f"WHERE {where} GROUP BY ALL",
                values,
            ).fetchall()
        place: dict[tuple[str, ...], int] = {}
        for row in rows:
            place.setdefault(tuple(str(v or "") for v in row[:-2]), len(place))
        amounts = np.zeros((len(place), len(days)), np.float64)
        for row in rows:
            amounts[place[tuple(str(v or "") for v in row[:-2])], int(row[-2]) - first] += float(row[-1] or 0.0)
        order = sorted(place, key=lambda g: (-float(amounts[place[g]].sum()), g))
        newest = max((int(c[2] or c[3] or 0) for c in currencies), default=0)
        return CostSeries(
            days * DAY_MS,
            tuple(order),
            amounts[[place[g] for g in order]] if order else amounts,
            str(currencies[0][0]) if currencies else "",
            newest,
            query.group_by,
        )

    def values(self, column: str, principal: Principal) -> list[str]:
        """Distinct non-empty values of a column, most costly first."""
        where, values = self._where((), principal)
        name = column_sql(column)
        with self._database.read() as con:
            rows = con.execute(
                f"SELECT {name} AS v FROM costs WHERE {where} AND v IS NOT NULL AND v::VARCHAR <> '' "  # noqa: S608
                'GROUP BY 1 ORDER BY sum("EffectiveCost") DESC, 1',
                values,
            ).fetchall()
        return [str(row[0]) for row in rows]

    def periods(self, start_ms: int, end_ms: int, principal: Principal) -> list[tuple[int, int]]:
        """Start and end (ms) of the billing periods that overlap the window, in order of time."""
        where, values = self._where((), principal)
        with self._database.read() as con:
            rows = con.execute(
                'SELECT "BillingPeriodStart" AS a, max("BillingPeriodEnd") AS b FROM costs '  # noqa: S608
                f"WHERE {where} GROUP BY a HAVING a < ? AND (b > ? OR a >= ?) ORDER BY a",
                [*values, end_ms, start_ms, start_ms],
            ).fetchall()
        return [(int(a), max(int(b or 0), int(a) + 1)) for a, b in rows if a is not None]

    def rows(self, start_ms: int, end_ms: int, principal: Principal) -> Iterator[list[tuple[Any, ...]]]:
        """Rows whose billing period starts in ``[start_ms, end_ms)``, in the table's order of columns."""
        where, values = self._where((), principal)
        with self._database.read() as con:
            con.execute(
                f'SELECT * FROM costs WHERE {where} AND "BillingPeriodStart" >= ? AND "BillingPeriodStart" < ?',  # noqa: S608
                [*values, start_ms, end_ms],
            )
            while found := con.fetchmany(ROWS):
                yield found

    def replace_rows(self, tx: Transaction, rows: list[tuple[Any, ...]]) -> int:
        """Put rows as :meth:`rows` gives them in the place of their sources' billing periods."""
        at = 1 + STORED_COLUMNS.index("BillingPeriodStart")
        for source, period in {(row[0], row[at]) for row in rows}:
            tx.con.execute('DELETE FROM costs WHERE x_source = ? AND "BillingPeriodStart" = ?', [source, period])
        marks = ", ".join("?" * (2 + len(STORED_COLUMNS)))
        tx.con.executemany(f"INSERT INTO costs VALUES ({marks})", rows)  # noqa: S608
        return len(rows)

    def count(self) -> int:
        with self._database.read() as con:
            row = con.execute("SELECT count(*) FROM costs").fetchone()
        return int(row[0]) if row else 0

    def _where(self, pairs: tuple[tuple[str, str], ...], principal: Principal) -> tuple[str, list[Any]]:
        conditions, values = ["TRUE"], []
        for name, value in pairs:
            conditions.append(f"coalesce({column_sql(name)}::VARCHAR, '') = ?")
            values.append(value)
        for matcher in principal.scope or ():
            column = self._scope_columns.get(matcher.name)
            if column is None:
                return "FALSE", []
            sql = f"coalesce({column_sql(column)}::VARCHAR, '')"
            test = f"{sql} = ?"
            if matcher.op.value in ("=~", "!~"):
                compile_regex(matcher.value)
                test = f"regexp_full_match({sql}, ?, 's')"
            negate = "NOT " if matcher.op.value.startswith("!") else ""
            conditions.append(f"{sql} <> '' AND {negate}{test}")
            values.append(matcher.value)
        return " AND ".join(conditions), values


def column_sql(name: str) -> str:
    """A FOCUS column, one of our ``x_`` columns, or ``Tags.<key>``, as SQL. Raises ``InvalidInput``."""
    if name in STORED_COLUMNS:
        return f'"{name}"'
    source, _, key = name.partition(".")
    if source == "Tags" and _KEY.fullmatch(key):
        return f'CASE WHEN json_valid("Tags") THEN json_extract_string("Tags", \'{_path(key)}\') END'
    if name.startswith("x_") and _KEY.fullmatch(name):
        return f"json_extract_string(nullif(x_extra, ''), '{_path(name)}')"
    raise InvalidInput(f"'{name}' is not a cost column.", hint=f"Columns: {', '.join(STORED_COLUMNS)}, Tags.<key>.")


def check_table(table: CostTable) -> None:
    """Refuse a table that cannot be stored whole. Raises ``InvalidInput`` naming the column."""
    missing = [name for name in REQUIRED_COLUMNS if name not in table.columns]
    if missing and table.columns:
        raise InvalidInput(f"The cost table '{table.source}' lacks the column {', '.join(missing)}.")
    for name, column in table.columns.items():
        if name not in STORED_COLUMNS and not name.startswith("x_"):
            raise InvalidInput(f"The cost table '{table.source}' has the unknown column '{name}'.")
        if len(column) != len(table):
            raise InvalidInput(f"The column {name} of '{table.source}' has {len(column)} rows, not {len(table)}.")
        if name in REQUIRED_COLUMNS and cost_type(name) == "DOUBLE" and not np.all(np.isfinite(column.astype(float))):
            raise InvalidInput(f"The column {name} of '{table.source}' has empty or infinite values.")


def _typed(table: CostTable) -> dict[str, NDArray[Any]]:
    n = len(table)
    columns: dict[str, NDArray[Any]] = {"x_source": _text(np.array([table.source] * n, object))}
    for name in STORED_COLUMNS:
        if name not in table.columns:
            continue
        kind = cost_type(name)
        raw = table.columns[name]
        if kind == "BIGINT":
            columns[name] = raw.astype(np.int64)
        elif kind == "DOUBLE":
            columns[name] = raw.astype(np.float64)
        else:
            columns[name] = _text(raw)
    extra = [name for name in table.columns if name not in STORED_COLUMNS]
    if extra:
        rows = zip(*(table.columns[name].tolist() for name in extra), strict=True)
        columns["x_extra"] = _text(
            np.array([orjson.dumps(dict(zip(extra, row, strict=True)), default=str).decode() for row in rows], object)
        )
    return columns


def _picked(name: str) -> str:
    """NumPy integers have no missing value: a time before 1970 stands for one."""
    return f'CASE WHEN "{name}" >= 0 THEN "{name}" END' if cost_type(name) == "BIGINT" else f'"{name}"'


def _text(raw: NDArray[Any]) -> NDArray[Any]:
    out = np.empty(len(raw), object)
    out[:] = ["" if v is None else str(v) for v in raw.tolist()]
    return out


def _path(key: str) -> str:
    return '$."' + key.replace("'", "''") + '"'
