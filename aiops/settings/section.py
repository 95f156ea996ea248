"""What all sections share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PluginSettings(BaseModel):
    """``plugin`` is the file's name; the remaining keys are that plug-in's options.

    Only the plug-in knows which of its options are secret, so ``repr`` shows no option's value.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    plugin: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from ((name, getattr(self, name)) for name in type(self).model_fields)
        yield from ((name, "**********") for name in self.options)
