"""Delivery of finished reports: to a file, by e-mail, to Slack; and the job that builds and sends them.

A failure at one place does not keep a report from the others. A job that is retried, also by another process,
skips the places that have it already.
"""

from __future__ import annotations

import logging
import os
import re
import smtplib
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from zoneinfo import ZoneInfo

from aiops.core.errors import AiopsError, ConfigError, InvalidInput, PermanentError, TransientError
from aiops.core.ports import JobProgress, ProgressJobHandler
from aiops.core.principal import SYSTEM, Principal
from aiops.reports.charts import data_uri
from aiops.reports.cost import CostReport, Report
from aiops.settings import ReportSettings, SmtpSettings
from aiops.store.state.reports import ReportRepository

log = logging.getLogger(__name__)

Upload = Callable[[str, str, Sequence[tuple[str, str, bytes]], str], None]
"""Post to a chat channel: (channel, title, files as (name, alt text, bytes), text)."""

JOB_KIND = "report"
SMTP_TIMEOUT_S = 20.0


def report_arguments(name: str, settings: ReportSettings) -> dict[str, str]:
    """A configured report as the arguments of its scheduled job."""
    return {
        "name": name,
        "kind": settings.kind,
        "zone": settings.zone,
        "to_file": settings.to_file,
        "to_email": ",".join(settings.to_email),
        "to_slack": settings.to_slack,
    }


def report_handler(
    reports: Mapping[str, CostReport],
    smtp: SmtpSettings,
    deliveries: ReportRepository,
    upload: Upload | None = None,
    principal: Principal = SYSTEM,
) -> ProgressJobHandler:
    """The handler of jobs of kind ``report``; see :func:`report_arguments` for what they carry.

    Args:
        reports: builders by kind of report.
        deliveries: remembers which run of a schedule reached which place.
        upload: posts to chat; without one a report that asks for it fails there and says so.
    """

    def run(arguments: Mapping[str, str], progress: JobProgress) -> None:
        kind = arguments.get("kind", "cost")
        if kind not in reports:
            raise InvalidInput(f"There is no report of kind '{kind}'.", hint=f"Known: {', '.join(sorted(reports))}.")
        name = arguments.get("name", kind)
        progress(0.1, f"building the {kind} report")
        report = reports[kind].build(principal, zone=arguments.get("zone", "UTC"))
        failures: list[AiopsError] = []
        places = _places(arguments, smtp, upload)
        for i, (place, deliver) in enumerate(places):
            run_of = arguments.get("due_ms", "")
            if run_of and deliveries.was_delivered(name, run_of, place):
                continue
            progress(0.4 + 0.6 * i / len(places), f"delivering to {place}")
            try:
                deliver(report)
            except AiopsError as error:
                log.warning("report %s could not be delivered to %s: %s", name, place, error)
                failures.append(error)
                continue
            if run_of:
                deliveries.delivered(name, run_of, place, report.created_ms)
        if failures:
            said = " ".join(str(f) for f in failures)
            passing = all(isinstance(f, TransientError) for f in failures)
            raise TransientError(said) if passing else PermanentError(said)
        progress(1.0, "delivered")

    return run


def _places(
    arguments: Mapping[str, str], smtp: SmtpSettings, upload: Upload | None
) -> list[tuple[str, Callable[[Report], object]]]:
    places: list[tuple[str, Callable[[Report], object]]] = []
    zone = arguments.get("zone", "UTC")
    if folder := arguments.get("to_file", ""):
        places.append(("file", lambda report: to_file(report, Path(folder), zone)))
    if people := [p.strip() for p in arguments.get("to_email", "").split(",") if p.strip()]:
        places.append(("e-mail", lambda report: to_email(report, people, smtp)))
    if channel := arguments.get("to_slack", ""):
        places.append(("Slack", lambda report: to_chat(report, channel, upload)))
    return places


def to_file(report: Report, place: Path, zone: str = "UTC") -> Path:
    """Write the HTML; whole or not at all.

    Args:
        place: a folder (made if missing; the file is named by kind and date in ``zone``), or a ``.html`` path.

    Raises:
        PermanentError: the place cannot be written.
    """
    date = datetime.fromtimestamp(report.created_ms / 1000, ZoneInfo(zone)).date()
    target = place if place.suffix in (".html", ".htm") else place / f"{report.kind}-{date}.html"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=".report-", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(report.html)
                out.flush()
                os.fsync(out.fileno())
            Path(scratch).chmod(0o640)
            Path(scratch).replace(target)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PermanentError(f"The report cannot be written to {target}: {error.strerror or error}.") from error
    return target


def to_email(report: Report, recipients: Sequence[str], smtp: SmtpSettings) -> None:
    """Send text and HTML, the pictures inline by content id since mail clients block data URIs.

    Raises:
        ConfigError: no SMTP host or sender is set.
        TransientError: no connection, time-out, a 4xx reply. PermanentError: refused.
    """
    if not smtp.host or not smtp.sender:
        raise ConfigError("E-mail needs smtp.host and smtp.sender.", hint="Set both, or leave to_email empty.")
    message = _message(report, recipients, smtp.sender)
    try:
        with smtplib.SMTP(smtp.host, smtp.port, timeout=SMTP_TIMEOUT_S) as session:
            if smtp.starttls:
                session.starttls(context=ssl.create_default_context())
            if smtp.username:
                if not smtp.starttls:
                    raise ConfigError("SMTP credentials are only sent over TLS.", hint="Set smtp.starttls to true.")
                session.login(smtp.username, smtp.password.get_secret_value())
            refused = session.send_message(message)
    except smtplib.SMTPResponseException as error:
        said = f"The mail server {smtp.host} answered {error.smtp_code}."
        raise TransientError(said) if 400 <= error.smtp_code < 500 else PermanentError(said) from error
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        said = f"The mail server {smtp.host} refused all recipients."
        raise TransientError(said) if all(400 <= c < 500 for c in codes) else PermanentError(said) from error
    except ssl.SSLError as error:
        raise PermanentError(f"TLS with the mail server {smtp.host} failed: {error.reason}.") from error
    except (OSError, smtplib.SMTPException) as error:
        raise TransientError(f"The mail server {smtp.host} cannot be reached ({type(error).__name__}).") from error
    if refused:
        log.warning("the mail server refused %d of %d recipients", len(refused), len(recipients))


def _message(report: Report, recipients: Sequence[str], sender: str) -> EmailMessage:
    message = EmailMessage()
    mark = "[simulated] " if report.simulated else ""
    try:
        message["Subject"] = re.sub(r"\s+", " ", f"{mark}{report.title}")
        message["From"] = sender
        message["To"] = ", ".join(recipients)
    except ValueError as error:
        raise ConfigError(f"An e-mail address is not valid: {error}.") from error
    message["Date"] = formatdate(report.created_ms / 1000)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2].strip("<> ") or None)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(report.text)
    html = report.html
    for i, picture in enumerate(report.pictures):
        html = html.replace(data_uri(picture.png), f"cid:picture{i}@aiops")
    message.add_alternative(html, subtype="html")
    body = message.get_payload()[1]  # type: ignore[index]
    for i, picture in enumerate(report.pictures):
        body.add_related(  # type: ignore[union-attr]
            picture.png, "image", "png", cid=f"<picture{i}@aiops>", filename=picture.name, disposition="inline"
        )
    return message


def to_chat(report: Report, channel: str, upload: Upload | None) -> None:
    """Post the summary with the pictures and the HTML as files."""
    if upload is None:
        raise ConfigError("This report goes to Slack, but no Slack connection is set.", hint="Set the bot token.")
    files = [(p.name, p.alt, p.png) for p in report.pictures]
    files.append((f"{report.kind}-report.html", report.title, report.html.encode()))
    upload(channel, report.title, files, _summary(report))


def _summary(report: Report) -> str:
    """The head of the text, up to the first chart."""
    return "\n".join(report.text.splitlines()[:8]).strip()
