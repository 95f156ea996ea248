from __future__ import annotations

import pytest
from pydantic import SecretStr

from aiops.core.errors import PermanentError, TransientError
from connectors.http import client, retry_after
from connectors.slack_api import TEXT_CAP, escape, section
from tests.contract.peers import Answer, peer


def test_reads_are_retried_and_posts_are_not() -> None:
    with peer() as server:
        http = client("it", server.url, timeout_s=2)
        server.then(Answer(503), Answer(502))
        assert http.get("/x").status == 200
        assert len(server.received) == 3
        server.then(Answer(503))
        with pytest.raises(TransientError):
            http.post("/x", json={})
        assert len(server.received) == 4
        server.then(Answer(503))
        assert http.post("/x", json={}, idempotent=True).status == 200
        http.close()


def test_client_errors_are_not_retried() -> None:
    with peer(Answer(404, b"no such thing\x00\n")) as server:
        http = client("it", server.url)
        with pytest.raises(PermanentError, match=r"it \(127\.0\.0\.1\) answered 404: no such thing$"):
            http.get("/x", params={"token": "s3cret"})
        assert len(server.received) == 1
        http.close()


def test_too_much_is_cut_off() -> None:
    with peer(Answer(200, b"x" * 5000)) as server:
        http = client("it", server.url, max_response_bytes=1000)
        with pytest.raises(PermanentError, match="more than 1000 bytes"):
            http.get("/x")
        http.close()


def test_a_redirect_on_the_same_host_is_followed_for_reads_only() -> None:
    with peer() as server:
        http = client("it", server.url)
        server.then(Answer(302, headers={"location": "/y"}))
        assert http.get("/x").status == 200
        assert server.received[-1].path == "/y"
        server.then(Answer(302, headers={"location": "http://localhost:1/y"}))
        with pytest.raises(PermanentError, match="redirects"):
            http.get("/x")
        server.usual = Answer(302, headers={"location": "/again"})
        with pytest.raises(PermanentError, match="circles"):
            http.get("/x")
        http.close()


def test_html_instead_of_json() -> None:
    with peer(Answer(200, b"<html>", {"content-type": "text/html; charset=utf-8"})) as server:
        http = client("it", server.url)
        with pytest.raises(PermanentError, match="text/html instead of JSON"):
            http.get("/x").json()
        http.close()


def test_nobody_there_and_nonsense_urls() -> None:
    http = client("it", "http://127.0.0.1:9", attempts=1)
    with pytest.raises(TransientError, match="cannot be reached"):
        http.get("/x")
    for url in ("ftp://x/y", "http://[::1"):
        with pytest.raises(PermanentError, match="not valid"):
            http.get(url)
    http.close()


def test_secret_headers_are_sent_and_hidden() -> None:
    with peer() as server:
        http = client("it", server.url, headers={"authorization": SecretStr("Bearer s3cret")})
        http.get("/x")
        assert server.received[0].headers["authorization"] == "Bearer s3cret"
        assert "s3cret" not in repr(http)
        http.close()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17),
        ("1.5", 1.5),
        ("-3", 0),
        ("", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("nan", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_slack_text_is_escaped_and_cut() -> None:
    assert escape("<!here> & >") == "&lt;!here&gt; &amp; &gt;"
    assert len(section("x" * 9000)["text"]["text"]) == TEXT_CAP
