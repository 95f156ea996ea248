"""Asking the service from a command: the reply, or with ``--json`` the reply printed as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiops.settings import Settings


def fetched(settings: Settings, path: str, json: bool, **params: Any) -> Any:
    """The reply to a GET, or ``None`` when it was printed as JSON."""
    from aiops.cli.client import connect

    with connect(settings) as api:
        return _printed(api.get(path, **params), json)


def change(
    settings: Settings, path: str, body: Mapping[str, object] | None, json: bool, said: Callable[[dict[str, Any]], str]
) -> None:
    """POST to a running service and print what ``said`` makes of the reply."""
    from aiops.cli.client import connect

    with connect(settings, reading=False) as api:
        found = _printed(api.post(path, body), json)
    if found is not None:
        print(said(found))


def _printed(reply: Any, json: bool) -> Any:
    if not json:
        return reply
    from aiops.cli.output import print_json

    print_json(reply)
    return None
