"""Records of the managed model layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version of a named model.

    ``source`` is the artifact's folder or URI; ``dataset`` the content hash of its training window;
    ``aliases`` hold ``champion`` and ``challenger``.
    """

    name: str
    version: str
    family: str
    run_id: str
    source: str
    created_ms: int
    aliases: tuple[str, ...] = ()
    dataset: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    metrics: tuple[tuple[str, float], ...] = ()

    @property
    def reference(self) -> str:
        return f"{self.name}/{self.version}"
