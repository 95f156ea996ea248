"""What every plug-in is made of: options, context, clock."""

from __future__ import annotations

import time
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from aiops.core.series import (
    Matcher,
)


class Clock(Protocol):
    """The time, in ms UTC; tests pass their own."""

    def __call__(self) -> int: ...


def system_clock() -> int:
    return time.time_ns() // 1_000_000


class PluginOptions(BaseModel):
    """Base of every ``Options``: unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


TableReader = Callable[[Path], Mapping[str, NDArray[np.generic]]]
"""Reads a Parquet file into columns of text, float64, or int64 ms for times; nested values are JSON text.

Raises ``InvalidInput`` for a file that is none. Implemented by the telemetry store.
"""


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What wiring gives a plug-in beside its options: its configured name, the clock, a reader of Parquet."""

    name: str
    clock: Clock = system_clock
    read_parquet: TableReader | None = None
    inject_matchers: Callable[[str, Sequence[Matcher]], str] | None = None
    """ANDs matchers to every selector of a PromQL text, or raises ``QueryError``; a connector that sends PromQL
    elsewhere needs it to enforce a principal's label scope."""


OptionsT = TypeVar("OptionsT", bound=PluginOptions)


class Plugin(ABC, Generic[OptionsT]):
    """A plug-in of some kind. ``extra`` names the optional install that it needs, if any."""

    Options: ClassVar[type[PluginOptions]] = PluginOptions
    extra: ClassVar[str] = ""

    def __init__(self, options: OptionsT, context: PluginContext) -> None:
        self.options = options
        self.context = context

    def close(self) -> None:
        """Release clients. Called once at shutdown."""
        return
