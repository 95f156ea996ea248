"""Tables, times and JSON on the terminal. Text from the service is printed as it is, never as markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_json(data: Any) -> None:
    json.dump(data, sys.stdout, indent=2, ensure_ascii=False, default=str)
    print()


def rows_of(data: Any, *keys: str) -> list[dict[str, Any]]:
    """The list in a reply: the reply itself, or under one of ``keys``."""
    if isinstance(data, list):
        return data
    for key in keys:
        if isinstance(data, dict) and isinstance(data.get(key), list):
            return list(data[key])
    return []


def when(value: Any, zone: str = "") -> str:
    """ms UTC or ISO text as local (or ``zone``) time with the zone's name; empty for none."""
    if value in (None, "", 0):
        return ""
    place: tzinfo | None = ZoneInfo(zone) if zone else None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return value
    else:
        moment = datetime.fromtimestamp(float(value) / 1000.0, UTC)
    return moment.astimezone(place).strftime("%Y-%m-%d %H:%M:%S %Z")


def number(value: Any, unit: str = "") -> str:
    """A figure with its unit in a form people read; ``-`` for none."""
    if value is None:
        return "-"
    try:
        value = float(value)
    except (TypeError, ValueError):
        return str(value)
    from aiops.agent.units import humanise

    return humanise(value, unit)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> Any:
    """A rich table of plain text cells."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        found.add_column(Text(column), overflow="fold", no_wrap=column == "id")
    for row in rows:
        found.add_row(*(Text(_safe(cell)) for cell in row))
    return found


def pairs(values: Mapping[str, Any]) -> Any:
    """Names and values below each other."""
    return table(("", ""), ((k, str(v)) for k, v in values.items()))


def _safe(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)
