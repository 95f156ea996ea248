"""Where tensors live. Core types hold NumPy only; everything here crosses over and back."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from aiops.core.anomaly import Batch
from aiops.core.errors import ConfigError

Choice = Literal["auto", "cpu", "cuda"]


@lru_cache(maxsize=3)
def resolve(choice: Choice = "auto") -> torch.device:
    """The device for a setting; ``auto`` is CUDA where there is one.

    On the CPU a worker uses one torch thread: two made batched linear algebra slower on a loaded box.

    Raises:
        ConfigError: ``cuda`` was asked for and there is none.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError("The setting device is 'cuda', but torch finds no CUDA device.", hint="Use 'auto' or 'cpu'.")
    if choice != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")


def to_tensor(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array on the device, shared with NumPy on the CPU: never write into it."""
    contiguous = np.ascontiguousarray(values)
    if not contiguous.flags.writeable:
        contiguous = contiguous.copy()
    return torch.from_numpy(contiguous).to(device)


def observed(batch: Batch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and mask on the device; a value that is not finite counts as missing, and missing ones are 0."""
    mask = batch.mask & np.isfinite(batch.values)
    return to_tensor(np.where(mask, batch.values, np.float32(0)), device), to_tensor(mask, device)


def to_array(values: torch.Tensor) -> NDArray[Any]:
    out: NDArray[Any] = values.detach().cpu().numpy()
    return out
