"""The composition root: settings and discovered plug-ins become objects, here and nowhere else.

One module an organ; :mod:`aiops.wiring.service` puts them together and starts them.
"""

from __future__ import annotations

from aiops.settings import Settings
from aiops.wiring.folder import audit, keys
from aiops.wiring.service import Service

__all__ = ["Service", "audit", "build", "keys", "local"]


def build(settings: Settings) -> Service:
    """The whole service, not yet started."""
    return Service(settings)


def local(settings: Settings) -> Service:
    """The same objects for one command in-process: nothing listens, polls or logs."""
    return Service(settings, observed=False)
