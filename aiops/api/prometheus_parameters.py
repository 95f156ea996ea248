"""Parameters of the Prometheus-compatible routes, and the success JSON they answer with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import Response

from aiops.core.errors import InvalidInput, QueryError
from aiops.core.series import Matcher
from aiops.promql.lexer import duration_ms
from aiops.promql.parse import parse_selector

FUTURE_MS = 3_600_000
MAX_SECONDS = 9_000_000_000_000.0
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")
_UTF8_NAME = re.compile(r"__|_([0-9a-f]{1,6})_")


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes into Prometheus' success JSON."""

    data: Any
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()

    def response(self) -> Response:
        body: dict[str, Any] = {"status": "success", "data": self.data}
        if self.warnings:
            body["warnings"] = list(self.warnings)
        if self.infos:
            body["infos"] = list(self.infos)
        # ASCII JSON carries lone surrogates, which UTF-8 cannot.
        return Response(json.dumps(body, separators=(",", ":")).encode("ascii"), media_type="application/json")


class Parameters:
    """Parameters of the URL and of a form body, which come first."""

    def __init__(self, pairs: list[tuple[str, str]], now_ms: int) -> None:
        self.pairs = pairs
        self.now_ms = now_ms

    def text(self, name: str) -> str:
        return next((value for key, value in self.pairs if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name]

    def time(self, name: str, default: int | None = None) -> int:
        """A time in ms. Raises ``InvalidInput``."""
        text = self.text(name)
        if not text and default is not None:
            return default
        return self._parse(name, text, "timestamp", parse_time)

    def duration(self, name: str) -> int:
        return self._parse(name, self.text(name), "duration", parse_duration)

    def span(self, name: str) -> int:
        """A duration in ms that may be missing: 0. Raises ``InvalidInput`` for what is less than nothing."""
        if not self.text(name):
            return 0
        found = self.duration(name)
        if found < 0:
            raise InvalidInput(f'invalid parameter "{name}": must not be negative')
        return found

    def limit(self, name: str = "limit") -> int:
        text = self.text(name)
        if not text:
            return 0
        if not text.isascii() or not text.isdigit():
            raise InvalidInput(f'invalid parameter "{name}": limit must be non-negative')
        return int(text)

    def selectors(self) -> list[tuple[Matcher, ...]]:
        out = []
        for text in self.all("match[]"):
            try:
                out.append(parse_selector(text))
            except QueryError as error:
                raise InvalidInput(f'invalid parameter "match[]": {error.message}', hint=error.hint) from error
        return out

    def window(self) -> tuple[int, int]:
        start, end = self.time("start", 0), self.time("end", self.now_ms + FUTURE_MS)
        if end < start:
            raise InvalidInput('invalid parameter "end": end timestamp must not be before start time')
        return start, end

    @staticmethod
    def _parse(name: str, text: str, what: str, parser: Callable[[str], int]) -> int:
        try:
            return parser(text)
        except (ValueError, OverflowError):
            raise InvalidInput(
                f'invalid parameter "{name}": cannot parse {json.dumps(text[:100])} to a valid {what}'
            ) from None


def parse_time(text: str) -> int:
    """Unix seconds, or RFC 3339, in ms. Raises ``ValueError``."""
    try:
        seconds = float(text) if "_" not in text else float("nan")
    except ValueError:
        if not _RFC3339.match(text):
            raise
        moment = datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", text.upper()))
        return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    if not abs(seconds) < MAX_SECONDS:
        raise ValueError(text)
    return round(seconds * 1000)


def parse_duration(text: str) -> int:
    """Seconds as a number, or ``1h30m``, in ms. Raises ``ValueError``."""
    try:
        seconds = float(text) if "_" not in text else float("nan")
    except ValueError:
        sign = -1 if text.startswith("-") else 1
        return sign * duration_ms(text.removeprefix("-"))
    if not abs(seconds) < MAX_SECONDS:
        raise ValueError(text)
    return round(seconds * 1000)


def unescape_name(name: str) -> str:
    """A label name of a URL; ``U__`` marks one whose special characters are written as ``_<hex>_``."""
    if not name.startswith("U__"):
        return name
    return _UTF8_NAME.sub(lambda m: chr(int(m.group(1), 16)) if m.group(1) else "_", name[3:])
