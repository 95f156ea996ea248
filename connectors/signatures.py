"""How senders of webhooks prove who they are: a token, a password, or an HMAC of the body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from aiops.core.errors import Forbidden
from aiops.core.ports import PluginOptions


class SenderOptions(PluginOptions):
    """What a sender has to show; with nothing set, nothing is asked.

    Attributes:
        bearer_token: expected in ``Authorization: Bearer …``.
        token: expected, as it is, in ``token_header``.
        basic_password: expected with ``basic_username`` in ``Authorization: Basic …``, as from ``https://user:pass@…``.
        hmac_secret: key of an HMAC-SHA-256 over the raw body, hex, in ``hmac_header``; ``sha256=`` or ``v1=`` may
            lead, and of several signatures, divided by commas, one must hold.
        signing_secret: a Standard Webhooks secret; checks ``webhook-id``, ``-timestamp`` and ``-signature``.
    """

    bearer_token: SecretStr = SecretStr("")
    token: SecretStr = SecretStr("")
    token_header: str = "x-token"  # noqa: S105
    basic_username: str = "aiops"
    basic_password: SecretStr = SecretStr("")
    hmac_secret: SecretStr = SecretStr("")
    hmac_header: str = "x-hub-signature-256"
    signing_secret: SecretStr = SecretStr("")


def check_sender(options: SenderOptions, headers: Mapping[str, str], body: bytes) -> None:
    """Raises ``Forbidden`` (401) unless every proof that is set holds."""
    given = {k.lower(): v for k, v in headers.items()}
    if token := options.bearer_token.get_secret_value():
        scheme, _, value = given.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not _same(value.strip(), token):
            raise _refused("The bearer token is missing or wrong.")
    if (token := options.token.get_secret_value()) and not _same(given.get(options.token_header.lower(), ""), token):
        raise _refused(f"The token in {options.token_header} is missing or wrong.")
    if password := options.basic_password.get_secret_value():
        expected = f"{options.basic_username}:{password}"
        if not _same(_basic(given.get("authorization", "")), expected):
            raise _refused("The user name or password is missing or wrong.")
    if secret := options.hmac_secret.get_secret_value():
        expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        offered = given.get(options.hmac_header.lower(), "").lower().split(",")
        if not any(_same(o.strip().removeprefix("sha256=").removeprefix("v1="), expected) for o in offered):
            raise _refused(f"The signature in {options.hmac_header} is missing or wrong.")
    if signing := options.signing_secret.get_secret_value():
        try:
            Webhook(signing).verify(body, given, json_parse=False)
        except (WebhookVerificationError, ValueError) as error:
            raise _refused("The webhook signature is missing, wrong or too old.") from error


def _basic(header: str) -> str:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _refused(message: str) -> Forbidden:
    return Forbidden(message, authenticated=False)
