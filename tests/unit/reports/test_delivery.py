from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr

from aiops.core.errors import ConfigError, InvalidInput, PermanentError, TransientError
from aiops.core.principal import SYSTEM
from aiops.reports import delivery
from aiops.reports.charts import data_uri
from aiops.reports.cost import CostReport, Picture, Report
from aiops.settings import ReportSettings, SmtpSettings
from aiops.store.state.database import StateDatabase
from aiops.store.state.reports import ReportRepository
from tests.unit.reports.test_cost_report import report

PNG = b"\x89PNG picture"


def small(title: str = "Cost report") -> Report:
    page = f'<p>hi</p><img src="{data_uri(PNG)}">'
    return Report("cost", title, page, "hi\n", (Picture("cost.png", "costs", PNG),), 1_764_000_000_000, True)


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail by SMTP; ``refuse`` is the reply to the next RCPT."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mails: list[bytes] = []
        self.refuse = ""


class _Session(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                body = bytearray()
                while (part := self.rfile.readline()) != b".\r\n":
                    body += part
                self.server.mails.append(bytes(body))
                self.wfile.write(b"250 taken\r\n")
            elif verb == b"RCPT" and self.server.refuse:
                self.wfile.write(self.server.refuse.encode() + b"\r\n")
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 fine\r\n")


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def smtp(server: MailServer, **more: object) -> SmtpSettings:
    return SmtpSettings(host="127.0.0.1", port=server.server_address[1], sender="aiops@example.com", **more)  # type: ignore[arg-type]


def test_a_file_is_named_by_its_date_in_the_zone_and_replaced_whole(tmp_path: Path) -> None:
    target = delivery.to_file(small(), tmp_path / "reports", "Pacific/Auckland")
    assert target.name == "cost-2025-11-25.html"
    assert delivery.to_file(small(), tmp_path / "latest.html").read_text() == small().html
    assert [p.name for p in (tmp_path / "reports").iterdir()] == [target.name]
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match="cannot be written"):
        delivery.to_file(small(), tmp_path / "file" / "below")


def test_mail_carries_text_html_and_inline_pictures(mail: MailServer) -> None:
    delivery.to_email(small("Costs\r\nBcc: x@example.com"), ["a@example.com", "b@example.com"], smtp(mail))
    message = email.message_from_bytes(mail.mails[0], policy=email.policy.default)
    assert message["Subject"] == "[simulated] Costs Bcc: x@example.com"
    assert message["Bcc"] is None
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]
    picture = list(message.walk())[-1]
    assert picture["Content-ID"] == "<picture0@aiops>"
    assert picture.get_content() == PNG
    assert 'src="cid:picture0@aiops"' in list(message.walk())[3].get_content()


def test_mail_failures_say_who_must_react(mail: MailServer) -> None:
    mail.refuse = "450 later"
    with pytest.raises(TransientError):
        delivery.to_email(small(), ["a@example.com"], smtp(mail))
    mail.refuse = "550 no such person"
    with pytest.raises(PermanentError, match="refused"):
        delivery.to_email(small(), ["a@example.com"], smtp(mail))
    with pytest.raises(ConfigError):
        delivery.to_email(small(), ["a@example.com"], SmtpSettings())
    with pytest.raises(ConfigError, match="only sent over TLS"):
        delivery.to_email(small(), ["a@example.com"], smtp(mail, username="u", password=SecretStr("p")))
    with pytest.raises(TransientError, match="cannot be reached"):
        delivery.to_email(small(), ["a@example.com"], SmtpSettings(host="127.0.0.1", port=1, sender="a@example.com"))


class Fixed(CostReport):
    """Builds the same report every time."""

    def __init__(self) -> None:
        self.built: list[str] = []

    def build(self, principal, *, start_ms=None, end_ms=None, zone="UTC", title="Cost report"):  # type: ignore[no-untyped-def]
        self.built.append(zone)
        return small()


def progress(share: float | None = None, line: str = "") -> None:
    return


@pytest.fixture
def deliveries(database: StateDatabase) -> ReportRepository:
    return ReportRepository(database)


def test_the_job_delivers_everywhere_and_a_retry_only_where_it_failed(
    tmp_path: Path, mail: MailServer, deliveries: ReportRepository
) -> None:
    posted: list[tuple[str, str, list[str]]] = []

    def upload(channel: str, title: str, files: Sequence[tuple[str, str, bytes]], text: str) -> None:
        posted.append((channel, title, [f[0] for f in files]))

    folder = tmp_path / "reports"
    settings = ReportSettings(zone="Europe/Berlin", to_file=str(folder), to_email=("a@example.com",), to_slack="C1")
    arguments = {**delivery.report_arguments("weekly", settings), "due_ms": "5"}
    built = Fixed()
    mail.refuse = "450 later"
    with pytest.raises(TransientError):
        delivery.report_handler({"cost": built}, smtp(mail), deliveries, upload, SYSTEM)(arguments, progress)
    mail.refuse = ""
    another_process = delivery.report_handler({"cost": built}, smtp(mail), deliveries, upload, SYSTEM)
    another_process(arguments, progress)
    assert built.built == ["Europe/Berlin"] * 2
    assert posted == [("C1", "Cost report", ["cost.png", "cost-report.html"])]
    assert len(mail.mails) == 1
    assert len(list(folder.iterdir())) == 1


def test_the_job_refuses_what_it_cannot_do(mail: MailServer, deliveries: ReportRepository) -> None:
    run = delivery.report_handler({"cost": Fixed()}, smtp(mail), deliveries)
    with pytest.raises(InvalidInput, match="no report of kind"):
        run({"kind": "weather"}, progress)
    with pytest.raises(PermanentError, match="no Slack connection"):
        run({"kind": "cost", "to_slack": "C1"}, progress)


def test_a_real_report_is_mailed_without_data_uris(mail: MailServer) -> None:
    delivery.to_email(report(), ["a@example.com"], smtp(mail))
    message = email.message_from_bytes(mail.mails[0], policy=email.policy.default)
    html = next(p for p in message.walk() if p.get_content_type() == "text/html").get_content()
    assert "data:image/png" not in html
    assert "cid:picture0@aiops" in html
