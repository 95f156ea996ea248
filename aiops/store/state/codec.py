"""Core dataclasses to JSON text and back, directed by their type hints.

The text is pure ASCII, so that it fits any database's text column whatever was in the telemetry
(NUL, lone surrogates). Floats keep NaN and the infinities, arrays keep their bits. A field that the text
lacks takes its default; one that the class no longer has is ignored, so that rows outlive small changes.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import BaseModel

from aiops.core.untrusted import Untrusted

T = TypeVar("T")
_Decoder = Callable[[Any], Any]


def dumps(value: object) -> str:
    """One line of ASCII JSON."""
    return text_of(to_json(value))


def text_of(plain: Any) -> str:
    """One line of ASCII JSON of what :func:`to_json` gave."""
    return json.dumps(plain, separators=(",", ":"), allow_nan=False)


def loads(cls: type[T], text: str) -> T:
    """The object of type ``cls`` that :func:`dumps` wrote.

    Raises:
        ValueError: the text is not JSON or does not fit the type.
    """
    return from_json(cls, json.loads(text))


def to_json(value: object) -> Any:
    """JSON-ready form of a core value. Raises ``TypeError`` for a type that has none."""
    match value:
        case None | bool() | int() if not isinstance(value, Enum):
            return value
        case Enum():
            return value.value
        case str():
            return value
        case float():
            return _float_to_json(value)
        case Untrusted():
            return value.raw
        case BaseModel():
            return value.model_dump(mode="json")
        case np.ndarray():
            little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            return {
                "dtype": value.dtype.name,
                "shape": list(value.shape),
                "data": base64.b64encode(little.tobytes()).decode("ascii"),
            }
        case np.generic():
            return to_json(value.item())
        case tuple() | list():
            return [to_json(item) for item in value]
        case Mapping():
            return {_key(k): to_json(v) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value) if f.init}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(cls: type[T], data: Any) -> T:
    """Inverse of :func:`to_json` for values of type ``cls``."""
    try:
        decoder: _Decoder = _decoder(cls)  # type: ignore[arg-type]
        result: T = decoder(data)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"stored data does not fit {getattr(cls, '__name__', cls)}: {error}") from error
    return result


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError("mapping keys must be strings")
    return key


def _float_to_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _float_from_json(data: Any) -> float:
    if isinstance(data, str) and data not in ("nan", "inf", "-inf"):
        raise ValueError(f"{data!r} is not a number")
    return float(data)


def _array_from_json(data: Any) -> Any:
    dtype = np.dtype(data["dtype"])
    flat = np.frombuffer(base64.b64decode(data["data"]), dtype.newbyteorder("<"))
    return flat.reshape(data["shape"]).astype(dtype)


def _exactly(kind: type) -> _Decoder:
    def decode(data: Any) -> Any:
        if type(data) is not kind:
            raise ValueError(f"expected {kind.__name__}, found {type(data).__name__}")
        return data

    return decode


@functools.cache
def _decoder(hint: Any) -> _Decoder:
    origin = get_origin(hint)
    if hint is Any:
        return lambda data: data
    if hint is None or hint is type(None):
        return lambda _data: None
    if origin in (Union, types.UnionType):
        return _optional(hint)
    if origin is Literal:
        return lambda data: data
    if origin is tuple:
        return _tuple(get_args(hint))
    if origin is list:
        item = _decoder(get_args(hint)[0])
        return lambda data: [item(x) for x in data]
    if origin is np.ndarray:
        return _array_from_json
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = _decoder(get_args(hint)[1])
        return lambda data: {k: inner(v) for k, v in data.items()}
    if isinstance(hint, type):
        return _class(hint)
    raise TypeError(f"no JSON form for {hint}")


def _optional(hint: Any) -> _Decoder:
    members = [a for a in get_args(hint) if a is not type(None)]
    if len(members) != 1:
        raise TypeError(f"no JSON form for {hint}: only 'X | None' unions are kept")
    inner = _decoder(members[0])
    return lambda data: None if data is None else inner(data)


def _tuple(arguments: tuple[Any, ...]) -> _Decoder:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        item = _decoder(arguments[0])
        return lambda data: tuple(item(x) for x in data)
    items = [_decoder(a) for a in arguments]
    return lambda data: tuple(d(x) for d, x in zip(items, data, strict=True))


def _class(hint: type) -> _Decoder:
    if hint is float:
        return _float_from_json
    if hint in (str, int, bool):
        return _exactly(hint)
    if hint is Untrusted:
        text = _exactly(str)
        return lambda data: Untrusted(text(data))
    if issubclass(hint, Enum):
        return hint
    if issubclass(hint, BaseModel):
        return hint.model_validate
    if is_dataclass(hint):
        return _dataclass(hint)
    raise TypeError(f"no JSON form for {hint.__name__}")


def _dataclass(cls: type) -> _Decoder:
    @functools.cache
    def plan() -> list[tuple[str, _Decoder, bool]]:
        hints = get_type_hints(cls)
        return [
            (f.name, _decoder(hints[f.name]), f.default is MISSING and f.default_factory is MISSING)
            for f in fields(cls)
            if f.init
        ]

    def decode(data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError(f"expected an object for {cls.__name__}, found {type(data).__name__}")
        values = {}
        for name, decoder, required in plan():
            if name in data:
                values[name] = decoder(data[name])
            elif required:
                raise ValueError(f"{cls.__name__}.{name} is missing")
        return cls(**values)

    return decode
