"""Questions over HTTP: streamed, remembered, kept under a name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.api.conftest import House


@pytest.fixture
def open_door(open_house: Callable[..., House]) -> House:
    return open_house(auth="none")


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields["event"], json.loads(fields["data"])))
    return found


def streamed(house: House, question: str) -> list[tuple[str, Any]]:
    reply = house.client.post("/api/v1/ask", json={"question": question}, headers={"accept": "text/event-stream"})
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    return events(reply.text)


def test_a_question_is_followed_until_its_answer(open_door: House) -> None:
    (told, line), (last, answer) = streamed(open_door, "up?")
    assert (told, last) == ("progress", "answer")
    assert line == {"text": "looking at disk [31m"}
    plain = open_door.client.post("/api/v1/ask", json={"question": "up?"}).json()
    assert {**answer, "id": ""} == json.loads(json.dumps({**plain, "id": ""}).replace("ans-2", answer["id"]))


def test_a_failure_ends_the_stream_with_a_problem(open_door: House) -> None:
    name, problem = streamed(open_door, "fail")[-1]
    assert name == "problem"
    assert (problem["status"], problem["detail"]) == (400, "The question is empty.")


def test_the_plan_comes_with_the_answer(open_door: House) -> None:
    answer = open_door.client.post("/api/v1/ask", json={"question": "up?"}).json()
    assert answer["plan"] == {"steps": [{"promql": "up"}], "concept": "disk"}


def test_history_is_the_callers_own(open_house: Any) -> None:
    house: House = open_house(auth="keys")
    for who in ("viewer", "responder"):
        body = {"question": f"{who}?", "conversation": "c1"}
        assert house.client.post("/api/v1/ask", json=body, headers=house.headers(who)).status_code == 200
    for who in ("viewer", "responder"):
        found = house.client.get("/api/v1/answers?conversation=c1", headers=house.headers(who)).json()["answers"]
        assert [(a["question"], a["conversation"]) for a in found] == [(f"{who}?", "c1")]
    assert house.client.get("/api/v1/answers?conversation=c2", headers=house.headers("viewer")).json() == {
        "answers": []
    }


def test_a_saved_question_is_its_authors(open_house: Any) -> None:
    house: House = open_house(auth="keys")
    path, body = (
        "/api/v1/saved-questions/morning",
        {"question": "which hosts are low on disk?", "zone": "Europe/Berlin"},
    )
    viewer, responder, admin = map(house.headers, ("viewer", "responder", "admin"))
    saved = house.client.put(path, json=body, headers=viewer)
    assert saved.status_code == 200
    assert (saved.json()["question"], saved.json()["zone"]) == (body["question"], "Europe/Berlin")
    assert house.client.put(path, json={"question": "mine now"}, headers=responder).status_code == 403
    assert house.client.delete(path, headers=responder).status_code == 403
    listed = house.client.get("/api/v1/saved-questions", headers=responder).json()["questions"]
    assert [q["question"] for q in listed] == [body["question"]]
    assert house.client.put(path, json={"question": "better"}, headers=admin).json()["question"] == "better"
    assert house.client.delete(path, headers=admin).status_code == 204
    assert house.client.get(path, headers=viewer).status_code == 404


@pytest.mark.parametrize("name", ["a b", "../x", "", "x" * 81, ".hidden"])
def test_a_name_is_plain(open_door: House, name: str) -> None:
    reply = open_door.client.put(f"/api/v1/saved-questions/{name}", json={"question": "up?"})
    assert reply.status_code in (404, 405, 422)


def test_an_unknown_zone_is_refused(open_door: House) -> None:
    reply = open_door.client.put("/api/v1/saved-questions/x", json={"question": "up?", "zone": "Mars/Olympus"})
    assert reply.status_code == 400
