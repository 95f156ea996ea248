"""API keys: made once, shown once, kept as a digest, checked in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from aiops.core.access import ApiKey
from aiops.core.errors import ConfigError, Forbidden, InvalidInput
from aiops.core.ports import Clock, system_clock
from aiops.core.principal import Principal, Role
from aiops.core.series import Matcher
from aiops.store.state.audit import AuditLog
from aiops.store.state.keys import KeyRepository

PREFIX = "aiops_"
NAME_CAP = 80
_KEY = re.compile(r"aiops_([0-9a-f]{8})_([A-Za-z0-9_-]{43})", re.ASCII)
_UNKNOWN_DIGEST = hashlib.sha256(b"no such key").hexdigest()


class KeyService:
    """Keys of the form ``aiops_<id>_<secret>``; the secret has 256 random bits.

    Args:
        audit: where creation and revocation are written; a key's use is audited by what it does.
    """

    def __init__(self, repository: KeyRepository, clock: Clock = system_clock, audit: AuditLog | None = None) -> None:
        self._repository = repository
        self._clock = clock
        self._audit = audit

    def create(
        self,
        name: str,
        role: Role,
        scope: tuple[Matcher, ...] | None = None,
        expires_ms: int | None = None,
        by: str = "local",
    ) -> tuple[str, ApiKey]:
        """A new key: its text, which is never shown again, and its record.

        Raises:
            InvalidInput: an empty or overlong name, or an expiry that has passed.
        """
        now = self._clock()
        if not name.strip() or len(name) > NAME_CAP or not name.isprintable():
            raise InvalidInput(f"A key needs a printable name of at most {NAME_CAP} characters.")
        if expires_ms is not None and expires_ms <= now:
            raise InvalidInput("The key would already have expired.")
        key_id = secrets.token_hex(4)
        while self._repository.get(key_id) is not None:
            key_id = secrets.token_hex(4)
        text = f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
        record = ApiKey(key_id, name.strip(), role, digest_of(text), now, scope, expires_ms)
        self._repository.add(record)
        self._note(by, "key.create", record)
        return text, record

    def bootstrap(self, text: str, name: str = "bootstrap") -> bool:
        """Make the given key text an admin key if there is no key at all; says whether it did.

        Raises:
            InvalidInput: the text does not have the form of a key.
        """
        found = _KEY.fullmatch(text.strip())
        if found is None:
            raise InvalidInput(
                "The bootstrap key has the wrong form.", hint="It is aiops_<8 hex digits>_<43 URL-safe characters>."
            )
        record = ApiKey(found[1], name, Role.ADMIN, digest_of(text.strip()), self._clock())
        added = self._repository.add_first(record)
        if added:
            self._note("system:aiops", "key.bootstrap", record)
        return added

    def bootstrap_from(self, file: Path) -> None:
        """:meth:`bootstrap` with a file's text, which is not read once there is a key. Raises ``ConfigError``."""
        if self._repository.list():
            return
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"The bootstrap key file {file} cannot be read: {error.strerror}.") from error
        self.bootstrap(text)

    def list(self) -> tuple[ApiKey, ...]:
        return self._repository.list()

    def revoke(self, key_id: str, by: str = "local") -> ApiKey:
        """Refuse the key from now on. Raises ``NotFound``."""
        self._repository.revoke(key_id, self._clock())
        record = self._repository.get(key_id)
        assert record is not None
        self._note(by, "key.revoke", record)
        return record

    def authenticate(self, text: str) -> Principal:
        """The principal of a key text.

        Raises:
            Forbidden: with ``authenticated=False``, saying alike for a malformed, unknown, wrong, expired
                or revoked key that it is not valid.
        """
        found = _KEY.fullmatch(text)
        record = self._repository.get(found[1]) if found else None
        expected = record.digest if record else _UNKNOWN_DIGEST
        right = hmac.compare_digest(digest_of(text), expected)
        if record is None or not right or not record.usable(self._clock()):
            raise Forbidden("The API key is not valid.", authenticated=False)
        return Principal(f"key:{record.id}", record.role, record.scope)

    def _note(self, by: str, action: str, record: ApiKey) -> None:
        if self._audit is not None:
            scope = ",".join(map(str, record.scope or ()))
            detail = {"name": record.name, "role": record.role.value, "scope": scope}
            self._audit.append(by, action, f"key:{record.id}", detail)


def digest_of(text: str) -> str:
    """SHA-256, hex. A slow hash would add nothing: the secret is random, not a password."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
