"""Reading other systems' webhook bodies: JSON in, typed fields out, every complaint says where."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aiops.core.errors import InvalidInput
from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.ports import PluginContext
from aiops.core.series import labels_of
from aiops.core.signals import ChangeEvent
from aiops.core.untrusted import Untrusted

LABEL_CAP = 1_000
TEXT_CAP = 4_000
MAX_LABELS = 200
MAX_ITEMS = 1_000


def json_of(body: bytes) -> Any:
    """Raises ``InvalidInput`` for what is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The body is not valid JSON.") from error


def object_of(value: Any, what: str = "The body") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is not a JSON object.")
    return value


def objects_of(value: Any, what: str = "The body") -> list[dict[str, Any]]:
    """One object or a list of them, :data:`MAX_ITEMS` at most."""
    items = value if isinstance(value, list) else [value]
    if len(items) > MAX_ITEMS:
        raise InvalidInput(f"{what} holds {len(items)} items; at most {MAX_ITEMS} are taken.")
    return [object_of(item, f"Item {i + 1} of {what.lower()}") for i, item in enumerate(items)]


def part(value: Any, *path: str) -> Any:
    """What lies at ``path``; ``None`` where any step is missing."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value: Any, *path: str, cap: int = LABEL_CAP) -> str:
    """The string, number or boolean at ``path`` as a string; empty for anything else."""
    found = part(value, *path)
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, int | float):
        return f"{found:g}" if isinstance(found, float) else str(found)[:cap]
    return found[:cap] if isinstance(found, str) else ""


def required(value: Any, *path: str) -> str:
    """As :func:`text`. Raises ``InvalidInput`` where it is empty."""
    found = text(value, *path)
    if not found:
        raise InvalidInput(f"The body has no {'.'.join(path)}.")
    return found


def web_link(value: Any, *path: str) -> str:
    """The http or https URL at ``path``, else empty."""
    found = text(value, *path, cap=2_000)
    return found if found.startswith(("http://", "https://")) else ""


def time_ms(value: Any, *path: str) -> int | None:
    """ms UTC of an RFC 3339 text, or of a number of seconds or milliseconds; ``None`` where there is none.

    Raises:
        InvalidInput: something is there that is no time.
    """
    found = part(value, *path)
    if found is None or found == "" or found == 0:
        return None
    where = ".".join(path) or "a value"
    if isinstance(found, str) and found.replace(".", "", 1).isdigit():
        found = float(found)
    try:
        if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
            ms = found if found > 1e11 else found * 1000
            datetime.fromtimestamp(ms / 1000, UTC)
            return max(0, int(ms))
        if isinstance(found, str):
            at = datetime.fromisoformat(found.removesuffix(" UTC"))
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            return None if at.year <= 1 else max(0, int(at.timestamp() * 1000))
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput(f"{where} is not a time.") from error
    raise InvalidInput(f"{where} is not a time.")


def alert(
    context: PluginContext,
    name: str,
    labels: Mapping[str, str],
    severity: Severity,
    *,
    firing: bool,
    starts_ms: int | None,
    ends_ms: int | None = None,
    summary: str = "",
    link: str = "",
    annotations: Mapping[str, str] | None = None,
    identity: Mapping[str, str] | None = None,
) -> Alert:
    """An alert of one sender. It is known again by ``identity``, else by its name and labels: the body that
    ends it must give the same as the one that began it."""
    if len(labels) > MAX_LABELS:
        raise InvalidInput(f"{len(labels)} labels; at most {MAX_LABELS} are taken.")
    now = context.clock()
    starts = min(starts_ms or now, now)
    held = labels_of({"alertname": name, **{k[:LABEL_CAP]: v[:LABEL_CAP] for k, v in labels.items()}})
    notes = {k[:LABEL_CAP]: v[:TEXT_CAP] for k, v in (annotations or {}).items() if v}
    return Alert(
        fingerprint=fingerprint((*(labels_of(identity) if identity else held), ("source", context.name))),
        kind=SignalKind.ALERT,
        name=name,
        labels=held,
        severity=severity,
        starts_ms=starts,
        updated_ms=now,
        ends_ms=None if firing else max(starts, min(ends_ms or now, now)),
        summary=Untrusted(summary[:TEXT_CAP]),
        source=context.name,
        link=link,
        annotations=tuple((k, Untrusted(v)) for k, v in sorted(notes.items())),
    )


def expiring(firing: Alert, after_s: float) -> Alert:
    """The alert, to end by itself ``after_s`` from now unless it is repeated; 0 leaves it as it is."""
    return replace(firing, expires_ms=firing.updated_ms + int(after_s * 1000)) if after_s else firing


def change(
    context: PluginContext,
    kind: str,
    service: str,
    title: str,
    *,
    at_ms: int | None,
    author: str = "",
    link: str = "",
    environment: str = "",
    attributes: Mapping[str, str] | None = None,
) -> ChangeEvent:
    """A change; a time that is missing or in the future becomes now."""
    now = context.clock()
    return ChangeEvent(
        time_ms=min(at_ms or now, now),
        kind=kind[:50],
        service=service[:200],
        title=Untrusted(title[:1_000]),
        author=author[:200],
        link=link,
        environment=environment[:200],
        attributes=labels_of({k[:200]: v[:LABEL_CAP] for k, v in (attributes or {}).items()}),
    )
