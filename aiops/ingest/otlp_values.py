"""OTLP attribute values and ids as text."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from aiops.core.series import Labels

VALUE_DEPTH = 16


def attributes_of(pairs: Iterable[Any]) -> Labels:
    """Attributes as sorted pairs of text; of one key twice the last counts; values that are not text become JSON."""
    return tuple(sorted({pair.key: text_of(pair.value) for pair in pairs}.items()))


def text_of(value: Any) -> str:
    """An ``AnyValue`` as text; empty where it holds none."""
    which = value.WhichOneof("value")
    if which == "string_value":
        return str(value.string_value)
    if which is None:
        return ""
    plain = _plain(value, VALUE_DEPTH)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return str(plain) if isinstance(plain, int | float | str) else json.dumps(plain, ensure_ascii=False)


def id_of(raw: bytes, length: int) -> str:
    """A trace or span id in lower-case hex; empty where it is not valid."""
    return raw.hex() if len(raw) == length and any(raw) else ""


def _plain(value: Any, depth: int) -> Any:
    which = value.WhichOneof("value")
    if which is None or depth == 0:
        return None
    if which == "array_value":
        return [_plain(item, depth - 1) for item in value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _plain(pair.value, depth - 1) for pair in value.kvlist_value.values}
    if which == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, which)
