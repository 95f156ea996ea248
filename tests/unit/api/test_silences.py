from __future__ import annotations

from tests.unit.api.conftest import House

PATH = "/api/v1/silences"
BODY = {"matchers": ["service=web", 'severity=~"info|warning"'], "duration_s": 600, "comment": "deploy"}


def test_set_show_list_end(house: House) -> None:
    keys = house.headers("responder")
    made = house.client.post(PATH, json=BODY, headers=keys)
    assert made.status_code == 201
    silence = made.json()
    assert silence["matchers"] == ['service="web"', 'severity=~"info|warning"']
    assert silence["active"]
    assert silence["ends_ms"] - silence["starts_ms"] == 600_000
    assert silence["author"]
    assert house.client.get(PATH, headers=house.headers("viewer")).json()["silences"] == [silence]
    over = house.client.post(f"{PATH}/{silence['id']}/end", headers=keys)
    assert over.status_code == 200
    assert not over.json()["active"]
    assert house.client.get(PATH, headers=keys).json()["silences"] == []
    assert house.client.get(PATH, params={"past": True}, headers=keys).json()["silences"][0]["id"] == silence["id"]
    assert house.client.post(f"{PATH}/{silence['id']}/end", headers=keys).status_code == 409
    assert house.client.get(f"{PATH}/SIL-9", headers=keys).status_code == 404
    audit = house.client.get("/api/v1/audit", headers=house.headers("admin")).json()["entries"]
    assert {"silence.create", "silence.end"} <= {entry["action"] for entry in audit}


def test_what_makes_no_sense_is_explained(house: House) -> None:
    keys = house.headers("responder")
    for change, word in (
        ({"matchers": ['service=~".*"']}, "every alert"),
        ({"matchers": ["service"]}, "matcher"),
        ({"duration_s": 1e9}, "lasts between"),
        ({"comment": " "}, "comment"),
    ):
        reply = house.client.post(PATH, json={**BODY, **change}, headers=keys)
        assert reply.status_code == 400
        assert word in reply.json()["detail"]
        assert reply.headers["content-type"].startswith("application/problem+json")


def test_a_scoped_caller_cannot_silence_beyond_the_scope(house: House) -> None:
    wide = house.client.post(PATH, json=BODY, headers=house.headers("responder")).json()
    scoped = house.client.post(f"{PATH}/{wide['id']}/end", headers=house.headers("scoped"))
    assert scoped.status_code == 403
