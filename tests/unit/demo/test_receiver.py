"""The demo's receiver takes signed events only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from aiops.demo.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    server.start()
    yield server
    server.stop()


def post(receiver: Receiver, secret: str, body: str, id: str = "n1") -> int:
    at = datetime.now(UTC)
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(id, at, body),
        "content-type": "application/cloudevents+json",
    }
    return httpx.post(receiver.url, content=body.encode(), headers=headers, trust_env=False).status_code


EVENT = json.dumps({"id": "n1", "type": "aiops.incident.opened", "subject": "inc-1", "data": {"service": "payment"}})


def test_a_signed_event_is_kept_once(receiver: Receiver) -> None:
    assert post(receiver, receiver.secret, EVENT) == 204
    assert post(receiver, receiver.secret, EVENT) == 204
    assert len(receiver.all()) == 1
    found = receiver.wait_for("inc-1", 1.0)
    assert found is not None
    assert found.data == {"service": "payment"}
    assert receiver.wait_for("inc-2", 0.01) is None


def test_a_wrong_signature_is_refused(receiver: Receiver) -> None:
    assert post(receiver, "whsec_" + "QUJD" * 8, EVENT) == 401
    assert httpx.post(receiver.url, content=EVENT.encode(), trust_env=False).status_code == 401
    assert receiver.all() == []
    assert receiver.refused == 2


@pytest.mark.parametrize(
    "body", ["[]", '"text"', "{}", "not json", '{"id": "x", "type": "t", "subject": "s", "data": 5}']
)
def test_a_signed_body_that_is_no_event_is_a_bad_request(receiver: Receiver, body: str) -> None:
    assert post(receiver, receiver.secret, body) == 400
    assert receiver.all() == []
