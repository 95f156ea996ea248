"""A fitted state as safetensors bytes: arrays, series ids and the step; never pickle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from aiops.core.anomaly import State
from aiops.core.errors import InvalidInput

FORMAT = "aiops-state/1"
_HEAD = 8


def dumps(state: State) -> bytes:
    """Safetensors bytes: ``s.<name>`` arrays with the series axis first, ``g.<name>`` shared ones.

    Equal states give equal bytes, so that a digest names a content.
    """
    tensors = {f"s.{k}": np.ascontiguousarray(v) for k, v in state.arrays.items()}
    tensors |= {f"g.{k}": np.ascontiguousarray(v) for k, v in state.shared.items()}
    ids = json.dumps(list(state.series_ids), ensure_ascii=True)
    return _in_order(bytes(save(tensors, {"format": FORMAT, "step_ms": str(state.step_ms), "series_ids": ids})))


def _in_order(data: bytes) -> bytes:
    """The same file with its metadata sorted: the library writes them in an order of chance."""
    size = int.from_bytes(data[:_HEAD], "little")
    head = json.loads(data[_HEAD : _HEAD + size])
    head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _HEAD)
    return len(text).to_bytes(_HEAD, "little") + text + data[_HEAD + size :]


def loads(data: bytes) -> State:
    """The state in ``data``. Raises ``InvalidInput`` for anything that :func:`dumps` did not write."""
    try:
        head = json.loads(data[_HEAD : _HEAD + int.from_bytes(data[:_HEAD], "little")])
        meta = head["__metadata__"]
        tensors = load(data)
        ids, step = json.loads(meta["series_ids"]), int(meta["step_ms"])
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"The model artifact is not a valid state: {type(error).__name__}.") from error
    if (
        meta.get("format") != FORMAT
        or step <= 0
        or not isinstance(ids, list)
        or not all(isinstance(i, str) for i in ids)
    ):
        raise InvalidInput("The model artifact's metadata is not that of a state.")
    if len(set(ids)) != len(ids):
        raise InvalidInput("The model artifact names a series twice.")
    arrays: dict[str, NDArray[np.generic]] = {}
    shared: dict[str, NDArray[np.generic]] = {}
    for name, loaded in tensors.items():
        value = np.array(loaded)  # writeable, so that torch can share it
        kind, _, key = name.partition(".")
        if kind == "s" and key and value.ndim and len(value) == len(ids):
            arrays[key] = value
        elif kind == "g" and key:
            shared[key] = value
        else:
            raise InvalidInput(f"The model artifact's array '{name}' does not fit its {len(ids)} series.")
    return State(tuple(ids), step, arrays, shared)


def write(state: State, path: Path) -> None:
    path.write_bytes(dumps(state))


def read(path: Path) -> State:
    """Raises ``InvalidInput`` for a malformed file, ``OSError`` for one that cannot be read."""
    return loads(path.read_bytes())
