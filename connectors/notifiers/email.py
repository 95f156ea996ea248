"""Incidents by e-mail."""

from __future__ import annotations

import html
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from aiops.core.errors import PermanentError, TransientError
from aiops.core.incident import Incident, Notification, NotificationEvent
from aiops.core.ports import Notifier, PluginOptions
from connectors import incident_text as words


class EmailOptions(PluginOptions):
    """``security``: ``starttls`` (port 587), ``tls`` (465) or ``none`` for a relay on this host."""

    host: str = Field(min_length=1)
    port: int = Field(587, gt=0, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: SecretStr = SecretStr("")
    sender: str
    to: tuple[str, ...] = Field(min_length=1)
    public_url: str = ""
    timeout_s: float = Field(10.0, gt=0, le=60)

    @field_validator("sender", "to")
    @classmethod
    def addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in (value,) if isinstance(value, str) else value:
            if "@" not in parseaddr(text)[1] or any(c in text for c in "\r\n"):
                raise ValueError(f"'{text}' is not an e-mail address")
        return value


class Email(Notifier[EmailOptions]):
    """Plain text and HTML by SMTP. All messages of an incident are one thread (``References``), each with a
    ``Message-ID`` made of the notification's id, by which mail programs know a repeat.
    """

    Options = EmailOptions

    def notify(self, notification: Notification) -> str:
        message = self._message(notification)
        try:
            with self._connect() as server:
                server.send_message(message)
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused) as error:
            raise self._refusal(error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise PermanentError(f"{self.context.name}: the mail server cannot do what is asked: {error}") from error
        except (OSError, smtplib.SMTPException) as error:
            raise TransientError(f"{self.context.name} cannot reach the mail server {self.options.host}.") from error
        return thread_id(notification.dedup_key, self._domain)

    @property
    def _domain(self) -> str:
        return parseaddr(self.options.sender)[1].rpartition("@")[2]

    def _connect(self) -> smtplib.SMTP:
        chosen, tls = self.options, ssl.create_default_context()
        server: smtplib.SMTP
        if chosen.security == "tls":
            server = smtplib.SMTP_SSL(chosen.host, chosen.port, timeout=chosen.timeout_s, context=tls)
        else:
            server = smtplib.SMTP(chosen.host, chosen.port, timeout=chosen.timeout_s)
        try:
            if chosen.security == "starttls":
                server.starttls(context=tls)
            if chosen.username:
                server.login(chosen.username, chosen.password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server

    def _refusal(self, error: smtplib.SMTPException) -> PermanentError | TransientError:
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            codes = [code for code, _ in error.recipients.values()]
        else:
            codes = [int(getattr(error, "smtp_code", 0))]
        said = f"{self.context.name}: the mail server {self.options.host} refused with {', '.join(map(str, codes))}."
        passing = any(400 <= code < 500 for code in codes)
        return TransientError(said) if passing else PermanentError(said)

    def _message(self, notification: Notification) -> EmailMessage:
        incident, chosen = notification.incident, self.options
        message = EmailMessage()
        thread = thread_id(notification.dedup_key, self._domain)
        message["Subject"] = words.subject(incident)
        message["From"] = chosen.sender
        message["To"] = ", ".join(chosen.to)
        message["Date"] = formatdate(notification.created_ms / 1000)
        message["Message-ID"] = thread_id(notification.id, self._domain)
        message["In-Reply-To"] = message["References"] = thread
        message["Auto-Submitted"] = "auto-generated"
        if notification.event is NotificationEvent.OPENED and incident.severity.value == "critical":
            message["Importance"] = "high"
        message.set_content(words.plain(notification, chosen.public_url))
        message.add_alternative(page(notification, chosen.public_url), subtype="html")
        return message


def thread_id(name: str, domain: str) -> str:
    return f"<{name}@{domain}>"


def page(notification: Notification, public_url: str) -> str:
    """The message as HTML; every text is escaped."""
    incident = notification.incident
    rows = "".join(f"<tr><th align=left>{_e(n)}</th><td>{_e(v)}</td></tr>" for n, v in words.facts(incident))
    address = words.link(incident, public_url)
    link = f'<p><a href="{_e(address)}">Open {_e(incident.id)}</a></p>' if address else ""
    return (
        f"<html><body><h2>{_e(words.subject(incident))}</h2><p>{_e(words.news(notification))}</p>"
        f"<table cellpadding=4>{rows}</table>{_lists(incident)}{link}</body></html>"
    )


def _lists(incident: Incident) -> str:
    parts = (("Causes", words.causes(incident)), ("Signals", words.signals(incident)))
    return "".join(
        f"<h3>{name}</h3><ul>{''.join(f'<li>{_e(line)}</li>' for line in lines)}</ul>" for name, lines in parts if lines
    )


def _e(text: str) -> str:
    return html.escape(text, quote=True)
