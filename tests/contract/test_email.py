"""The e-mail notifier against a real SMTP server on loopback."""

from __future__ import annotations

import email
import email.policy
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from aiops.core.errors import ConfigError, PermanentError, TransientError
from aiops.core.incident import NotificationEvent
from aiops.core.plugins import build
from aiops.core.ports import Notifier, PluginContext
from tests.contract.incidents import T0, notification

PASSWORD = "very-secret-word"


class Mailbox:
    """Keeps what comes; ``answer`` is what RCPT is answered with."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.answer = ""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.answer:
            return self.answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        self.recipients += envelope.rcpt_tos
        return "250 OK"


def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"aiops", PASSWORD.encode())
    return AuthResult(success=right, handled=False)


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Controller(box, "127.0.0.1", port, authenticator=check, auth_require_tls=False)
    server.start()
    yield box, port
    server.stop()


def made(port: int, **more: Any) -> Notifier[Any]:
    options = {
        "host": "127.0.0.1", "port": port, "security": "none", "sender": "aiops <aiops@example.org>",
        "to": ["oncall@example.org", "Lead <lead@example.org>"], "timeout_s": 2,
    }  # fmt: skip
    built = build("connectors.notifiers", "email", {**options, **more}, PluginContext("mail", lambda: T0))
    assert isinstance(built, Notifier)
    return built


def test_an_incident_is_one_thread(mailbox: tuple[Mailbox, int]) -> None:
    box, port = mailbox
    notifier = made(port, public_url="https://aiops.example.org")
    for number, event in enumerate([NotificationEvent.OPENED, NotificationEvent.UPDATED, NotificationEvent.RESOLVED]):
        notifier.notify(notification(event, "", number))
    assert [str(m["Subject"]) for m in box.messages] == [
        "[simulated] INC-7: checkout: latency p95 1.9 s, 7.9x normal"
    ] * 3
    assert {m["References"] for m in box.messages} == {"<INC-7@example.org>"}
    assert len({m["Message-ID"] for m in box.messages}) == 3
    assert box.recipients[:2] == ["oncall@example.org", "lead@example.org"]
    first = box.messages[0]
    text, html = (first.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    assert "cart (71%)" in text.get_content()
    assert "https://aiops.example.org/api/v1/incidents/INC-7" in html.get_content()
    assert "<!channel>" not in html.get_content()
    assert "\u202e" not in html.get_content() + text.get_content()
    notifier.notify(notification(NotificationEvent.OPENED, "", 0))
    assert box.messages[-1]["Message-ID"] == first["Message-ID"]


def test_signs_in(mailbox: tuple[Mailbox, int]) -> None:
    box, port = mailbox
    made(port, username="aiops", password=PASSWORD).notify(notification(NotificationEvent.OPENED))
    assert len(box.messages) == 1
    with pytest.raises(PermanentError) as caught:
        made(port, username="aiops", password="wrong").notify(notification(NotificationEvent.OPENED))
    assert "wrong" not in str(caught.value)
    assert PASSWORD not in repr(made(port, username="aiops", password=PASSWORD).options)


@pytest.mark.parametrize(("answer", "error"), [("451 try later", TransientError), ("550 no such user", PermanentError)])
def test_refusals(mailbox: tuple[Mailbox, int], answer: str, error: type[Exception]) -> None:
    box, port = mailbox
    box.answer = answer
    with pytest.raises(error, match=answer[:3]):
        made(port).notify(notification(NotificationEvent.OPENED))
    assert box.messages == []


def test_a_server_without_tls_is_not_used_in_the_clear(mailbox: tuple[Mailbox, int]) -> None:
    box, port = mailbox
    with pytest.raises(PermanentError):
        made(port, security="starttls").notify(notification(NotificationEvent.OPENED))
    assert box.messages == []


def test_no_server_and_a_silent_one_are_transient() -> None:
    with pytest.raises(TransientError):
        made(9).notify(notification(NotificationEvent.OPENED))
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TransientError):
        made(silent.getsockname()[1], timeout_s=0.3).notify(notification(NotificationEvent.OPENED))


@pytest.mark.parametrize("address", ["nobody", "a@b\r\nBcc: c@d", ""])
def test_addresses_are_checked_at_the_start(address: str) -> None:
    with pytest.raises(ConfigError, match="e-mail address"):
        made(25, to=[address])
