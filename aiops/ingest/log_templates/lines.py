"""The message of a log body: of JSON and logfmt its field, of many lines the one that says most."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from aiops.core.series import Labels

LINE_CAP = 1000
"""Characters of a message that are looked at."""
JSON_CAP = 65_536
MESSAGE_KEYS = ("message", "msg", "log", "event", "@message", "text", "short_message")
LEVEL_KEYS = ("level", "severity", "lvl", "log.level", "levelname", "severity_text")
ATTRIBUTE_KEYS = 32
VALUE_CAP = 256
_LOGFMT = re.compile(r"""\s*[A-Za-z_@][\w.@-]*=(?:"|\S|\s)""")
_PAIR = re.compile(r"""([A-Za-z_@][\w.@/-]*)=("(?:[^"\\]|\\.)*"|\S*)""")
_CONTROL = re.compile(r"[^\S\t ]+|[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd\ud800-\udfff]+")
_TRACEBACK = "Traceback (most recent call last)"
_SEVERITIES = {
    "trace": 1, "verbose": 1, "debug": 5, "info": 9, "information": 9, "notice": 10, "warn": 13, "warning": 13,
    "error": 17, "err": 17, "severe": 17, "critical": 21, "crit": 21, "fatal": 21, "panic": 21, "alert": 21,
    "emergency": 21, "emerg": 21,
}  # fmt: skip
BINARY = "binary data"


@dataclass(frozen=True, slots=True)
class Message:
    """What a body says: the line to mine, its level as OpenTelemetry numbers it (0 unknown), its other fields."""

    line: str
    severity: int = 0
    attributes: Labels = ()


def severity_of(word: str) -> int:
    """
    >>> severity_of("WARNING"), severity_of("?")
    (13, 0)
    """
    return _SEVERITIES.get(word.lower(), 0)


def message_of(body: str) -> Message:
    """The message of a body. Control characters are spaces; a body that is mostly those is ``binary data``.

    >>> message_of('{"level":"error","msg":"no route","peer":"10.0.0.7"}')
    Message(line='no route', severity=17, attributes=(('peer', '10.0.0.7'),))
    >>> message_of('level=warn msg="slow disk" ms=1200').line
    'slow disk'
    """
    start = body[:2].lstrip()
    if start[:1] == "{" and len(body) <= JSON_CAP and (found := _of_json(body)) is not None:
        return found
    if "=" in body[:200] and len(body) <= JSON_CAP and _LOGFMT.match(body) and (found := _of_logfmt(body)) is not None:
        return found
    return Message(clean(body))


def clean(body: str) -> str:
    """One printable line of at most :data:`LINE_CAP` characters."""
    if len(body) > LINE_CAP * 4:
        body = body[: LINE_CAP * 4] if not body.startswith(_TRACEBACK) else body[:LINE_CAP] + body[-LINE_CAP:]
    if body.isprintable():
        return body[:LINE_CAP].rstrip(" ")
    if "\n" in body or "\r" in body:
        rows = [row for row in body.splitlines() if row.strip()]
        if not rows:
            return ""
        body = f"{_TRACEBACK}: {rows[-1].strip()}" if rows[0].startswith(_TRACEBACK) and len(rows) > 1 else rows[0]
    body = body[:LINE_CAP]
    printable = _CONTROL.sub(" ", body)
    if len(body) > 8 and sum(not c.isprintable() and c not in "\t" for c in body) > 0.3 * len(body):
        return BINARY
    return printable.rstrip()


def _of_json(body: str) -> Message | None:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(data, dict):
        return None
    key = next((k for k in MESSAGE_KEYS if isinstance(data.get(k), str) and data[k]), None)
    if key is None:
        return None
    return _message(data[key], {k: v for k, v in data.items() if k != key})


def _of_logfmt(body: str) -> Message | None:
    pairs: dict[str, object] = {}
    for name, value in _PAIR.findall(body[: LINE_CAP * 4]):
        pairs.setdefault(name, _unquoted(value))
    key = next((k for k in MESSAGE_KEYS if pairs.get(k)), None)
    if key is None:
        return None
    return _message(str(pairs.pop(key)), pairs)


def _unquoted(value: str) -> str:
    if value[:1] == '"' and value[-1:] == '"' and len(value) > 1:
        return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), value[1:-1])
    return value


def _message(text: str, fields: dict[str, object]) -> Message:
    severity = 0
    attributes: list[tuple[str, str]] = []
    for name, value in fields.items():
        if name in LEVEL_KEYS and isinstance(value, str) and not severity:
            severity = severity_of(value)
        elif isinstance(value, str | int | float | bool) and len(attributes) < ATTRIBUTE_KEYS:
            shown = value if isinstance(value, str) else orjson.dumps(value).decode()
            if shown and len(shown) <= VALUE_CAP:
                attributes.append((str(name), shown))
    return Message(clean(text), severity, tuple(sorted(attributes)))
