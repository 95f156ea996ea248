"""What a language model is not to see: secrets and personal data in telemetry's text, and, by a switch, real names.

Secrets, e-mail addresses and card numbers are taken out of every text of telemetry. Pseudonyms stand for hosts and
users in all that a model reads; what it writes is turned back before anything is run.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from aiops.agent.catalogue import Catalogue

_SECRETS = (
    (
        "[private key]",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL),
    ),
    ("[token]", re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")),
    (
        "[token]",
        re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}\b|\bxox[abprs]-[\w-]{10,}|\bsk-[\w-]{16,}"),
    ),
    (
        "[secret]",
        re.compile(r"(?i)(?:(?<=\bbearer )|(?<=\bbasic ))[\w.~+/=-]{8,}|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"),
    ),
    (
        r"\1[secret]",
        re.compile(
            r"(?i)(\b(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|authorization|cookie|session)"
            r"[\"']?\s*[:=]\s*[\"']?)(?!\[|bearer |basic )[^\s\"',;&]{3,}"
        ),
    ),
    ("[email]", re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b", re.IGNORECASE)),
)
_CARD = re.compile(r"(?<![\w.])(?:\d[ -]?){12,18}\d(?![\w.])")

HOSTS = frozenset(
    {
        "instance", "host", "node", "hostname", "nodename", "Hostname", "host_name", "k8s_node_name", "server_address",
        "kubernetes_node",
    }
)  # fmt: skip
USERS = frozenset({"user", "username", "usename", "user_id", "enduser_id", "user_name", "user_email"})
_FIRST = (
    "up",
    "node_uname_info",
    "kube_node_info",
    "http_server_request_duration_seconds_count",
    "http_requests_total",
)
"""Metrics whose labels name hosts in most places; other names are learnt when a look-up meets them."""


def redacted(text: str) -> str:
    """The text without what looks like a secret, an e-mail address or a card number.

    >>> redacted("login of ann@example.org failed: password=hunter22")
    'login of [email] failed: password=[secret]'
    """
    for instead, pattern in _SECRETS:
        text = pattern.sub(instead, text)
    return _CARD.sub(lambda m: "[card]" if _luhn(m.group(0)) else m.group(0), text)


def _luhn(text: str) -> bool:
    """Whether the digits bear a card number's check digit (ISO/IEC 7812-1)."""
    digits = [int(c) for c in reversed(text) if c.isdigit()]
    return sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0


class Pseudonyms:
    """Names of hosts and users against stand-ins such as ``host-3f9a21``, the same for as long as the service runs.

    Args:
        key: makes the stand-ins; who does not have it cannot try names out.
    """

    def __init__(self, key: bytes = b"") -> None:
        self._key = key or secrets.token_bytes(32)
        self._stand_in: dict[str, str] = {}
        self._name: dict[str, str] = {}
        self._names = self._stand_ins = re.compile(r"(?!)")

    def know(self, catalogue: Catalogue, metrics: Iterable[str] = ()) -> None:
        """Learn the hosts and users of the given metrics, and of those that name them in most places."""
        for metric in (*_FIRST, *metrics):
            self.learn(catalogue.labels(metric) or {})

    def learn(self, labels: Mapping[str, Iterable[str]]) -> None:
        """Learn the values of labels that name hosts and users."""
        fresh = False
        for label, values in labels.items():
            kind = "host" if label in HOSTS else "user" if label in USERS else ""
            for value in values if kind else ():
                name = value.rsplit(":", 1)[0] if kind == "host" and value.rsplit(":", 1)[-1].isdigit() else value
                if len(name) < 2 or name in self._stand_in or name in self._name or name in ("localhost", "127.0.0.1"):
                    continue
                digest = hashlib.blake2b(name.encode("utf-8", "backslashreplace"), key=self._key, digest_size=4)
                self._stand_in[name], self._name[made] = (made := f"{kind}-{digest.hexdigest()}"), name
                fresh = True
        if fresh:
            self._names = _any_of(self._stand_in)
            self._stand_ins = _any_of(self._name)

    def hide(self, text: str) -> str:
        """With stand-ins for every known name, upper or lower case."""
        lower = {name.lower(): stand_in for name, stand_in in self._stand_in.items()}
        return self._names.sub(lambda m: lower[m.group(0).lower()], text)

    def show(self, value: Any) -> Any:
        """With the names in place of the stand-ins, in every text of a JSON value."""
        match value:
            case str():
                return self._stand_ins.sub(lambda m: self._name[m.group(0).lower()], value)
            case Mapping():
                return {self.show(k): self.show(v) for k, v in value.items()}
            case list():
                return [self.show(v) for v in value]
        return value


class NoPseudonyms(Pseudonyms):
    """Everything by its name."""

    def know(self, catalogue: Catalogue, metrics: Iterable[str] = ()) -> None:
        del catalogue, metrics

    def learn(self, labels: Mapping[str, Iterable[str]]) -> None:
        del labels


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    longest = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])", re.IGNORECASE)
