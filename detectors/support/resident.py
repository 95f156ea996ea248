"""State arrays that stay on the device: an array that was sent there is not sent again while it lives.

Core types hold NumPy only, so what a tick changes comes back each time, a few hundred bytes a series; the larger part,
weights, factors and profiles, is sent once. On the CPU tensors share the arrays' memory and nothing is kept.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from detectors.support.device import to_array, to_tensor


class Residents:
    """Tensors by the arrays they came from or went to; forgotten with the array. Thread-safe.

    An array that is held here must not be written to any more, and is made read-only.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], tuple[weakref.ref[Any], torch.Tensor]] = {}
        self._lock = threading.RLock()  # forgetting may come in the middle of anything

    def __len__(self) -> int:
        return len(self._held)

    def get(self, values: NDArray[Any], device: str, send: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The tensor of this very array on ``device``; sent where it is not there yet."""
        key = (id(values), device)
        with self._lock:
            held = self._held.get(key)
        if held is not None and held[0]() is values:
            return held[1]
        tensor = send()
        self.keep(values, device, tensor)
        return tensor

    def keep(self, values: NDArray[Any], device: str, tensor: torch.Tensor) -> None:
        key = (id(values), device)
        values.setflags(write=False)

        def forget(gone: weakref.ref[Any]) -> None:
            with self._lock:
                if (held := self._held.get(key)) is not None and held[0] is gone:
                    del self._held[key]

        with self._lock:
            self._held[key] = (weakref.ref(values, forget), tensor)


RESIDENTS = Residents()


def there(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array of a state on the device. Never write into it."""
    if device.type == "cpu":
        return to_tensor(values, device)
    return RESIDENTS.get(values, str(device), lambda: to_tensor(values, device))


def back(tensor: torch.Tensor) -> NDArray[Any]:
    """A changed part of a state as an array, which the next tick finds on the device again."""
    values = to_array(tensor)
    if tensor.device.type != "cpu":
        RESIDENTS.keep(values, str(tensor.device), tensor.detach())
    return values
