"""The CLI's client: errors of a real loopback server become one line; the service is found by its file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from aiops.cli.client import Api, _Routes, connect, over_http, running_service
from aiops.core.errors import (
    AiopsError,
    Conflict,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PermanentError,
    TransientError,
)
from aiops.settings import Settings
from tests.loopback import Answer, Received, serving

REPLIES: dict[str, tuple[int, str, str]] = {
    "/ok": (200, "application/json", '{"a": 1}'),
    "/empty": (204, "", ""),
    "/html": (200, "text/html", "<html>"),
    "/400": (400, "application/problem+json", '{"title": "Bad Request", "detail": "No. Do so.", "hint": "Do so."}'),
    "/401": (401, "application/problem+json", '{"detail": "The API key is not valid."}'),
    "/403": (403, "application/problem+json", '{"detail": "You may not."}'),
    "/404": (404, "application/problem+json", '{"detail": "There is no incident x."}'),
    "/409": (409, "application/problem+json", '{"detail": "It is resolved."}'),
    "/422": (422, "application/json", '{"status": "error", "errorType": "bad_data", "error": "parse error"}'),
    "/429": (429, "application/problem+json", '{"detail": "Too many."}'),
    "/503": (503, "application/problem+json", '{"detail": "Still starting."}'),
    "/500": (500, "text/plain", "boom"),
    "/list": (418, "application/json", "[1]"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    def answer(request: Received) -> Answer:
        path, _, query = request.path.partition("?")
        status, kind, body = REPLIES.get(path, (200, "application/json", ""))
        if path == "/echo":
            body = json.dumps({"query": query, "auth": request.headers.get("authorization", "")})
        return Answer(status, body.encode(), {"content-type": kind})

    with serving(answer) as url:
        yield url


def test_replies(server: str) -> None:
    with over_http(server) as api:
        assert api.get("/ok") == {"a": 1}
        assert api.get("/empty") == {}
        assert api.get("/echo", a="x", b=None, c="") == {"query": "a=x", "auth": ""}


def test_the_key_goes_in_the_header(server: str) -> None:
    with over_http(server, "aiops_k") as api:
        assert api.get("/echo")["auth"] == "Bearer aiops_k"


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("/400", InvalidInput, "No. Do so."),
        ("/401", Forbidden, "The API key is not valid. Give a key with --api-key or AIOPS_API_KEY."),
        ("/403", Forbidden, "You may not."),
        ("/404", NotFound, "There is no incident x."),
        ("/409", Conflict, "It is resolved."),
        ("/422", InvalidInput, "parse error"),
        ("/429", LimitExceeded, "Too many."),
        ("/503", TransientError, "Still starting."),
        ("/500", TransientError, "HTTP 500"),
        ("/list", PermanentError, "HTTP 418"),
    ],
)
def test_errors_keep_their_kind_and_text(server: str, path: str, kind: type[AiopsError], text: str) -> None:
    with over_http(server) as api, pytest.raises(kind) as caught:
        api.get(path)
    assert str(caught.value) == text


def test_an_answer_that_is_no_json(server: str) -> None:
    with over_http(server) as api, pytest.raises(PermanentError, match="did not answer in JSON"):
        api.get("/html")


def test_a_server_that_hangs() -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        api = over_http(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with api, pytest.raises(TransientError, match="did not answer in time"):
            api.get("/ok")


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999"])
def test_a_bad_address_is_an_error_of_ours(url: str) -> None:
    with pytest.raises(AiopsError), over_http(url) as api:
        api.get("/ok")


def test_the_service_file(tmp_path: Path) -> None:
    file = tmp_path / "service.json"
    assert running_service(tmp_path) == ""
    file.write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}))
    assert running_service(tmp_path) == "http://127.0.0.1:1"
    file.write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 2**22 + 1}))
    assert running_service(tmp_path) == ""
    for bad in ("", "[]", "{}", '{"url": "x", "pid": "y"}'):
        file.write_text(bad)
        assert running_service(tmp_path) == ""


def test_the_set_address_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "service.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}))
    assert connect(Settings(data_dir=tmp_path)).where == "http://127.0.0.1:1"
    assert connect(Settings(data_dir=tmp_path, url="http://127.0.0.1:2")).where == "http://127.0.0.1:2"
    with pytest.raises(TransientError, match="No service runs"):
        connect(Settings(data_dir=tmp_path / "other"), reading=False)


def test_routes_are_served_in_process(tmp_path: Path) -> None:
    app = FastAPI()

    @app.get("/thing")
    def thing(n: int) -> dict[str, int]:
        return {"n": n}

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, int | str]:
        return {"size": len(await request.body()), "name": request.query_params["name"]}

    closed = []
    client = httpx.Client(transport=_Routes(app), base_url="http://127.0.0.1")
    file = tmp_path / "focus.csv"
    file.write_text("a,b\n")
    with Api(client, "here", lambda: closed.append(True)) as api:
        assert api.get("/thing", n=3) == {"n": 3}
        assert api.upload("/upload", file) == {"size": 4, "name": "focus.csv"}
        with pytest.raises(InvalidInput):
            api.get("/thing", n="x")
        with pytest.raises(NotFound):
            api.get("/nothing")
    assert closed == [True]
